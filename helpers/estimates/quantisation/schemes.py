"""Quantisation schemes as data: which weights a config's scheme packs, and the bytes of a packed matrix with
its scales.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

from helpers.estimates.quantisation.compressed_tensors import UnknownScheme, number, packed
from helpers.estimates.quantisation.config_fields import bits_of, format_of, group_number, groups
from helpers.estimates.quantisation.module_names import left_out, named
from helpers.estimates.quantisation.number_format import NumberFormat
from helpers.estimates.quantisation.weight_table import WeightShape
from helpers.model.sizing.refusal import brief


@dataclass(frozen=True)
class Scheme:
    """What a `quantization_config` does with a weight: its bytes, or None where the weight stays."""

    name: str
    nbytes: Callable[[WeightShape], int | None]

    def total(self, weights: Iterable[WeightShape], element_bytes: int) -> int:
        """Return the bytes of all weights; those that the scheme leaves have `element_bytes` a number."""
        packed = ((weight, self.nbytes(weight)) for weight in weights)
        return sum(weight.elements * element_bytes if n is None else n for weight, n in packed)


def scheme_of(fields: Mapping[str, Any], element_bytes: int = 2) -> Scheme:
    """Return the scheme of a `quantization_config`.

    `element_bytes` is the size of what stays, and of its scales.

    Layouts: AWQ (arXiv:2306.00978) and GPTQ (arXiv:2210.17323) as their checkpoints store them, FP8 by blocks
    (arXiv:2412.19437), MXFP4 (OCP Microscaling 1.0), and the formats of compressed-tensors.
    """
    name = str(fields.get("quant_method", fields.get("quant_type", "without a quant_method")))
    makers = {"awq": _awq, "gptq": _gptq, "fp8": _fp8, "mxfp4": _mxfp4, "compressed-tensors": _compressed}
    if name not in makers:
        raise UnknownScheme(
            f"quantised as {name[:40]!r} (quantization_config), which is not one of {', '.join(makers)}"
        )
    with _refusing(name):
        nbytes = makers[name](fields, element_bytes)

    def refusing(weight: WeightShape) -> int | None:
        with _refusing(name):  # lists of modules and sizes of blocks are read only beside a weight
            return nbytes(weight)

    return Scheme(name, refusing)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn what arithmetic on damaged fields raises into UnknownScheme."""
    try:
        yield
    except UnknownScheme:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, re.error, ArithmeticError) as error:
        raise UnknownScheme(
            f"quantised as {name!r}: its quantization_config cannot be read ({brief(error)})"
        ) from error


def _awq(fields: Mapping[str, Any], element_bytes: int) -> Callable[[WeightShape], int | None]:
    """Pack the decoder's linear layers: numbers and zero points of `bits`, a 16-bit scale for each group."""
    bits, group = bits_of(fields), number(fields, "group_size", -1)
    kept = tuple(fields.get("modules_to_not_convert") or ())

    def nbytes(weight: WeightShape) -> int | None:
        if not _in_layers(weight) or any(part in weight.name for part in kept):
            return None
        stored = NumberFormat(bits, group if group > 0 else "row", "zero")
        return stored.nbytes(weight.rows, weight.columns)

    return nbytes


def _gptq(fields: Mapping[str, Any], element_bytes: int) -> Callable[[WeightShape], int | None]:
    """Pack the decoder's linear layers as AWQ does, with each column's group beside (int32).

    `dynamic` has exceptions.
    """
    usual = {"bits": bits_of(fields), "group_size": number(fields, "group_size", -1)}
    rules = dict(fields.get("dynamic") or {})
    kept = tuple(fields.get("modules_to_not_convert") or ())

    def nbytes(weight: WeightShape) -> int | None:
        packed_head = weight.kind == "head" and fields.get("lm_head") is True
        if not (_in_layers(weight) or packed_head) or left_out(weight.name, kept):
            return None
        rule = next((r for r in rules if re.match(r.removeprefix("-:").removeprefix("+:"), weight.name)), "")
        if rule.startswith("-:"):
            return None
        sizes = {**usual, **(rules.get(rule) or {})}
        bits, group = int(sizes["bits"]), int(sizes["group_size"])
        stored = NumberFormat(bits, group if group > 0 else "row", "zero")
        return stored.nbytes(weight.rows, weight.columns) + 4 * weight.columns

    return nbytes


def _fp8(fields: Mapping[str, Any], element_bytes: int) -> Callable[[WeightShape], int | None]:
    """Pack all linear layers but the head: a byte each, and an fp32 scale for each block or for the whole
    matrix.
    """
    block, kept = fields.get("weight_block_size"), tuple(fields.get("modules_to_not_convert") or ())
    static = 4 if fields.get("activation_scheme") == "static" else 0
    down, across = (int(block[0]), int(block[1])) if block else (0, 0)

    def nbytes(weight: WeightShape) -> int | None:
        if weight.kind not in ("linear", "expert") or left_out(weight.name, kept):
            return None
        scales = ceil(weight.rows / down) * ceil(weight.columns / across) if block else 1
        return weight.elements + 4 * scales + static

    return nbytes


def _mxfp4(fields: Mapping[str, Any], element_bytes: int) -> Callable[[WeightShape], int | None]:
    """Pack the experts: four bits each, and a byte of scale for 32 numbers of a row."""
    kept = tuple(fields.get("modules_to_not_convert") or ())

    def nbytes(weight: WeightShape) -> int | None:
        if weight.kind != "expert" or left_out(weight.name, kept):
            return None
        blocks = weight.rows * ceil(weight.columns / 32)
        return 17 * blocks

    return nbytes


def _compressed(fields: Mapping[str, Any], element_bytes: int) -> Callable[[WeightShape], int | None]:
    """Pack what a group's targets name and `ignore` does not, in the group's format."""
    ignored = tuple(fields.get("ignore") or ())
    sizes = [packed(group, format_of(group, fields), element_bytes) for group in groups(fields)]

    def nbytes(weight: WeightShape) -> int | None:
        if weight.kind == "other" or named(weight.name, ignored):
            return None
        own = group_number(weight.name, fields)
        return None if own is None else sizes[own](weight.rows, weight.columns)

    return nbytes


def _in_layers(weight: WeightShape) -> bool:
    """Return whether a weight is a linear layer of the decoder, whose rows fill whole 32-bit words."""
    return weight.kind in ("linear", "expert") and weight.in_decoder and weight.rows >= 8
