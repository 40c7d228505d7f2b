"""What chapter 11 runs on its ranks: a spawned process imports functions by name, and a notebook has no module."""
