"""The widest feed-forward part that a token meets, read off the matrices of a model's layers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from helpers.model.sizing.token_passes import TokenPasses

_EXPERT = re.compile(r"\.experts(\.|$)")
_ROUTERS = ("gate", "router")


class MlpWidth(NamedTuple):
    """The numbers between a feed-forward part's first and last product, for one token."""

    inner: int
    """Elements that the last matrix multiplies; of chosen experts: all together."""
    gated: bool
    """Whether two projections are multiplied with each other first (SwiGLU)."""


def mlp_width(text: Any, config: Any, passes: TokenPasses, chosen: Mapping[int, int]) -> MlpWidth:
    """Return the widest MLP of a `transformers` model.

    `chosen` is the number of experts that compute a token, by layer. Fields of a config do not tell: GPT-2's
    have no width, LFM2's is another one than the model's, and Starcoder2's have no word for a gate.
    """
    found = [
        MlpWidth(width.inner * (chosen.get(layer, 1) if expert else 1), width.gated)
        for layer, expert, shapes in _parts(text, passes)
        if (width := _width(shapes, config.hidden_size)) is not None
    ]
    return max(found, default=MlpWidth(_declared(config), True))


def _parts(text: Any, passes: TokenPasses) -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
    """Yield the matrices of each module outside attention: layer, whether the module is an expert, shapes."""
    parts: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for name, parameter in text.named_parameters():
        module, _, own = name.rpartition(".")
        part, _, last = module.rpartition(".")
        if own.endswith("bias") or "att" in name or passes.layer_of(module) is None or last in _ROUTERS:
            continue
        if parameter.ndim == 3 and _EXPERT.search(module):  # one row for each expert
            parts[module].append(tuple(parameter.shape[1:]))
        elif parameter.ndim == 2:
            parts[part].append(tuple(parameter.shape))
    for part, shapes in parts.items():
        layer = passes.layer_of(part)
        if layer is not None:
            yield layer, bool(_EXPERT.search(part)), shapes


def _width(shapes: list[tuple[int, int]], hidden: int) -> MlpWidth | None:
    """Return the width of matrices that are an MLP: gate, up (or both in one) and down, or one up and down."""
    sizes = sorted(rows * columns for rows, columns in shapes)
    known = {(1, 1): False, (1, 2): True, (1, 1, 1): True}
    ratios = tuple(size // sizes[0] for size in sizes)
    if any(size % sizes[0] for size in sizes) or ratios not in known:
        return None
    last = min(shapes, key=lambda shape: shape[0] * shape[1])
    return MlpWidth(sizes[0] // (hidden if hidden in last else min(last)), known[ratios])


def _declared(config: Any) -> int:
    """Return the width in a config whose model has no MLP of its own; hidden size where the field is missing."""
    inner = getattr(config, "intermediate_size", None) or config.hidden_size
    return max(inner) if isinstance(inner, list | tuple) else int(inner)
