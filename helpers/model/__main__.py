"""Fetch the default model: `python -m helpers.model`."""

from helpers.model.checkpoint import main

raise SystemExit(main())
