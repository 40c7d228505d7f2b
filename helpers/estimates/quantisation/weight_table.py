"""A model's weights one by one, under the names and in the shapes that a checkpoint has: what quantisation is
decided on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from torch import nn

from helpers.model.meta_model import on_meta, text_fields

Kind = Literal["linear", "expert", "head", "other"]
_IN_A_LAYER = re.compile(r"\.(layers|h|blocks|block)\.\d+\.")
_ROUTERS = ("gate", "router", "shared_expert_gate")


class WeightShape(NamedTuple):
    """One weight: its module's name without `.weight`, rows (outputs) and columns (inputs)."""

    name: str
    rows: int
    columns: int
    kind: Kind
    """A linear layer, one expert's matrix, the output matrix, or what is never quantised (embedding, norm,
    bias, router).
    """
    in_decoder: bool
    """Whether the weight stands in a layer of the part that reads text, and not in a vision tower."""

    @property
    def elements(self) -> int:
        """Return rows times columns."""
        return self.rows * self.columns


def weight_table(config: Any) -> list[WeightShape]:
    """Return every weight of a config's model, stacked experts apart; UnreadableConfig as in `on_meta`."""
    models, text = on_meta(config), text_fields(config)
    head = models.whole.get_output_embeddings()
    seen: set[int] = set()
    table: list[WeightShape] = []
    for name, module in models.whole.named_modules():
        inside = bool(_IN_A_LAYER.search(f".{name}.")) and (
            models.whole is models.text or "language_model" in name
        )
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue  # tied
            seen.add(id(parameter))
            if parameter.ndim == 3 and name.endswith("experts"):
                table += _apart(f"{name}.{own}", parameter.shape, text.hidden_size, inside)
            else:
                table.append(_single(name, own, module, parameter, module is head, inside))
    return table


def _single(name: str, own: str, module: nn.Module, parameter: Any, head: bool, inside: bool) -> WeightShape:
    """Return the row of a weight that stands alone."""
    matrix = own == "weight" and isinstance(module, nn.Linear) and name.split(".")[-1] not in _ROUTERS
    kind: Kind = "head" if head and own == "weight" else "linear" if matrix else "other"
    if "experts." in name and kind == "linear" and "shared" not in name:
        kind = "expert"
    rows = parameter.shape[0] if parameter.ndim else 1
    return WeightShape(name, rows, parameter.numel() // max(1, rows), kind, inside)


def _apart(name: str, shape: tuple[int, ...], hidden: int, inside: bool) -> Iterator[WeightShape]:
    """Yield the matrices of stacked experts `[E, out, in]` (or `[E, in, out]`), gate and up apart, as
    checkpoints store them.
    """
    module, part = name.rsplit(".", 1)
    count, *sides = shape
    inner = sides[0] if sides[1] == hidden else sides[1]
    names = ("gate_proj", "up_proj") if part == "gate_up_proj" else (part,)
    rows, columns = (hidden, inner) if part == "down_proj" else (inner // len(names), hidden)
    for expert in range(count):
        for matrix in names:
            yield WeightShape(f"{module}.{expert}.{matrix}", rows, columns, "expert", inside)
