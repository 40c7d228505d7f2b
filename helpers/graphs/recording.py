"""A recording: the operator calls of one run, repeated later on the same memory. A graph's rules, on any device.

A real graph is launched as a whole. A recording launches each operator again, so it teaches what a capture
fixes, and saves only Python's part of the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.graphs.counting import changed_arguments, is_view, tensors_in
from helpers.graphs.decode_step import DecodeStep
from helpers.graphs.pieces import PLAIN, by_operators, swapped
from helpers.model.batch import FlatBatch

_HOST_READS = ("_local_scalar_dense", "item", "equal", "is_nonzero")


class Call(NamedTuple):
    """One recorded call that computes or copies; its arguments are the very tensors and numbers of the run."""

    operator: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[Tensor]
    """What it made; empty for an operator that changed an argument."""


class Recording:
    """The calls of one run of a function, which `replay` repeats."""

    def __init__(self, function: Callable[[], Any]):
        """Run `function` once, in inference mode, and keep its calls; `result` is what it returned.

        Views are not kept: they name memory that stays where it is, with the sizes that they had. Raises
        ValueError for an operator that gives a number to the host: a replay cannot decide anything.
        """
        mode = _Recorder()
        with torch.inference_mode(), mode:
            self.result: Any = function()
        self.calls = mode.calls

    @torch.inference_mode()
    def replay(self) -> Any:
        """Repeat all calls, and return the result in the memory of the first run."""
        for call in self.calls:
            made = call.operator(*call.args, **call.kwargs)
            for kept, new in zip(call.results, tensors_in(made), strict=False):
                kept.copy_(new)
        return self.result


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps each call that computes or copies, and runs it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one call and keep it."""
        name = func.overloadpacket.__name__
        if name in _HOST_READS:
            raise ValueError(f"{name} gives a number to the host, which a replay does not ask again")
        result = func(*args, **(kwargs or {}))
        changed = list(changed_arguments(func, args, kwargs))
        if not is_view(result, tensors_in((args, kwargs)), changed):
            self.calls.append(Call(func, args, kwargs or {}, [] if changed else list(tensors_in(result))))
        return result


class RecordedStep(DecodeStep):
    """A recorded decode step, for devices without graphs.

    On a `KVCache` the lengths are fixed as captured: the replays do not see the tokens that came since. On
    `MaskedRows` the lengths stand in a mask, which is written before each replay.
    """

    def _capture(self, batch: FlatBatch) -> Tensor:
        """Record the pass; on a CPU by the plain operators, because a dispatcher sees no call of a C++ kernel."""
        with swapped(**(PLAIN if self._model.device.type == "cpu" else {})):
            model = by_operators(self._model)
            self.recording = Recording(lambda: model.compute(batch, self._cache))
        logits: Tensor = self.recording.result
        return logits

    def _replay(self, batch: FlatBatch) -> None:
        """Repeat the pass; the cache has put what changes into its memory, in `prepare`."""
        self.recording.replay()
