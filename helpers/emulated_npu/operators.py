"""What an emulated aclnn operator is: the types of its arguments, its rules, and what it computes on CPU tensors.

A signature has one letter for each argument, in the order in which torch_npu's op plugin passes the arguments.
Spaces are ignored. Letters of objects: T tensor, L tensor list, S scalar, X scalar list, A int list, B bool list,
F float list. Letters of plain values: i int64, u uint64, I int32 (also aclDataType), y int8, b bool, d double,
f float, s bytes. An absent tensor or list is None.

The first call notices wrong pointers and counts in a signature. Doubles taken for floats pass unnoticed, so a
numeric test executes each entry.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from helpers.emulated_npu.records import Kind

Function = Callable[..., Any]
POINTERS = {
    "T": Kind.TENSOR,
    "L": Kind.TENSORS,
    "S": Kind.SCALAR,
    "X": Kind.SCALARS,
    "A": Kind.INTS,
    "B": Kind.BOOLS,
    "F": Kind.FLOATS,
}
C_TYPES: dict[str, type] = {
    **dict.fromkeys(POINTERS, ctypes.c_void_p),
    "i": ctypes.c_int64,
    "u": ctypes.c_uint64,
    "I": ctypes.c_int32,
    "y": ctypes.c_int8,
    "b": ctypes.c_bool,
    "d": ctypes.c_double,
    "f": ctypes.c_float,
    "s": ctypes.c_char_p,
}


@dataclass(frozen=True)
class Operator:
    """One aclnn operator.

    `check` sees the arguments when the call is made, before anything runs, and raises ContractError for what a
    document forbids. `run` computes when the device gets there (in a graph: at each replay). `run` must write its
    outputs completely or raise. Where `resizes`, `run` returns the real shapes of outputs: `{argument index: shape}`.
    """

    signature: str
    run: Function
    check: Function | None = None
    resizes: bool = False
    complex_too: bool = False

    @cached_property
    def kinds(self) -> list[Kind | None]:
        """Return, for each argument, the kind of acl object behind it; None for a plain C value."""
        return [POINTERS.get(letter) for letter in self.signature]


class Operators(dict[str, Operator]):
    """A table of operators by their full aclnn name, with the three ways to enter one."""

    def op(
        self,
        names: str,
        signature: str,
        *,
        check: Function | None = None,
        resizes: bool = False,
    ) -> Callable[[Function], Function]:
        """Return a decorator that enters a function under each of the space-separated names (without
        `aclnn`).
        """

        def enter(run: Function) -> Function:
            for name in names.split():
                spec = signature.replace(" ", "")
                self["aclnn" + name] = Operator(spec, run, check, resizes)
            return run

        return enter

    def result(self, names: str, signature: str, function: Function) -> None:
        """Enter a function of all arguments but the last, which receives its result."""
        self.op(names, signature)(lambda *args: store(args[-1], function(*args[:-1])))

    def results(self, names: str, signature: str, count: int, function: Function) -> None:
        """Enter a function of all arguments but the last `count`, which receive its results; None ones are
        skipped.
        """

        def run(*args: Any) -> None:
            for out, value in zip(args[-count:], function(*args[:-count]), strict=True):
                if out is not None:
                    store(out, value)

        self.op(names, signature)(run)

    def in_place(self, names: str, signature: str, function: Function) -> None:
        """Enter a function whose result replaces its first argument."""
        self.op(names, signature)(lambda *args: store(args[0], function(*args)))

    def accept_complex(self, names: str) -> None:
        """Let the named operators take complex tensors; CANN accepts complex tensors in few operators, here
        the others raise.
        """
        for name in names.split():
            self["aclnn" + name] = replace(self["aclnn" + name], complex_too=True)


def store(out: Tensor, value: Tensor) -> None:
    """Write a result: its shape must be the one that torch_npu allocated, its dtype becomes the allocated
    one.
    """
    if out.shape != value.shape and (out.numel() or value.numel()):
        raise ValueError(
            f"torch_npu allocated an output of shape {tuple(out.shape)}, computed was {tuple(value.shape)}"
        )
    if out.numel():
        out.copy_(value)


def fill_front(out: Tensor, value: Tensor) -> Sequence[int]:
    """Write `value` to the front of a larger output and return its shape: for results whose size depends on
    data.
    """
    out.reshape(-1)[: value.numel()].copy_(value.reshape(-1))
    return tuple(value.shape)


def touches_complex(args: Sequence[Any]) -> bool:
    """Return whether one of the arguments is a complex tensor."""
    return any(isinstance(a, torch.Tensor) and a.is_complex() for a in args)


def joined(tables: Sequence[Mapping[str, Operator]]) -> dict[str, Operator]:
    """Return all tables as one. Raise ValueError when two of them know one name."""
    everything: dict[str, Operator] = {}
    for table in tables:
        for name, operator in table.items():
            if name in everything:
                raise ValueError(f"{name} is entered twice")
            everything[name] = operator
    return everything
