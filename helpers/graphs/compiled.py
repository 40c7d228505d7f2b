"""`torch.compile` on this machine: what it takes before the first call, and how often it compiles anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch._dynamo.testing import CompileCounterWithBackend

from helpers.machine.stopwatch import Stopwatch

Function = Callable[..., Any]


def default_backend() -> str:
    """Return "inductor" where there is a C++ compiler; "eager", which only traces, where there is none."""
    names = (os.environ.get("CXX", ""), "g++", "c++", "clang++")
    return "inductor" if any(name and shutil.which(name) for name in names) else "eager"


class Compiled(NamedTuple):
    """A compiled function, the seconds of its first call for each input, and how often it was compiled."""

    function: Function
    seconds: tuple[float, ...]
    times: int


def compile_for(
    function: Function,
    inputs: Iterable[Sequence[Any]],
    *,
    dynamic: bool | None = False,
    backend: str | None = None,
) -> Compiled:
    """Compile a function and call it with each of the `inputs`, tuples of arguments.

    `dynamic=False` compiles anew for each shape, `True` once for sizes that change, `None` decides at the second
    shape. `backend` is a name for `torch.compile` (default: `default_backend()`).
    """
    torch.compiler.reset()
    counter = CompileCounterWithBackend(backend or default_backend())
    compiled, seconds = torch.compile(function, dynamic=dynamic, backend=counter), []
    with torch.inference_mode():
        for given in inputs:
            with Stopwatch(torch.device("cpu")) as watch:
                compiled(*given)
            seconds.append(watch.seconds)
    return Compiled(compiled, tuple(seconds), counter.frame_count)
