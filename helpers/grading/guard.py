"""What submitted code may not do while it is graded: write outside its folder, start programs, read references."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
}
_CHANGES |= {"sqlite3.connect", "shutil.rmtree", "shutil.move", "shutil.copyfile", "os.utime"}
_STARTS = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "pty.spawn",
}
_STARTS |= {"ctypes.dlopen", "ctypes.dlsym", "os.putenv.PATH"}


def protect(unread: Iterable[Path] = ()) -> None:
    """Forbid, from now on and for the whole process, what submitted code has no need of; it cannot be undone.

    Files are written under the working folder, `COURSE_DATA` and a temporary folder alone. Nothing under the
    paths in `unread` can be opened. A refused call raises PermissionError.
    """
    tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="graded-")
    own = [Path.cwd(), Path(tempfile.tempdir), Path("/dev")]
    if named := os.environ.get("COURSE_DATA"):
        own.append(Path(named))
    writable = tuple(_resolved(path) for path in own)
    hidden = tuple(_resolved(path) for path in unread)
    # What is looked up only when it is needed could have been replaced by then.
    parent, resolved, within, writes = os.getppid(), _resolved, _within, _writes

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        """Raise PermissionError for what is forbidden; Python calls this before it does anything."""
        if event in _STARTS:
            raise PermissionError(f"a graded submission starts no program ({event})")
        if event == "os.kill" and arguments[0] in (parent, 0, -1, 1):
            raise PermissionError("a graded submission ends no other process")
        if event != "open" and event not in _CHANGES:
            return
        named = arguments[:1] if event == "open" else arguments[:2]
        for path in (resolved(path) for path in named if isinstance(path, str | bytes | os.PathLike)):
            if within(path, hidden):
                raise PermissionError("a graded submission reads no references")
            if (event != "open" or writes(*arguments[1:3])) and not within(path, writable):
                raise PermissionError(
                    f"a graded submission changes files in its own folder alone, not {path}"
                )

    sys.addaudithook(hook)


def _writes(mode: Any, flags: Any) -> bool:
    """Return whether a file is opened so that it can be changed."""
    return bool((flags or 0) & _WRITING) or (isinstance(mode, str) and bool(set(mode) & set("wax+")))


def _resolved(path: Any) -> str:
    """Return the absolute path that a name leads to, links followed."""
    text = os.fsdecode(path)
    return "/dev/null" if text == ":memory:" else os.path.realpath(text)  # a database in memory is no file


def _within(path: str, folders: tuple[str, ...]) -> bool:
    """Return whether a path is one of the folders, or in one of them."""
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)
