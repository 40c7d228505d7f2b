"""What production engines call things: options and environment variables as dated facts, each with its source.

All chapters: their tables "In production" are printed from here, and tests hold that no chapter names an option
that is not here.
"""

from helpers.production.option import Kind, Option
from helpers.production.source import Source
from helpers.production.table import OPTIONS, against, collect, option, options_table, reference

__all__ = [
    "OPTIONS",
    "Kind",
    "Option",
    "Source",
    "against",
    "collect",
    "option",
    "options_table",
    "reference",
]
