"""A class on one machine: a JupyterHub, a folder for each learner, and what both cost."""
