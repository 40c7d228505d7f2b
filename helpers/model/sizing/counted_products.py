"""The products that a model computes, counted layer by layer while the model runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

OUTSIDE = -1
"""Stands for all that is in no layer."""
_EXPERTS = re.compile(r"\.experts$")
_BATCHED = {
    torch.ops.aten.mm: False,
    torch.ops.aten.addmm: False,
    torch.ops.aten.bmm: True,
    torch.ops.aten.baddbmm: True,
}
"""The operators that multiply two tensors, their last two arguments, and whether in batches."""


@dataclass(frozen=True)
class Products:
    """Multiply-adds of one layer for one token, by experts left out."""

    matrices: int = 0
    """Products of a token with a matrix."""
    batched: int = 0
    """Products of two things that differ from sequence to sequence: attention's scores and values."""


class ProductCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-adds by the layer that computes them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.where, self.silent = OUTSIDE, 0
        self._found: Counter[tuple[int, bool]] = Counter()

    def of(self, run: Callable[[], Any]) -> tuple[Mapping[int, Products], Any]:
        """Return the products of each layer, and of what is outside, while `run` runs, and its result."""
        self._found.clear()
        with self:
            result = run()
        places = {OUTSIDE, *(place for place, _ in self._found)}
        return {n: Products(self._found[n, False], self._found[n, True]) for n in places}, result

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute an operator, and count it if it multiplies."""
        batched = _BATCHED.get(func.overloadpacket)
        if batched is not None and not self.silent:
            left, right = args[-2:]
            self._found[self.where, batched] += left.numel() * right.shape[-1]
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_products(text: Any, layers: Mapping[str, int]) -> Iterator[ProductCounter]:
    """Give a counter that knows which of the `layers` runs; experts that are chosen are left out."""
    counter, hooks = ProductCounter(), []

    def enter(number: int, *_: object) -> None:
        counter.where = number

    def silence(change: int, *_: object) -> None:
        counter.silent += change

    for name, module in text.named_modules():
        if name in layers:
            hooks.append(module.register_forward_pre_hook(partial(enter, layers[name])))
            hooks.append(module.register_forward_hook(partial(enter, OUTSIDE)))
        elif _EXPERTS.search(name) and "shared" not in name:
            hooks.append(module.register_forward_pre_hook(partial(silence, 1)))
            hooks.append(module.register_forward_hook(partial(silence, -1)))
    try:
        yield counter
    finally:
        for hook in hooks:
            hook.remove()
