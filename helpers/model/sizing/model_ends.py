"""What a pass reads before the first layer and after the last one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from helpers.model.sizing.counted_products import OUTSIDE
from helpers.model.sizing.token_passes import TokenPasses


@dataclass(frozen=True)
class ModelEnds:
    """The weights outside the layers, the output matrix left out, in elements."""

    matrices: int
    """Linear layers that every token meets: projections of embeddings, and of streams that run beside each other."""
    vectors: int
    """Other weights that a pass reads whole: the last norm."""
    row: int
    """Elements of embeddings that one token reads: its own, that of its position, those of the layers."""
    more_products: int = 0
    """Multiply-adds of a token beyond one for each element of the matrices."""

    @classmethod
    def of(cls, text: Any, passes: TokenPasses) -> ModelEnds:
        """Return the ends of a `transformers` model, as some passes used them.

        A weight counts where its module ran. Biases are left out.
        """
        head, sizes = text.get_output_embeddings(), {"matrices": 0, "vectors": 0, "row": 0}
        for name, module in text.named_modules():
            if name not in passes.called or module is head or passes.layer_of(name) is not None:
                continue
            for own, parameter in module.named_parameters(recurse=False):
                if isinstance(module, nn.Embedding):
                    sizes["row"] += parameter.shape[-1]
                elif not own.endswith("bias"):
                    linear = own == "weight" and parameter.ndim == 2
                    sizes["matrices" if linear else "vectors"] += parameter.numel()
        found = passes.products[0][OUTSIDE]
        known = sizes["matrices"] + (0 if head is None else head.weight.numel())
        return cls(**sizes, more_products=found.matrices + found.batched - known)
