"""Serve the course's model with several engines: `python -m helpers.replicas --help` says how."""

import sys

from helpers.replicas.server import main

if __name__ == "__main__":
    sys.exit(main())
