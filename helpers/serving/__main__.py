"""Serve the course's model: `python -m helpers.serving --help` says how."""

import sys

from helpers.serving.server import main

if __name__ == "__main__":
    sys.exit(main())
