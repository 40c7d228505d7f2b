"""The bytes of quantised weights: by a config's own scheme, or by the description that Ascend's ModelSlim
writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.estimates.quantisation.compressed_tensors import UnknownScheme
from helpers.estimates.quantisation.schemes import scheme_of
from helpers.estimates.quantisation.weight_table import WeightShape, weight_table

_SLIM_KEPT = "FLOAT"
_SLIM_PACKED = ("W8A8", "W8A8_DYNAMIC", "W8A16")


def quantised_bytes(config: Any) -> int:
    """Return the bytes of all weights of a config with a `quantization_config`, scales and zero points
    included.

    What the scheme leaves out (embedding, output matrix, norms, routers) has the config's own type. Raises
    UnknownScheme, a ValueError, for a scheme that is not known.
    """
    size = _element_bytes(config)
    scheme = scheme_of(_fields(config), size)
    packed = ((weight, scheme.nbytes(weight)) for weight in weight_table(config))
    return sum(weight.elements * size if nbytes is None else nbytes for weight, nbytes in packed)


def model_slim_bytes(config: Any, description: Path | str | Mapping[str, Any]) -> int:
    """Return the bytes of all weights beside ModelSlim's `quant_model_description.json`, which names each
    tensor's type.

    A packed matrix has int8 numbers, and for each row a scale and an offset in the model's type. Static W8A8
    adds an int32 bias and a scale for each row: fp32 beside bf16, int64 beside fp16. Static W8A8 also has one
    scale and one int8 offset of the input.
    """
    kinds = _description(description)
    size = _element_bytes(config)
    return sum(_slim_bytes(weight, _slim_kind(weight, kinds), size) for weight in weight_table(config))


def _slim_bytes(weight: WeightShape, kind: str, size: int) -> int:
    """Return one weight's bytes in a ModelSlim checkpoint."""
    if kind == _SLIM_KEPT:
        return weight.elements * size
    if kind not in _SLIM_PACKED:
        raise UnknownScheme(
            f"quantised by ModelSlim as {kind[:30]!r} ({weight.name[:60]}), which is not computed"
        )
    static = (
        weight.rows * (4 + (8 if size == 2 and kind == "W8A8" else 4)) + size + 1 if kind == "W8A8" else 0
    )
    return weight.elements + 2 * size * weight.rows + static


def _slim_kind(weight: WeightShape, kinds: Mapping[str, Any]) -> str:
    """Return the type that a description gives a weight; FLOAT for what it does not name."""
    return str(kinds.get(f"{weight.name}.weight", _SLIM_KEPT)) if weight.kind != "other" else _SLIM_KEPT


def _description(description: Path | str | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a description as a dict; UnknownScheme, naming the file, where the file holds none."""
    if isinstance(description, Mapping):
        return description
    try:
        kinds = json.loads(Path(description).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnknownScheme(f"{Path(description).name} cannot be read: {error}"[:190]) from error
    if not isinstance(kinds, dict):
        raise UnknownScheme(
            f"{Path(description).name} is no description of quantised tensors: expected names and types"
        )
    return kinds


def _fields(config: Any) -> Mapping[str, Any]:
    """Return a config's `quantization_config` as a dict; UnknownScheme where there is none."""
    found: Any = getattr(config, "quantization_config", None)
    found = found.to_dict() if hasattr(found, "to_dict") else found
    if not isinstance(found, Mapping):
        raise UnknownScheme(
            f"quantised, but quantization_config is no table of fields, got {str(found)[:40]!r}"
        )
    return found


def _element_bytes(config: Any) -> int:
    """Return the bytes of a number that stays unquantised: 4 in fp32, else 2."""
    text = config.get_text_config()
    dtype = getattr(config, "dtype", None) or getattr(text, "dtype", None)
    return 4 if str(dtype).endswith("float32") else 2
