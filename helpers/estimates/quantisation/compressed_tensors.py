"""The sizes of a packed matrix in the formats of compressed-tensors, and the fields of a quantised config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

Packed = Callable[[int, int], int]
"""From rows (outputs) and columns (inputs) to bytes."""


class UnknownScheme(ValueError):
    """A quantised config whose bytes are not computed; the message names the scheme and the field."""


def packed(group: Mapping[str, Any], form: str, element_bytes: int) -> Packed:
    """Return the size of a matrix in one of compressed-tensors' formats, scales and zero points included."""
    args = group["weights"]
    bits, strategy, symmetric = number(args, "num_bits"), args["strategy"], args.get("symmetric", True)
    size = int(args.get("group_size") or 0)
    inputs = group.get("input_activations") or {}
    static = 0 if not inputs or inputs.get("dynamic") is True else 1
    block = args.get("block_structure") or (1, 1)
    if strategy not in ("group", "tensor_group", "channel", "tensor", "block"):
        raise UnknownScheme(
            f"quantised as 'compressed-tensors': the strategy {strategy!r} of config_groups is not computed"
        )

    def scales(rows: int, columns: int) -> int:
        if strategy == "block":
            return int(ceil(rows / block[0]) * ceil(columns / block[1]))
        return {"tensor": 1, "channel": rows}.get(strategy, rows * groups_of(columns, size))

    per_word = 32 // bits
    sizes: dict[str, Packed] = {
        "pack-quantized": lambda rows, columns: (
            4 * rows * ceil(columns / per_word) + element_bytes * scales(rows, columns) + 16
            + (0 if symmetric else 4 * ceil(rows / per_word) * (scales(rows, columns) // rows or 1))
            + (4 * columns if args.get("actorder") == "group" else 0)
        ),
        "nvfp4-pack-quantized": lambda rows, columns: (
            rows * columns // 2 + scales(rows, columns) + 4 + 4 * bool(inputs)
        ),
        "mxfp4-pack-quantized": lambda rows, columns: rows * columns // 2 + scales(rows, columns),
        "int-quantized": lambda rows, columns: (
            rows * columns + (element_bytes + (not symmetric)) * scales(rows, columns) + element_bytes * static
        ),
    }  # fmt: skip
    sizes["float-quantized"] = sizes["naive-quantized"] = sizes["int-quantized"]
    if form not in sizes or (
        form.endswith(("int-quantized", "float-quantized", "naive-quantized")) and bits != 8
    ):
        raise UnknownScheme(
            f"quantised as 'compressed-tensors': the format {form!r} with {bits} bits is not computed"
        )
    return sizes[form]


def groups_of(columns: int, size: int) -> int:
    """Return how many groups share a scale along a row; a size under 1 means one for all."""
    return 1 if size < 1 else ceil(columns / size)


def number(fields: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Return a whole number of a config; UnknownScheme, naming the field, for anything else."""
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value == 0 or value > 2**20:
        raise UnknownScheme(
            f"quantised, but the field {name} of quantization_config is {str(value)[:30]!r}, no number"
        )
    return value
