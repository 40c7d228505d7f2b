"""An answer must be the learner's own: one that calls the check's code to find the right result is refused."""

from __future__ import annotations

import functools
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from helpers.checks.machinery.failure import CheckFailed

_CHECKS = "helpers.checks"
_FOLDER = str(Path(__file__).resolve().parents[1])
_DEEPEST = 6
_PUBLIC = {"CheckFailed", "PretendEngine", "attempt", "progress", "reset_progress"}
"""What the face of `helpers.checks` gives to learners: it solves nothing."""
_PRYING = frozenset({
    "_getframe", "_current_frames", "currentframe", "getouterframes", "f_back", "f_locals", "tb_frame",
    "get_objects", "get_referrers",
})  # fmt: skip
"""Names by which code reads what its callers know."""


def require_own(answer: Any) -> None:
    """Raise CheckFailed when the answer is, or uses, code of the checks themselves."""
    seen: set[int] = set()
    for thing in _reached(answer, seen, 0):
        if _is_the_checks(thing):
            name = getattr(thing, "__name__", type(thing).__name__)
            raise CheckFailed(
                f"the answer uses the check's own code, {name}",
                hint="A check compares with an answer of your own. Can you write it yourself?",
            )
    require_closed(answer, _PRYING, "the answer reads what its callers know")


def require_closed(answer: Any, names: Collection[str], broken: str) -> None:
    """Raise CheckFailed, which says `broken`, when code of the answer names an attribute that is not for it."""
    for thing in _reached(answer if isinstance(answer, type) or callable(answer) else type(answer), set(), 0):
        if not isinstance(thing, types.FunctionType) or _is_library(thing) or _is_the_checks(thing):
            continue
        for name in sorted({*_attributes(thing.__code__)} & {*names} - {*thing.__globals__}):
            raise CheckFailed(
                f"{broken}, with {name}",
                hint="What is needed is in the arguments, and in the methods that the text names.",
            )


def _reached(thing: Any, seen: set[int], depth: int) -> Iterator[Any]:
    """Yield what an answer is made of: functions, classes and modules that its code names, closes over or wraps."""
    if id(thing) in seen or depth > _DEEPEST:
        return
    seen.add(id(thing))
    yield thing
    if isinstance(thing, types.ModuleType) or _is_library(thing):
        return
    for part in _parts(thing):
        yield from _reached(part, seen, depth + 1)


def _parts(thing: Any) -> Iterator[Any]:
    """Yield what one function, class or wrapper holds and names."""
    if isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, types.MethodType):
        yield from (thing.__func__, thing.__self__)
    elif isinstance(thing, types.FunctionType):
        yield from (cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell))
        yield from (*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values())
        yield from _named(thing.__code__, thing.__globals__)
        yield from [thing.__wrapped__] if hasattr(thing, "__wrapped__") else []
    elif isinstance(thing, type):
        yield from thing.__bases__
        yield from (getattr(value, "__func__", value) for value in vars(thing).values())
    elif isinstance(thing, list | tuple):
        yield from thing[:50]
    elif callable(thing):
        yield from (type(thing), *getattr(thing, "__dict__", {}).values())


def _named(code: types.CodeType, names: dict[str, Any]) -> Iterator[Any]:
    """Yield what a piece of code names: its globals, and modules of the checks that it imports."""
    for name in code.co_names:
        if name in names:
            yield names[name]
        elif name.startswith(_CHECKS):
            yield _Imported(name)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _named(constant, names)
        elif isinstance(constant, str) and constant.startswith(f"{_CHECKS}."):
            yield _Imported(constant)


def _attributes(code: types.CodeType) -> Iterator[str]:
    """Yield the names in a piece of code and in the functions within."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _attributes(constant)


class _Imported:
    """A module of the checks that is imported inside a function."""

    def __init__(self, name: str):
        self.__name__ = name


def _is_filled(cell: Any) -> bool:
    """Return whether a closure's cell holds something yet."""
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _is_library(thing: Any) -> bool:
    """Return whether that is code of some other library, which is not looked into."""
    module = str(getattr(thing, "__module__", None) or "")
    if module.startswith("helpers."):
        return not module.startswith(_CHECKS)
    return module.split(".")[0] in {"torch", "numpy", "builtins", "typing", "collections", "random", "math"}


def _is_the_checks(thing: Any) -> bool:
    """Return whether a thing is a module of the checks, or code from one of their files."""
    if isinstance(thing, _Imported):
        return True
    if isinstance(thing, types.ModuleType):
        return thing.__name__.startswith(_CHECKS)
    if getattr(thing, "__name__", "") in _PUBLIC:
        return False
    if isinstance(thing, types.FunctionType):
        return thing.__code__.co_filename.startswith(_FOLDER)
    return isinstance(thing, type) and str(thing.__module__).startswith(f"{_CHECKS}.")
