"""Checks of lab 1, memory math."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from helpers.checks.machinery.core import CheckFailed, describe, exercise, require_callable, require_number
from helpers.checks.machinery.limit import attempt
from helpers.estimates.units import GiB
from helpers.model.shapes import PUBLISHED, ModelShape

LAB = "01_memory_math"
Function = Callable[..., Any]


@exercise(LAB, 1, "predict a token's share of the cache")
def check_token_bytes(answer: Any) -> None:
    """`answer`: bytes that one token leaves in Llama-3-8B's cache in bf16."""
    shape = PUBLISHED["Llama-3-8B"]
    right = shape.kv_elements_per_token * 2
    mistakes = {
        "Do all 32 query heads have keys and values of their own?": right * 4,
        "Are both counted, keys and values, with two bytes for each element?": right / 2,
        "That is one layer. How many are there?": right / shape.num_layers,
        "Bytes were asked for. Is that kB?": right / 1000,
        "Bytes were asked for. Is that KiB?": right / 1024,
    }
    require_number(answer, right, mistakes=mistakes, reveal=False)


@exercise(LAB, 2, "mend the KV cache formula")
def check_kv_bytes(answer: Function) -> None:
    """`answer(shape, batch_size, seq_len, element_size)` -> bytes."""
    require_callable(answer)
    for shape in _shapes():
        for batch_size, seq_len, size in ((1, 1, 2), (3, 1000, 1), (16, 4096, 4), (0, 10, 2)):
            given = {"shape": shape, "batch_size": batch_size, "seq_len": seq_len, "element_size": size}
            right = batch_size * seq_len * size * shape.kv_elements_per_token
            per_head = 2 * batch_size * seq_len * size * shape.num_layers * shape.head_dim
            mistakes: dict[str, float | tuple[float, ...]] = {
                "Which width do keys have: hidden_size, or KV heads times head_dim?": right
                / (shape.num_kv_heads * shape.head_dim)
                * shape.hidden_size,
                "Which heads have keys and values of their own, query heads or KV heads?": per_head
                * shape.num_heads,
                "Both keys and values are kept: are both counted?": right / 2,
                "Is every layer counted?": right / shape.num_layers,
                "Does every request of the batch have a cache of its own?": right / max(batch_size, 1),
                "How many bytes has an element? Is element_size used?": tuple(
                    right // size * other for other in (1, 2, 4) if other != size
                ),
            }
            require_number(attempt(answer, **given), right, given, mistakes=mistakes)


@exercise(LAB, 3, "four bits in groups")
def check_int4_bytes(answer: Function) -> None:
    """`answer(num_weights, group_size, scale_bits, zero_point_bits)` -> bytes, whole groups."""
    require_callable(answer)
    cases = [
        (128, 128, 16, 4),
        (4096 * 11008, 128, 16, 4),
        (1000, 32, 16, 16),
        (4096, 64, 32, 8),
        (129, 128, 16, 4),
    ]
    for num_weights, group_size, scale, zero in cases:
        groups = math.ceil(num_weights / group_size)
        right = (num_weights * 4 + groups * (scale + zero)) / 8
        given = {
            "num_weights": num_weights,
            "group_size": group_size,
            "scale_bits": scale,
            "zero_point_bits": zero,
        }
        mistakes = {
            "Each group has a scale and a zero point. Are both counted?": (num_weights * 4 + groups * scale)
            / 8,
            "The weights alone take that. What do the groups add?": num_weights / 2,
            "Is that bits rather than bytes?": right * 8,
            "Has each weight a scale of its own, or each group?": num_weights * (4 + scale + zero) / 8,
            "The last group may be incomplete. Does it have a scale, too?": (
                num_weights * 4 + num_weights // group_size * (scale + zero)
            )
            / 8,
            "Can a part of a group have a part of a scale?": (
                num_weights * 4 + num_weights / group_size * (scale + zero)
            )
            / 8,
        }
        require_number(attempt(answer, **given), right, given, mistakes=mistakes)


@exercise(LAB, 4, "when the cache outgrows the weights")
def check_crossover(answer: Function) -> None:
    """`answer(shape, seq_len, weight_size, element_size)` -> the smallest number of requests whose cache is the larger."""
    require_callable(answer)
    exact = replace(
        PUBLISHED["Llama-2-7B"], name="an invented model for which the division is even", num_params=2**30
    )
    cases = [
        (shape, n, w, k)
        for shape in _shapes()
        for n, w, k in ((4096, 2.0, 2), (100, 0.5, 2), (32768, 4.0, 1))
    ]
    for shape, seq_len, weight_size, element_size in [*cases, (exact, 2**10, 1.0, 2)]:
        weights, one = shape.num_params * weight_size, seq_len * element_size * shape.kv_elements_per_token
        right = math.floor(weights / one) + 1
        given = {"shape": shape, "seq_len": seq_len, "weight_size": weight_size, "element_size": element_size}
        mistakes = {
            "At that number, is the cache larger than the weights, or just as large or smaller?": right - 1,
            "Do weights and cache have the same number of bytes per element?": math.floor(
                shape.num_params / seq_len / shape.kv_elements_per_token
            )
            + 1,
            "A number of requests is whole. Which whole number is the first?": weights / one,
            "Is the length of the requests in it?": math.floor(weights / one * seq_len) + 1,
        }
        require_number(attempt(answer, **given), right, given, mistakes=mistakes)


@exercise(LAB, 5, "choose a deployment")
def check_deployment(answer: Function) -> None:
    """`answer(shape, seq_len, requests, devices)` -> (device name, weight type), the cheapest that holds them; None if none."""
    require_callable(answer)
    for given in _deployments():
        right = _choose(**given)
        got = attempt(answer, **given)
        got = tuple(got) if _are_words(got) else got
        if (got is None or _are_words(got)) and got == right:
            continue
        raise CheckFailed(
            "another choice is right", given, expected=right, got=describe(got), hint=_why(got, **given)
        )


TYPES = {"bf16": 2.0, "int8": 1.0, "int4": 0.5195}
"""Bytes per weight, best quality first; the cache stays in two bytes."""
SHARE = 0.9
"""The part of a device's memory that may be used."""


def _fits(
    shape: ModelShape, seq_len: int, requests: int, memory: float, dtype: str, share: float = SHARE
) -> bool:
    """Whether weights and cache fit."""
    needed = shape.num_params * TYPES[dtype] + requests * seq_len * 2 * shape.kv_elements_per_token
    return needed <= share * memory


def _choose(
    shape: ModelShape, seq_len: int, requests: int, devices: list[tuple[str, float, float]], unit: int = GiB
) -> tuple[str, str] | None:
    """The reference: cheapest device first, on it the best type; `unit` is what the memories are counted in."""
    for name, memory, _ in sorted(devices, key=lambda device: device[2]):
        for dtype in TYPES:
            if _fits(shape, seq_len, requests, memory * unit, dtype):
                return name, dtype
    return None


def _are_words(got: object) -> bool:
    """Whether it is a tuple or list of strings, which can be compared without surprises."""
    return isinstance(got, tuple | list) and all(type(part) is str for part in got)


def _why(
    got: Any, shape: ModelShape, seq_len: int, requests: int, devices: list[tuple[str, float, float]]
) -> str:
    """The question that leads from a wrong choice to the right one."""
    by_name = {name: (gib, price) for name, gib, price in devices}
    if got is None:
        return "There is one that holds all requests. Were all devices and all types tried?"
    if not (_are_words(got) and len(got) == 2 and got[0] in by_name and got[1] in TYPES):
        return "The answer is a pair, a device's name and a type of the table, or None."
    gib, price = by_name[got[0]]
    if not _fits(shape, seq_len, requests, gib * GiB, got[1]):
        if not _fits(shape, seq_len, requests, gib * GiB, got[1], share=1.0):
            return "That does not fit. Are weights and the caches of all requests counted?"
        return "That fills the device to the brim. Is a tenth of it left free?"
    if tuple(got) == _choose(shape, seq_len, requests, devices, unit=10**9):
        return "That would be right if a GiB were 1e9 bytes. How many bytes is it?"
    right = _choose(shape, seq_len, requests, devices)
    if right and price > by_name[right[0]][1]:
        return "That holds them, and costs more than needed. Is there a cheaper device, with smaller weights perhaps?"
    return "On that device a better type fits as well. In which order are types tried?"


def _shapes() -> list[ModelShape]:
    """Published shapes, and random ones that no answer can know by heart."""
    rng = random.Random(1)
    odd = replace(
        PUBLISHED["Llama-3-8B"],
        name="an invented model",
        num_layers=rng.randint(5, 50),
        num_kv_heads=3,
        num_heads=rng.choice((9, 12, 15)),
        head_dim=rng.choice((80, 96)),
        hidden_size=rng.randint(1000, 5000),
        num_params=rng.randint(10**8, 10**10),
    )
    return [PUBLISHED["Qwen3-32B"], odd, PUBLISHED["Llama-3-8B"], PUBLISHED["SmolLM2-135M"]]


def _deployments() -> list[dict[str, Any]]:
    """Traffic and offers: each tells one wrong way of choosing from the right one."""
    llama, qwen = PUBLISHED["Llama-3-8B"], PUBLISHED["Qwen3-32B"]
    devices = [("large", 64.0, 4.0), ("small", 32.0, 1.5), ("huge", 128.0, 9.0)]
    cases = [
        (llama, 4096, 20),
        (llama, 4096, 84),
        (llama, 4096, 24),
        (llama, 4096, 33),
        (qwen, 4096, 8),
        (qwen, 8192, 20),
    ]
    cases += [(qwen, 32768, 200), (llama, 1, 1), (llama, 4096, 86)]
    offers = [{"shape": s, "seq_len": n, "requests": r, "devices": list(devices)} for s, n, r in cases]
    dear = [("small", 32.0, 5.0), ("huge", 128.0, 9.0), ("large", 64.0, 4.0)]
    return [*offers, {"shape": llama, "seq_len": 4096, "requests": 4, "devices": dear}]
