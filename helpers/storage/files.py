"""Files in the user's cache folder: where they are, whether they are whole, and how they are replaced."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

_MANIFEST = "manifest.json"


class CacheError(RuntimeError):
    """The cache folder, or a file that belongs there, is not available; the message says why."""


def cache_folder() -> Path:
    """Return the course's folder for downloads and conversions: `COURSE_CACHE`, or the platform's cache
    folder for a user.
    """
    named = os.environ.get("COURSE_CACHE", "").strip()
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("ascend-inference-course"))


def sha256(path: Path) -> str:
    """Return the file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends well, and is deleted when the block
    fails.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write to `folder` into a CacheError that says what to do."""
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"cannot write to {folder} ({error.strerror or error}); free some space there, or set COURSE_CACHE to another folder"
        ) from error


def require_space(folder: Path, nbytes: int) -> None:
    """Raise OSError when the folder's disk has less than `nbytes` free."""
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.1f} GB free, {nbytes / 1e9:.1f} GB needed")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files and folders that a killed process left in `folder`.

    The caller holds the folder's lock.
    """
    for path in [*folder.glob(".*.part"), *folder.glob(".download-*"), *folder.glob(".convert-*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def record(folder: Path, files: Iterable[Path]) -> None:
    """Record sha256, size and time of `files` of a folder, for `matches`."""
    entries = {path.name: {"sha256": sha256(path), **_stamp(path)} for path in files}
    with replacing(folder / _MANIFEST) as temporary:
        temporary.write_text(json.dumps(entries, indent=1))


def matches(folder: Path, required: str) -> bool:
    """Return whether every recorded file, `required` included, still has the recorded content.

    A file whose size and modification time are as recorded is taken as unchanged; any other is hashed.
    """
    try:
        entries = json.loads((folder / _MANIFEST).read_text())
        return required in entries and all(
            _unchanged(folder / name, entry) for name, entry in entries.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _unchanged(path: Path, entry: dict[str, object]) -> bool:
    """Return whether one file is the recorded one."""
    stamp = _stamp(path)
    if stamp["size"] != entry["size"]:
        return False
    return stamp["mtime_ns"] == entry["mtime_ns"] or sha256(path) == entry["sha256"]


def _stamp(path: Path) -> dict[str, int]:
    """Return a file's size in bytes and modification time in ns."""
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
