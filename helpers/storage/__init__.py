"""Files in the user's cache folder, what is compiled once, and the default model out of its package. Chapter 0."""

from helpers.storage import smollm2
from helpers.storage.compiled import compile_into, compiler, kept
from helpers.storage.files import (
    CacheError,
    cache_folder,
    matches,
    record,
    remove_leftovers,
    replacing,
    require_space,
    sha256,
    writing_to,
)

__all__ = [
    "CacheError",
    "cache_folder",
    "compile_into",
    "compiler",
    "kept",
    "matches",
    "record",
    "remove_leftovers",
    "replacing",
    "require_space",
    "sha256",
    "smollm2",
    "writing_to",
]
