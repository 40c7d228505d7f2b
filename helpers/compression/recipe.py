"""What to quantise, and how: a recipe, and the bytes that the recipe leaves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch

from helpers.estimates.quantisation.number_format import NumberFormat
from helpers.estimates.quantisation.schemes import Scheme
from helpers.estimates.quantisation.weight_table import WeightShape

INT4 = NumberFormat(4, 32, "minimum")
"""GGUF's Q4_1: the grid of the default model's own file. 5 bits a weight."""
INT8 = NumberFormat(8, "row", "none", "fp32")
"""One scale for each output, which torch's and Ascend's int8 products expect."""
Q8_0 = NumberFormat(8, 32)
"""GGUF's Q8_0: the grid of the default model's embedding."""


@dataclass(frozen=True)
class Recipe:
    """How `quantise` makes a model smaller."""

    weights: NumberFormat | None = INT4
    """Format of the layers' matrices; None leaves the matrices as they are."""
    head: NumberFormat | None = None
    """Format of the output matrix; of a tied one, the embedding's too, which are one matrix then."""
    activations: Literal["token", "tensor"] | None = None
    """Whether inputs become int8 as well, and which of them share a scale (`dynamic_int8`)."""
    computes_in: torch.dtype | None = None
    """Type of activations and caches, and of what is not quantised; None keeps the model's own."""
    layers: Collection[int] | None = None
    """Numbers of the layers whose matrices are quantised; None for all."""
    most_rows: int | None = None
    """Tokens of a pass up to which quantised matrices are multiplied; above it a second copy of the quantised
    values is, in the type that the model computes in. None makes no copy.
    """

    def format_of(self, name: str) -> NumberFormat | None:
        """Return the format of a model's matrix, such as `layers.3.attn.qkv_proj` or `lm_head`."""
        if name == "lm_head":
            return self.head
        layer = int(name.split(".")[1])
        return self.weights if self.layers is None or layer in self.layers else None

    def scheme(self, tied: bool) -> Scheme:
        """Return this recipe as a scheme of `helpers.estimates`, which computes bytes from a config alone.

        `tied` says whether the output matrix is the embedding. Copies for larger batches are not counted.
        """

        def nbytes(weight: WeightShape) -> int | None:
            is_head = weight.kind == "head" or (tied and weight.name.endswith("embed_tokens"))
            if not is_head and weight.kind != "linear":
                return None
            fmt = self.format_of("lm_head" if is_head else weight.name[weight.name.index("layers.") :])
            return None if fmt is None else fmt.nbytes(weight.rows, weight.columns)

        return Scheme("recipe", nbytes)
