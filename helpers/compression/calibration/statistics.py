"""What a model's matrices see: statistics of their inputs over some sample texts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from helpers.compression.editing import matrices
from helpers.model.batch import FlatBatch
from helpers.model.decoder import DecoderLM


@dataclass
class InputStatistics:
    """The inputs `x [T, in]` of one matrix, over all tokens of a calibration."""

    largest: Tensor
    """Largest size of each input channel, `[in]`: the maximum of `|x|`."""
    squares: Tensor
    """Sum of each channel's squares, `[in]`."""
    gram: Tensor | None = None
    """`x.T @ x`, `[in, in]`: how far two channels are large together; None where nothing asked for it."""

    @property
    def outlier_ratio(self) -> float:
        """Return the largest channel's maximum over that of the median channel."""
        return float(self.largest.max() / self.largest.median())


def calibrate(
    model: DecoderLM,
    sequences: Sequence[Sequence[int]],
    grams: Collection[str] = (),
    tell: Callable[[str], None] | None = None,
) -> dict[str, InputStatistics]:
    """Return statistics of the inputs of all matrices, from one pass over sample texts.

    Grams cost more time and memory than all else, so that only matrices named in `grams` have one. `tell` is
    called with the name of each matrix whose inputs have been seen. Raises ValueError for a name that is no
    matrix of the model.
    """
    found = dict(matrices(model))
    if missing := set(grams) - set(found):
        raise ValueError(f"the model has no matrix {min(missing)!r}; it has such as {next(iter(found))!r}")
    seen: dict[str, InputStatistics] = {}
    hooks = [
        linear.register_forward_pre_hook(partial(_collect, seen, name, name in grams, tell))
        for name, linear in found.items()
    ]
    try:
        model(FlatBatch.pack([list(tokens) for tokens in sequences]))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: seen[name] for name in found if name in seen}


def _collect(
    seen: dict[str, InputStatistics], name: str, gram: bool, tell: Callable[[str], None] | None,
    module: nn.Module, inputs: Any,
) -> None:  # fmt: skip
    """Keep the statistics of one call's inputs."""
    x = inputs[0].float()
    seen[name] = InputStatistics(x.abs().amax(0), x.square().sum(0), x.t() @ x if gram else None)
    if tell is not None:
        tell(name)


def output_error(change: Tensor, gram: Tensor) -> float:
    """Return the sum of squares by which outputs `x @ weight.T` move when the weight moves by `change`."""
    return float(((change @ gram) * change).sum())
