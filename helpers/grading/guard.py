"""What submitted code may not do while it is graded: write outside its folder, start programs, read references.

This is a guard against the ways that the tests name, and no sandbox: code that knows the interpreter well gets past it.
For submissions that may do harm use a container.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

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
_WAIT = getattr(os, "waitid", None)
_STARTS |= {"os.forkpty", "os.killpg", "ctypes.dlopen", "ctypes.dlsym"}
# What opens files or starts processes in C, where no event tells of it: the owner, and the names in it.
_TORCH = {
    "": ("from_file",),
    "UntypedStorage": ("from_file", "_share_filename_cpu_", "_new_using_filename_cpu", "_new_shared_filename_cpu"),
    "TypedStorage": ("from_file",),
    "_C": (
        "PyTorchFileReader", "PyTorchFileWriter", "import_ir_module", "_load_for_lite_interpreter",
        "_load_jit_module_from_file", "_load_mobile_module_from_file", "_save_jit_module", "_save_mobile_module",
        "_save_parameters",
    ),
    "_C.ScriptModule": ("save", "_save_for_mobile"),
    "_C.ScriptFunction": ("save",),
}  # fmt: skip


def protect(unread: Iterable[Path] = (), forker: Callable[..., Any] | None = None) -> None:
    """Forbid, from now on and for the whole process, what submitted code has no need of; it cannot be undone.

    Files are written under the working folder and `COURSE_DATA` alone. Nothing under the paths in `unread` can be opened.
    No process is started, except by the function `forker` in this very process. A refused call raises PermissionError.
    """
    _make_temporary_folder()
    _close_processes()
    _close_torch()
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # rmtree opens folders, which is refused below
    own = [Path.cwd(), Path("/dev")]
    if named := os.environ.get("COURSE_DATA"):
        own.append(Path(named))
    writable = tuple(_resolved(path) for path in own)
    hidden = tuple(_resolved(path) for path in unread)
    # What is looked up only when it is needed could have been replaced by then.
    resolved, within, writes, folder = _resolved, _within, _writes, os.path.isdir
    forks, own_child = _forks_here(forker), _own_child

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        """Raise PermissionError for what is forbidden; Python calls this before it does anything."""
        if event in _STARTS or (event == "import" and arguments[0] == "_posixsubprocess"):
            raise PermissionError(f"a graded submission starts no program ({event})")
        if event == "os.fork" and not forks(sys._getframe(1)):
            raise PermissionError("a graded submission starts no process")
        if event == "os.kill" and not own_child(arguments[0]):
            raise PermissionError("a graded submission ends no other process")
        if event != "open" and event not in _CHANGES:
            return
        named = arguments[:1] if event == "open" else arguments[:2]
        for path in (resolved(path) for path in named if isinstance(path, str | bytes | os.PathLike)):
            if within(path, hidden):
                raise PermissionError("a graded submission reads no references")
            # `os.open` alone, which has no mode, gives a folder; names relative to that folder could lead anywhere.
            if event == "open" and arguments[1] is None and folder(path):
                raise PermissionError("a graded submission opens no folder")
            if (event != "open" or writes(*arguments[1:3])) and not within(path, writable):
                raise PermissionError(
                    f"a graded submission changes files in its own folder alone, not {path}"
                )

    sys.addaudithook(hook)


def protect_kernel() -> None:
    """Forbid in nbgrader's kernel what `protect` forbids; there the checks alone may start a process."""
    from helpers.checks.machinery import process

    protect(forker=process.isolated)


def _make_temporary_folder() -> None:
    """Make a temporary folder in the working folder, and name it to Python; it is deleted at the end."""
    folder = tempfile.mkdtemp(prefix="graded-", dir=Path.cwd())
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _refused(*_: Any, **__: Any) -> NoReturn:
    """Raise PermissionError, in place of what Python does not tell of."""
    raise PermissionError("a graded submission does not use this function")


def _close_processes() -> None:
    """Replace the functions that start or end a process without an event."""
    with contextlib.suppress(ImportError):  # Windows has none
        import _posixsubprocess
        import subprocess

        _posixsubprocess.fork_exec = subprocess._fork_exec = _refused  # type: ignore[attr-defined]
    for name in ("signal", "_signal"):
        if hasattr(__import__(name), "pidfd_send_signal"):
            setattr(__import__(name), "pidfd_send_signal", _refused)  # noqa: B010  (not on every platform)


def _close_torch() -> None:
    """Replace torch's functions that open files themselves, where their names are known."""
    import torch

    for path, names in _TORCH.items():
        owner: Any = torch
        for part in path.split(".") if path else ():
            owner = getattr(owner, part)
        for name in names:
            if hasattr(owner, name):
                setattr(owner, name, _refused)
    # The operator itself has other names, such as torch.ops.aten.from_file.
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that the operator had another implementation
        library.impl("from_file", _refused, "BackendSelect")  # type: ignore[no-untyped-call]
    _KEPT.append(library)


_KEPT: list[Any] = []
"""What must not be freed: a torch library takes its functions along."""


def _forks_here(forker: Callable[..., Any] | None) -> Callable[[Any], bool]:
    """Return what says whether a frame is one of `forker`, in the process that is protected now."""
    code, process, current = getattr(forker, "__code__", None), os.getpid(), os.getpid
    return lambda frame: code is not None and frame.f_code is code and current() == process


def _own_child(process: int, current: Any = os.getpid, wait: Any = _WAIT) -> bool:
    """Return whether a process is this one or a child of it."""
    if process == current():
        return True
    if process <= 1 or wait is None:
        return False
    try:
        wait(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return False
    return True


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
