"""Calling what a learner wrote: on copies, under a time limit, with every way of going wrong turned into words."""

from __future__ import annotations

import contextvars
import copy
import ctypes
import threading
from collections.abc import Callable
from typing import Any

from helpers.checks.machinery.core import CheckFailed, describe

SECONDS = 5.0


class _Stop(BaseException):
    """Raised inside the learner's code when its time is up; not an Exception, so that a broad except lets it pass."""


def attempt(function: Callable[..., Any], **arguments: Any) -> Any:
    """What `function` returns for copies of the arguments; CheckFailed when it raises, does not end, or changes its input."""
    given = copy.deepcopy(arguments)
    result, error = _run(function, given, SECONDS)
    if isinstance(error, NotImplementedError):
        raise CheckFailed(f"not done yet: {error or 'replace the stub by your code'}")
    if isinstance(error, _Stop):
        raise CheckFailed(
            f"it did not end within {SECONDS:g} seconds", arguments, hint="Is there a loop that never ends?"
        )
    if error is not None:
        raise CheckFailed(f"it raised {type(error).__name__}: {error}", arguments)
    changed = [name for name in arguments if repr(given[name]) != repr(arguments[name])]
    if changed:
        raise CheckFailed(
            "it changed its input",
            {name: arguments[name] for name in changed},
            got=", ".join(f"{name}={describe(given[name])}" for name in changed),
            hint="Should a calculation alter what it is given?",
        )
    return result


def _run(
    function: Callable[..., Any], arguments: dict[str, Any], seconds: float
) -> tuple[Any, BaseException | None]:
    """`(result, error)` of the call; a call that takes longer is told to stop, and left behind when it does not listen."""
    outcome: list[tuple[Any, BaseException | None]] = []

    def call() -> None:
        try:
            outcome.append((function(**arguments), None))
        except BaseException as error:  # whatever it is, SystemExit too: the kernel must live on
            outcome.append((None, error))

    context = contextvars.copy_context()  # so that prints reach the learner's cell
    worker = threading.Thread(target=context.run, args=(call,), daemon=True)
    worker.start()
    worker.join(seconds)
    if worker.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident or 0), ctypes.py_object(_Stop))
        worker.join(1.0)
        return None, _Stop()
    return outcome[0]
