"""The bytes of a checkpoint that Ascend's ModelSlim wrote, from its `quant_model_description.json`.

The file names every tensor and its type. Layouts: format AscendV1 in the documentation and in the saver of
github.com/Ascend/msmodelslim (docs/zh/user_guide/quantization_formats/ascendv1.md).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from helpers.estimates.quantisation.compressed_tensors import UnknownScheme, groups_of
from helpers.estimates.quantisation.weight_table import WeightShape, weight_table
from helpers.model.sizing.refusal import brief

_KEPT = "FLOAT"
_STATIC, _SCALES = (
    ("quant_bias", "deq_scale", "input_scale", "input_offset"),
    ("weight_scale", "weight_offset"),
)
_BESIDE = {
    "W8A8": _STATIC, "W8A8_MIX": (*_STATIC, *_SCALES), "W8A8_DYNAMIC": _SCALES, "W8A16": _SCALES,
    "WFP8AFP8_DYNAMIC": _SCALES, "W4A8_DYNAMIC": (*_SCALES, "scale_bias"),
    "W8A8_MXFP8": _SCALES[:1], "W4A8_MXFP": _SCALES[:1], "W4A4_MXFP4": _SCALES[:1],
}  # fmt: skip
"""The tensors that stand beside a matrix of each type. W4A4_DYNAMIC is left out: its width on disk is told in
two ways.
"""
_HALVES, _BLOCK = ("o_proj", "down_proj", "w2"), 32
_TENSOR_PARALLEL = 16
"""Slices in which a row-parallel matrix of W4A8_DYNAMIC has its `scale_bias`."""


@dataclass(frozen=True)
class _Description:
    """A description, and what the sizes of its tensors depend on."""

    kinds: Mapping[str, Any]
    """The type of each tensor."""
    beside: Mapping[str, list[str]]
    """For each module, the last names of its tensors but weight and bias."""
    element: int
    """Bytes of a number that stays as it is."""
    deq_scale: int
    """Bytes of a scale of static W8A8: fp32 beside bf16, the same bits as int64 beside any other type."""
    group: int
    """Numbers of a row that share a scale; 0 for all."""

    def kind(self, module: str) -> str:
        """Return the type of a module's weight; FLOAT for a weight that is not named."""
        return str(self.kinds.get(f"{module}.weight", _KEPT))


def model_slim_bytes(config: Any, description: Path | str | Mapping[str, Any]) -> int:
    """Return the bytes of all weights beside ModelSlim's `quant_model_description.json`, a path or its fields.

    A matrix that the description does not name stays in the config's own type, and so does FLOAT. The bias of
    a packed matrix is fp32. Raises UnknownScheme, naming the tensor, for a type or a tensor that is not known.
    """
    slim, table = _described(config, _fields(description)), weight_table(config)
    packed = {weight.name for weight in table if weight.kind != "other" and slim.kind(weight.name) != _KEPT}
    total = sum(_bytes(weight, slim, weight.name in packed) for weight in table)
    return total + _added(table, slim, packed)


def _bytes(weight: WeightShape, slim: _Description, packed: bool) -> int:
    """Return one weight's bytes with what stands beside it."""
    kind = slim.kind(weight.name)
    if kind == _KEPT:
        return weight.elements * slim.element
    if weight.kind == "other" and packed:
        return 4 * weight.elements  # the bias of a packed matrix
    if weight.kind == "other" or kind not in _BESIDE:
        raise UnknownScheme(
            f"quantised by ModelSlim as {kind[:30]!r} ({weight.name[:60]}), which is not computed"
        )
    half = kind.startswith("W4")
    names = {*_BESIDE[kind], *slim.beside.get(weight.name, ())}
    parts = sum(_part(name, weight, kind, slim) for name in names)
    return (weight.elements // 2 if half else weight.elements) + parts


def _part(name: str, weight: WeightShape, kind: str, slim: _Description) -> int:
    """Return the bytes of a tensor that stands beside a packed matrix."""
    blocks = weight.rows * ceil(weight.columns / _BLOCK)
    scale = blocks if "MXFP" in kind else 4 * weight.rows * groups_of(weight.columns, slim.group)
    slices = _TENSOR_PARALLEL if weight.name.endswith(_HALVES) else 1
    known = {
        "weight_scale": scale, "weight_offset": scale, "scale_bias": 4 * weight.rows * slices,
        "quant_bias": 4 * weight.rows, "deq_scale": slim.deq_scale * weight.rows, "input_scale": 4, "input_offset": 4,
    }  # fmt: skip
    if name not in known:
        raise UnknownScheme(f"quantised by ModelSlim: the tensor {weight.name[:60]}.{name[:30]} is not known")
    return known[name]


def _added(table: list[WeightShape], slim: _Description, packed: Collection[str]) -> int:
    """Return the bytes of the biases that smoothing gives to norms; UnknownScheme for any other tensor."""
    rows: dict[str, list[WeightShape]] = {}
    for weight in table:
        rows.setdefault(weight.name, []).append(weight)
    total = 0
    for key in (key for key in slim.kinds if "." in key):
        module, _, name = key.rpartition(".")
        there = rows.get(module, [])
        if (name == "weight" and there) or (name == "bias" and len(there) == 2) or module in packed:
            continue
        if name != "bias" or len(there) != 1 or there[0].kind != "other":
            raise UnknownScheme(f"quantised by ModelSlim: the tensor {key[:90]} is not one of this model")
        total += there[0].elements * slim.element
    return total


def _described(config: Any, kinds: Mapping[str, Any]) -> _Description:
    """Return a description with its sizes; a `group_size` beside MXFP types is that of their blocks."""
    text = config.get_text_config()
    dtype = str(getattr(config, "dtype", None) or getattr(text, "dtype", None))
    group = kinds.get("group_size", 0)
    if isinstance(group, bool) or not isinstance(group, int) or not 0 <= group <= 2**20:
        raise UnknownScheme(f"quantised by ModelSlim, but its group_size is {str(group)[:30]!r}, no number")
    beside: dict[str, list[str]] = {}
    for key in kinds:
        module, _, name = str(key).rpartition(".")
        if name not in ("weight", "bias"):
            beside.setdefault(module, []).append(name)
    blocks = any("MXFP" in str(kind) for kind in kinds.values())
    element, deq_scale = 4 if dtype.endswith("float32") else 2, 4 if dtype.endswith("bfloat16") else 8
    return _Description(kinds, beside, element, deq_scale, 0 if blocks else group)


def _fields(description: Path | str | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a description as a dict; UnknownScheme, naming the file, where the file holds none."""
    if isinstance(description, Mapping):
        return description
    name = Path(description).name
    try:
        kinds = json.loads(Path(description).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnknownScheme(f"{name[:60]} cannot be read ({brief(error)})") from error
    if not isinstance(kinds, dict):
        raise UnknownScheme(f"{name[:60]} is no description of quantised tensors: expected names and types")
    return kinds
