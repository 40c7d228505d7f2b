"""The process of the submitted code: it runs cells and calls what they define, as the judge says. It decides nothing.

The checks are not there: `helpers.checks` and all in it are one object that gives itself, whatever is done with it.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import io
import os
import pickle
import socket
import sys
import types
from pathlib import Path
from typing import Any

from helpers.grading import wire
from helpers.grading.guard import protect
from helpers.grading.submission import CHECKS


class Absent(types.ModuleType):
    """Stands for the checks: every attribute, item and result is itself."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Return itself."""
        return self

    def __getitem__(self, key: Any) -> Any:
        return self

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `Absent` wherever the checks are asked for."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        wanted = name == CHECKS or name.startswith(f"{CHECKS}.")
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if wanted else None

    def create_module(self, spec: Any) -> types.ModuleType:
        return Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        return


class Peer:
    """An object of the judge's, such as an engine to measure: its calls travel there."""

    def __init__(self, served: Served, number: int):
        self._served, self._number = served, number

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Return what the judge's object returns."""
        return self._served.ask(self._number, "", arguments, named)

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)
        return lambda *arguments, **named: self._served.ask(self._number, method, arguments, named)

    def __deepcopy__(self, memo: Any) -> Peer:
        return self


class _Reader(pickle.Unpickler):
    """Reads what the judge sends."""

    def __init__(self, message: bytes, served: Served):
        super().__init__(io.BytesIO(message))
        self._served = served

    def persistent_load(self, number: int) -> Peer:
        return Peer(self._served, number)


class Served:
    """The names that the cells have defined, and the objects that the judge knows by number."""

    def __init__(self, line: wire.Line):
        """Begin with a shell that has run nothing."""
        self._line, self._shell = line, _shell()
        self._kept: list[Any] = []

    def serve(self) -> None:
        """Do what the judge says, until the judge has gone."""
        while True:
            try:
                request = self._read()
            except wire.Gone:
                return
            self._answer(request)

    def ask(self, number: int, method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return what a call of a judge's object returns; what the judge asks meanwhile is done."""
        values = [wire.parts_of(value, self._keep) for value in arguments]
        pairs = {name: wire.parts_of(value, self._keep) for name, value in named.items()}
        self._send(("ask", number, method, values, pairs))
        while True:
            request = self._read()
            if request[1] == "given":
                return request[2]
            if request[1] == "refused":
                raise RuntimeError(request[2])
            self._answer(request)

    def _answer(self, request: tuple[Any, ...]) -> None:
        """Carry one request out, and say how it went, with the request's number."""
        number, kind, *rest = request
        try:
            value = getattr(self, f"_do_{kind}")(*rest)
            answer: tuple[Any, ...] = ("value", number, wire.parts_of(value, self._keep))
        except BaseException as error:  # SystemExit and all: the judge hears of it
            answer = ("raised", number, type(error).__name__, isinstance(error, ValueError), str(error)[:500])
        self._send(answer)

    def _do_run(self, source: str) -> None:
        """Run a cell; what the cell prints, and an error in the cell, are dropped here."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self._shell.run_cell(source, store_history=False, silent=True)

    def _do_names(self, names: list[str]) -> list[str]:
        """Return which of the names are defined."""
        return [name for name in names if name in self._shell.user_ns]

    def _do_get(self, name: str) -> Any:
        """Return what a name stands for."""
        return self._shell.user_ns[name]

    def _do_call(self, number: int, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return what an object returns."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return self._kept[number](*arguments, **named)

    def _do_attribute(self, number: int, name: str) -> Any:
        """Return an object's attribute."""
        return getattr(self._kept[number], name)

    def _do_same(self, number: int, other: int) -> bool:
        """Return whether two objects are equal."""
        return bool(self._kept[number] == self._kept[other])

    def _do_hash(self, number: int) -> int:
        """Return an object's hash."""
        return hash(self._kept[number])

    def _keep(self, value: Any) -> tuple[Any, ...]:
        """Return what stands for an object that stays here: its number, whether it can be called, whether it makes policies."""
        from helpers.engine.policy import Policy

        if isinstance(value, Absent):
            return ("plain", None)
        self._kept.append(value)
        makes = isinstance(value, type) and issubclass(value, Policy)
        return ("object", len(self._kept) - 1, callable(value), makes, isinstance(value, Policy))

    def _read(self) -> Any:
        """Return the judge's next request."""
        return _Reader(self._line.receive(), self).load()

    def _send(self, message: tuple[Any, ...]) -> None:
        """Tell the judge."""
        self._line.send(pickle.dumps(message))


def _shell() -> Any:
    """Return a shell that runs cells as a notebook's kernel does, magics included, and keeps no history."""
    from IPython.core.interactiveshell import InteractiveShell

    shell: Any = InteractiveShell.instance
    shell = shell()
    shell.history_manager.enabled = False
    return shell


def main(descriptor: int, hidden: list[str]) -> None:
    """Serve a judge over an inherited socket; `hidden` are folders that cannot be read."""
    for name in [name for name in sys.modules if name.startswith(CHECKS)]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder())
    served = Served(wire.Line(socket.socket(fileno=descriptor)))
    import helpers.engine.policy  # before nothing more can be loaded in odd ways

    assert helpers.engine.policy
    protect([Path(path) for path in hidden])
    served.serve()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
