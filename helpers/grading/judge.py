"""The judge of a submission: has its cells run elsewhere, and does its check cells here, with untouched checks."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import io
import math
import pickle
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from helpers.checks.machinery import family, process
from helpers.checks.machinery.failure import CheckFailed
from helpers.checks.machinery.pretend import PretendEngine
from helpers.engine.policy import Policy
from helpers.engine.request import RequestState
from helpers.grading import wire
from helpers.grading.submission import CHECKS, Cell
from helpers.model.shapes import PUBLISHED

CALL_SECONDS, CELL_SECONDS, CHECK_SECONDS = 20.0, 60.0, 180.0  # wall clock, on a machine that may be busy
_ROOT = Path(__file__).resolve().parents[2]
HIDDEN = [str(_ROOT / "helpers" / "checks"), str(_ROOT / "solutions"), str(_ROOT / "tests")]
"""What submitted code cannot read."""
_OWN = {
    "PUBLISHED": PUBLISHED,
    "PretendEngine": PretendEngine,
    "torch": torch,
    "math": math,
    "random": random,
}
"""What check cells name besides their lab's checks."""


class Examinee:
    """The process of the submitted code, started anew when it has ended or does not answer."""

    def __init__(self) -> None:
        """Start it."""
        self._ran: list[str] = []
        self._given: list[Any] = []
        self._until, self._asked = float("inf"), 0
        self._folder = tempfile.TemporaryDirectory(prefix="submission-", ignore_cleanup_errors=True)
        self._start()

    def run(self, source: str) -> None:
        """Run a cell; one that does not end, or ends the process, is as if it had never been."""
        try:
            self.ask(("run", source), CELL_SECONDS)
            self._ran.append(source)
        except Exception:  # whatever a forged message can do
            self._again()

    def names(self, wanted: list[str]) -> list[str]:
        """Return which names the cells have defined."""
        return [name for name in self.ask(("names", wanted)) if name in wanted]

    @contextlib.contextmanager
    def limited(self) -> Iterator[None]:
        """Bound the seconds of one check; a process that was ended by it is started anew."""
        self._until = time.monotonic() + CHECK_SECONDS
        try:
            yield
        finally:
            self._until = float("inf")
            if self._process.poll() is not None:
                self._again()

    def ask(self, request: tuple[Any, ...], limit: float = CALL_SECONDS) -> Any:
        """Return the answer to a request. Raises what the code raised, and CheckFailed when there is no answer."""
        end = min(time.monotonic() + limit, self._until)
        self._asked += 1
        number = self._asked
        try:
            self._send((number, *request))
            while True:
                kind, to, *rest = wire.read_plain(self._line.receive(max(0.0, end - time.monotonic())))
                if kind == "ask":
                    self._serve(to, *rest)
                    continue
                if to != number:  # a forged answer, after which no other would be where it belongs
                    raise wire.Gone("an answer to another question")
                if kind == "value":
                    return wire.whole(rest[0], self._kept)
                break
        except wire.Slow:
            self.end()
            raise CheckFailed(f"it did not end within {limit:g} seconds") from None
        except CheckFailed:  # of an object of the checks
            raise
        except Exception:  # whatever a forged message can do
            self.end()
            raise CheckFailed("it ended the process in which it runs") from None
        raise _error(*rest)

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def close(self) -> None:
        """End the process, and forget its folder."""
        self.end()
        self._folder.cleanup()

    def _start(self) -> None:
        """Start the process."""
        self._socket, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", f"{__package__}.learner", str(theirs.fileno()), *HIDDEN]
            self._process = subprocess.Popen(
                command, cwd=self._folder.name, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self._line = wire.Line(self._socket)
        self._given.clear()

    def _again(self) -> None:
        """Start the process anew, and run all cells that have run before."""
        self.end()
        self._start()
        for source in self._ran:
            with contextlib.suppress(Exception):  # as in `run`
                self.ask(("run", source), CELL_SECONDS)

    def _send(self, message: tuple[Any, ...]) -> None:
        """Send a message in which objects of the checks stand as numbers."""
        content = io.BytesIO()
        _Writer(content, self._given).dump(message)
        self._line.send(content.getvalue())

    def _serve(self, number: int, method: str, arguments: list[Any], named: dict[str, Any]) -> None:
        """Call an object that was given to the code, by one of its public methods, and tell the result."""
        target = self._given[number]
        if method:
            if method.startswith("_") or not callable(getattr(type(target), method, None)):
                return self._send((0, "refused", f"there is no {method} to call"))
            target = getattr(target, method)
        values = [wire.whole(value, self._kept) for value in arguments]
        pairs = {name: wire.whole(value, self._kept) for name, value in named.items()}
        try:
            self._send((0, "given", target(*values, **pairs)))
        except (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError, AttributeError) as error:
            self._send((0, "refused", str(error)))
        return None

    def _kept(self, tag: str, number: int, called: bool, makes: bool, policy: bool) -> Any:
        """Return what stands for an object of the code. Raises ValueError for a forgery."""
        if tag != "object" or type(number) is not int:
            raise ValueError("no object")
        if makes:
            return lambda: Ranked(self, self.ask(("call", number, (), {})))
        return (Function if called else Remote)(self, number)


class Remote:
    """An object of the submitted code, which lives in the other process."""

    def __init__(self, examinee: Examinee, number: int):
        """Keep its number."""
        self._examinee, self._number = examinee, number

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._examinee.ask(("attribute", self._number, name))
        except RuntimeError as error:
            raise AttributeError(name) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._examinee.ask(("same", self._number, other._number)) is True

    def __hash__(self) -> int:
        return hash(self._examinee.ask(("hash", self._number)))


class Function(Remote):
    """One that can be called."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Return what the code's own returns."""
        return self._examinee.ask(("call", self._number, arguments, named))


class Ranked(Policy):
    """A policy whose order is the submitted one's: it is asked for ranks and keys, and keeps no queue."""

    def __init__(self, examinee: Examinee, other: Any):
        """Keep the other process's policy."""
        super().__init__()
        self._other = other

    def rank(self, state: RequestState) -> float:
        """Return what the submitted policy returns."""
        return self._other.rank(state)  # type: ignore[no-any-return]

    def key(self, state: RequestState) -> tuple[Any, ...]:
        """Return what the submitted policy sorts by."""
        return self._other.key(state)  # type: ignore[no-any-return]


class _Writer(pickle.Pickler):
    """Writes values; functions, and objects of the checks, stay here and travel as numbers."""

    def __init__(self, file: io.BytesIO, given: list[Any]):
        super().__init__(file)
        self._given = given

    def reducer_override(self, value: Any) -> Any:
        """Return how a tensor is rebuilt from its bytes; torch's own way needs more than the guard allows."""
        return (
            (wire.whole, (wire.tensor_parts(value), None))
            if isinstance(value, torch.Tensor)
            else NotImplemented
        )

    def persistent_id(self, value: Any) -> int | None:
        code = isinstance(value, types.FunctionType | types.MethodType)
        if not str((value if code else type(value)).__module__).startswith(CHECKS):
            return None
        self._given.append(value)
        return len(self._given) - 1


def judge(cells: list[Cell]) -> dict[str, str]:
    """Return what is wrong with each check cell, by its id; an empty text where all is well."""
    process._watches.append(process.Watch())  # checks run right here, and time is kept by `Examinee`
    family.SETTINGS.explain = False
    found, examinee = dict[str, str](), Examinee()
    try:
        for cell in cells:
            if cell.is_check:
                with examinee.limited():
                    found[cell.name] = _checked(cell.source, examinee)
            else:
                examinee.run(cell.source)
    finally:
        examinee.close()
    return found


def _checked(source: str, examinee: Examinee) -> str:
    """Return what is wrong in one check cell."""
    try:
        code = compile(source, "<check>", "exec")
        known = _namespace(code, examinee)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, known)
    except CheckFailed as failure:
        return str(failure)
    except Exception as error:  # a check cell may raise anything, and each means that it does not hold
        return f"{type(error).__name__}: {error}"
    return ""


def _namespace(code: types.CodeType, examinee: Examinee) -> dict[str, Any]:
    """Return what a check cell's names mean: the course's own where it has them, the submission's otherwise."""
    wanted = sorted({*_names(code)} - {*dir(builtins)})
    known = {name: value for name in wanted if (value := _own(name)) is not None}
    for name in examinee.names([name for name in wanted if name not in known]):
        known[name] = examinee.ask(("get", name))
    return known


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the names that code and the functions in it look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _own(name: str) -> Any:
    """Return what a name means in the course itself; None where it means nothing."""
    if re.fullmatch(r"lab\d\d", name):
        return importlib.import_module(f"{CHECKS}.{name}")
    return _OWN.get(name)


def _error(name: str, is_value_error: bool, text: str) -> Exception:
    """Return the error that stands for one of the other process."""
    if is_value_error is True:
        return ValueError(text)
    return NotImplementedError(text) if name == "NotImplementedError" else RuntimeError(f"{name}: {text}")
