"""Checks of lab 1, memory math."""

from __future__ import annotations

from typing import Any

from helpers.checks.families.lab01.crossover import CROSS
from helpers.checks.families.lab01.deployment import OFFER
from helpers.checks.families.lab01.hybrid import HYBRID
from helpers.checks.families.lab01.int4 import INT4
from helpers.checks.families.lab01.kv_bytes import KV
from helpers.checks.machinery.core import CheckFailed, exercise, require_number
from helpers.checks.machinery.family import check_family
from helpers.model.shapes import PUBLISHED

__all__ = [
    "LAB",
    "CheckFailed",
    "check_crossover",
    "check_deployment",
    "check_hybrid_bytes",
    "check_int4_bytes",
    "check_kv_bytes",
    "check_token_bytes",
]
LAB = "01_memory_math"


@exercise(LAB, 1, "predict a token's share of the cache")
def check_token_bytes(answer: Any) -> None:
    """Check `answer`: bytes that one token leaves in Llama-3-8B's cache in bf16."""
    shape = PUBLISHED["Llama-3-8B"]
    right = shape.kv_elements_per_token * 2
    mistakes = {
        "Do all 32 query heads have keys and values of their own?": right * 4,
        "Are both counted, keys and values, with two bytes for each element?": right / 2,
        "That is one layer. How many are there?": right / shape.num_layers,
        "How many bytes has bf16?": right * 2,
        "Bytes were asked for. Are those bits?": right * 8,
        "Bytes were asked for. Is that kB?": right / 1000,
        "Bytes were asked for. Is that KiB?": right / 1024,
    }
    require_number(answer, right, mistakes=mistakes, reveal=False)


@exercise(LAB, 2, "mend the KV cache formula")
def check_kv_bytes(answer: Any) -> None:
    """Check that `answer(shape, batch_size, seq_len, element_size)` returns the bytes of keys and values."""
    check_family(answer, KV)


@exercise(LAB, 3, "four bits in groups")
def check_int4_bytes(answer: Any) -> None:
    """Check that `answer(num_weights, group_size, scale_bits, zero_point_bits)` returns the bytes of whole groups."""
    check_family(answer, INT4)


@exercise(LAB, 4, "when the cache outgrows the weights")
def check_crossover(answer: Any) -> None:
    """Check that `answer(shape, seq_len, weight_size, element_size)` returns the smallest number of requests
    whose cache is the larger.
    """
    check_family(answer, CROSS)


@exercise(LAB, 5, "choose a deployment")
def check_deployment(answer: Any) -> None:
    """Check that `answer(shape, seq_len, requests, devices)` returns (device name, weight type), the
    cheapest offer that holds the requests, or None.
    """
    check_family(answer, OFFER)


@exercise(LAB, 6, "size a hybrid")
def check_hybrid_bytes(answer: Any) -> None:
    """Check that `answer(layers, seq_len, element_size)` returns the bytes that all layers keep of one request."""
    check_family(answer, HYBRID)
