"""Calling what a learner wrote: on copies, under a time limit, with every way of going wrong turned into words."""

from __future__ import annotations

import contextvars
import ctypes
import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor

from helpers.checks.machinery.failure import CheckFailed, describe, listed
from helpers.checks.machinery.process import watch
from helpers.checks.machinery.values import copied, unchanged

SECONDS = 5.0
_HINTS: dict[type[BaseException], str] = {
    MemoryError: "That is far too much memory.",
    RecursionError: "Does it call itself once for each item, or without end? Python allows about 1,000 calls within one another.",
}


class _Stop(BaseException):
    """Raised inside the learner's code when its time is up; not an Exception, so that a broad except lets it pass."""


def attempt(function: Callable[..., Any], **arguments: Any) -> Any:
    """Return what `function` returns for copies of the arguments.

    Raise CheckFailed when `function` raises, does not end, or changes its input.
    """
    return attempt_spending((), function, **arguments)


def attempt_spending(spent: tuple[str, ...], function: Callable[..., Any], **arguments: Any) -> Any:
    """Return what `attempt` returns; the arguments named in `spent` may be changed."""
    given = copied(arguments)
    result, error = _run(function, given, SECONDS)
    if isinstance(error, NotImplementedError):
        raise CheckFailed(f"not done yet: {error or 'replace the stub by your code'}", error=error)
    if isinstance(error, _Stop):
        raise CheckFailed(
            f"it did not end within {SECONDS:g} seconds", arguments, hint="Is there a loop that never ends?"
        )
    if isinstance(error, CheckFailed):
        raise error
    if error is not None:
        hint = next((words for kind, words in _HINTS.items() if isinstance(error, kind)), "")
        raise CheckFailed(f"it raised {type(error).__name__}: {error}", arguments, hint=hint, error=error)
    changed = [
        name for name in arguments if name not in spent and not unchanged(given[name], arguments[name])
    ]
    if changed:
        raise CheckFailed(
            "it changed its input",
            {name: arguments[name] for name in changed},
            got=", ".join(_change(name, arguments[name], given[name]) for name in changed),
            hint="Should a calculation alter what it is given?",
        )
    if _is_argument(result, given):
        raise CheckFailed(
            "it returned one of its arguments, not something new", arguments,
            hint="Who changes the result later changes the caller's own list, too. Is a copy returned?",
        )  # fmt: skip
    return result


def _is_argument(result: Any, given: dict[str, Any]) -> bool:
    """Return whether the result is one of the lists that were given, so that later changes reach the caller."""
    return isinstance(result, list | dict) and any(result is value for value in given.values())


def _change(name: str, before: Any, after: Any) -> str:
    """Return what an argument has become; of a list or a dictionary the first entry that changed."""
    if isinstance(before, dict) and isinstance(after, dict):
        gone = [key for key in before if key not in after]
        if gone:
            return f"{name} without {gone[0]!r}"
        key = next(
            (key for key in after if key not in before or not unchanged(after[key], before[key])), None
        )
        return f"{name}[{key!r}]={describe(after[key])}" if key is not None else f"{name} in another order"
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        i = next(i for i in range(len(after)) if not unchanged(after[i], before[i]))
        return f"{name}[{i}]={describe(after[i])}"
    if isinstance(before, Tensor) and isinstance(after, Tensor) and before.shape == after.shape:
        at = tuple((before != after).nonzero()[0].tolist())
        return f"{name}{list(at)}={after[at].item():.6g} in place of {before[at].item():.6g}"
    return f"{name}={describe(after)}"


def _run(
    function: Callable[..., Any], arguments: dict[str, Any], seconds: float
) -> tuple[Any, BaseException | None]:
    """Return `(result, error)` of the call; in a process that is watched directly, elsewhere in a thread."""
    shared = watch()
    if shared is None:
        return _run_in_thread(function, arguments, seconds)
    shared.begin(listed(arguments))
    try:
        return function(**arguments), None
    except BaseException as error:  # whatever it is, SystemExit too: the check must say so
        return None, error
    finally:
        shared.end()


def _run_in_thread(
    function: Callable[..., Any], arguments: dict[str, Any], seconds: float
) -> tuple[Any, BaseException | None]:
    """Return `(result, error)` of the call; a call that takes longer is told to stop, and left when it does not listen."""
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
