"""Shared fixtures. Importing `helpers` first keeps torch from loading a backend that is not asked for."""

import helpers  # noqa: F401  (sets the environment that torch reads at import)
