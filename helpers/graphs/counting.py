"""Operator calls of a piece of code, counted exactly: how many, which of them launch work, what they move.

torch's dispatcher hands each call to a mode (`TorchDispatchMode`) before a kernel runs. In inference mode, as here,
a call is what Python asked for: `F.linear` is one call. Counts depend on torch's version, not on the processor.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass
class OpCounts:
    """Operator calls by name, and the bytes of intermediates that they move."""

    calls: Counter[str] = field(default_factory=Counter)
    """All calls. A view is a call: Python and the dispatcher work for it."""
    launches: Counter[str] = field(default_factory=Counter)
    """The calls that compute or copy. An accelerator launches a kernel for each of them."""
    read: int = 0
    """Bytes of intermediates that launches read. An intermediate is a tensor that is not kept."""
    written: int = 0
    """Bytes of intermediates that launches write."""

    @property
    def num_calls(self) -> int:
        """Return the number of calls, views included."""
        return self.calls.total()

    @property
    def num_launches(self) -> int:
        """Return the number of calls that compute or copy."""
        return self.launches.total()

    @property
    def nbytes(self) -> int:
        """Return the bytes of intermediates, read and written."""
        return self.read + self.written


def op_counts(function: Callable[[], Any], kept: Iterable[Tensor] = ()) -> OpCounts:
    """Return the operator calls of one run of `function`, in inference mode.

    `kept` are tensors that stay between passes, such as weights and caches. Their bytes, and those of packed
    weights, are not counted: they are no intermediates. An operator reads each argument and writes each result once.
    """
    mode = _Counting(kept)
    with torch.inference_mode(), mode:
        function()
    return mode.counts


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts each call, and runs it."""

    def __init__(self, kept: Iterable[Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts = OpCounts()
        self._kept = {storage_of(tensor) for tensor in kept}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one call and count it."""
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.counts.calls[name] += 1
        given, changed = list(tensors_in((args, kwargs))), list(changed_arguments(func, args, kwargs))
        if not is_view(result, given, changed):
            self.counts.launches[name] += 1
            self.counts.read += self._bytes(given)
            self.counts.written += self._bytes([*changed, *tensors_in(result)])
        return result

    def _bytes(self, tensors: Iterable[Tensor]) -> int:
        """Return the bytes of those tensors that are not kept, each counted once."""
        each = {id(tensor): tensor for tensor in tensors}
        return sum(_nbytes(t) for t in each.values() if storage_of(t) not in self._kept | {None})


def is_view(result: Any, given: Iterable[Tensor], changed: Iterable[Tensor]) -> bool:
    """Return whether a call only gave other names to memory that was there: it changed nothing and made nothing."""
    made = list(tensors_in(result))
    own = {storage_of(tensor) for tensor in given}
    return not list(changed) and bool(made) and all(storage_of(tensor) in own for tensor in made)


def changed_arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Iterator[Tensor]:
    """Yield the tensors that an operator's schema declares as written."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else (kwargs or {}).get(argument.name)
            yield from tensors_in(value)


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested tuples, lists and dictionaries."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for item in tree:
            yield from tensors_in(item)
    elif isinstance(tree, dict):
        yield from tensors_in(list(tree.values()))


def storage_of(tensor: Tensor) -> int | None:
    """Return what identifies a tensor's memory; None for a packed weight, whose memory torch does not show."""
    return None if tensor.is_mkldnn else int(tensor.untyped_storage()._cdata)


def _nbytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements; those of a broadcast dimension count once."""
    sizes = (n for n, step in zip(tensor.shape, tensor.stride(), strict=True) if step or n == 0)
    return math.prod(sizes) * tensor.itemsize
