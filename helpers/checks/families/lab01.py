"""Lab 1, memory math: caches of any model, weights in groups, crossovers, offers of devices."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from helpers.checks.families.shapes import a_shape, half_heads, shown
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.estimates.units import GiB
from helpers.model.shapes import PUBLISHED, ModelShape

Offers = Sequence[tuple[str, float, float]]


# 2: bytes of the cache


def kv_bytes(
    shape: ModelShape, batch_size: int, seq_len: int, element_size: int, *, width: str = "kv", pairs: float = 2,
    layers: bool = True, batch: bool = True, size: int = 0, least: int = 0, head: str = "own", seq: bool = True,
) -> float:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
    per_layer = {
        "kv": shape.num_kv_heads * shape.head_dim, "heads": shape.num_heads * shape.head_dim,
        "hidden": shape.hidden_size, "half": shape.num_kv_heads * half_heads(shape),
        "exact": shape.num_kv_heads * shape.hidden_size / shape.num_heads,
    }[width]  # fmt: skip
    tokens = (max(batch_size, least) if batch else 1) * (max(seq_len, least) if seq else 1)
    return pairs * tokens * (shape.num_layers if layers else 1) * per_layer * (size or element_size)


def _kv(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: kv_bytes(**case, **options)


def _two_or_four(**case: Any) -> float:
    """Knows bf16 and fp32 alone."""
    return kv_bytes(**case, size=2 if case["element_size"] == 2 else 4)


def kv_cases(draw: random.Random) -> Iterator[Case]:
    """Yield shapes and counts; any count may be 0."""
    for batch, seq, size in ((1, 1, 2), (0, 10, 2), (10, 0, 2), (0, 0, 1), (16, 4096, 4), (3, 1000, 1)):
        yield {"shape": PUBLISHED["Qwen3-32B"], "batch_size": batch, "seq_len": seq, "element_size": size}
    while True:
        yield {"shape": a_shape(draw), "batch_size": draw.choice((0, 1, draw.randrange(5000))),
               "seq_len": draw.choice((0, 1, draw.randrange(300), draw.randrange(10**6))), "element_size": draw.choice((1, 2, 4))}  # fmt: skip


KV = Family(
    kv_bytes,
    kv_cases,
    (Part(mistakes={
        "Which width do keys have: hidden_size, or KV heads times head_dim?": _kv(width="hidden"),
        "Which heads have keys and values of their own, query heads or KV heads?": _kv(width="heads"),
        "Is a head as wide as hidden_size / num_heads? A shape has a head_dim of its own.": (_kv(width="half"), _kv(width="exact")),
        "Both keys and values are kept: are both counted?": _kv(pairs=1),
        "Is every layer counted?": _kv(layers=False),
        "Does every request of the batch have a cache of its own?": _kv(batch=False),
        "Is the length of the requests in it?": _kv(seq=False),
        "A count may be 0, and then nothing is kept. Is it taken for 1?": (
            _kv(least=1), lambda **c: kv_bytes(**{**c, "seq_len": max(1, c["seq_len"])}),
            lambda **c: kv_bytes(**{**c, "batch_size": max(1, c["batch_size"])})),
        "How many bytes has an element? Is element_size used?": (_kv(size=1), _kv(size=2), _kv(size=4), _two_or_four),
    }),),
    shown=shown,
)  # fmt: skip


# 3: four bits in groups


def int4_bytes(
    num_weights: int, group_size: int, scale_bits: int, zero_point_bits: int, *, groups: str = "up", extras: str = "both",
    divide: float = 8,
) -> float:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
    count: float = {
        "up": -(-num_weights // group_size), "down": num_weights // group_size, "exact": num_weights / group_size,
        "each": num_weights, "one": 1, "over": num_weights // group_size + 1, "near": round(num_weights / group_size),
    }[groups]  # fmt: skip
    extra = {"both": scale_bits + zero_point_bits, "scale": scale_bits, "zero": zero_point_bits, "none": 0}[
        extras
    ]
    weights = count * group_size if extras == "padded" else num_weights
    return (4 * weights + count * extra) / divide


def _int4(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: int4_bytes(**case, **options)


def _whole(**case: Any) -> float:
    """Cuts or fills the last byte."""
    return int4_bytes(**case) // 1


def _padded(num_weights: int, group_size: int, scale_bits: int, zero_point_bits: int) -> float:
    """Fills the last group."""
    return int4_bytes(-(-num_weights // group_size) * group_size, group_size, scale_bits, zero_point_bits)


def _in_fp32(num_weights: int, group_size: int, scale_bits: int, zero_point_bits: int) -> float:
    """Counts in fp32."""
    groups = torch.ceil(torch.tensor(num_weights / group_size))
    return float((torch.tensor(float(num_weights)) * 4 + groups * (scale_bits + zero_point_bits)) / 8)


def int4_cases(draw: random.Random) -> Iterator[Case]:
    """Yield weights: none, one, whole groups, one more than that, and more than fp32 can count."""
    for numbers in (
        (0, 128, 16, 4), (1, 128, 16, 4), (128, 128, 16, 4), (129, 128, 16, 4), (127, 128, 16, 4), (4096 * 11008, 128, 16, 4),
        (1000, 32, 16, 16), (4096, 64, 32, 8), (7, 1, 16, 4), (16_777_217, 64, 16, 4), (10, 3, 16, 0), (10, 3, 8, 3),
    ):  # fmt: skip
        yield dict(zip(("num_weights", "group_size", "scale_bits", "zero_point_bits"), numbers, strict=True))
    while True:
        group = draw.choice((1, 3, 32, 64, 100, 128, draw.randrange(1, 300)))
        count = draw.choice(
            (
                draw.randrange(40),
                group * draw.randrange(50),
                draw.randrange(10**5),
                draw.randrange(2**25, 10**10) | 1,
            )
        )
        yield dict(num_weights=count, group_size=group, scale_bits=draw.choice((8, 16, 32)), zero_point_bits=draw.choice((0, 3, 4, 8, 16)))  # fmt: skip


INT4 = Family(
    int4_bytes,
    int4_cases,
    (Part(mistakes={
        "Each group has a scale and a zero point. Are both counted?": (_int4(extras="scale"), _int4(extras="zero")),
        "The weights alone take that. What do the groups add?": _int4(extras="none"),
        "Is that bits rather than bytes?": _int4(divide=1),
        "Has each weight a scale of its own, or each group?": _int4(groups="each"),
        "Has each group a scale of its own, or are all weights one group?": _int4(groups="one"),
        "The last group may be incomplete. Does it have a scale, too?": (_int4(groups="down"), _int4(groups="near")),
        "Can a part of a group have a part of a scale?": _int4(groups="exact"),
        "Groups that come out even need no other. Is one added?": _int4(groups="over"),
        "Nothing is padded. Is the last group filled up?": _padded,
        "The result may be a fraction. Is it cut, or rounded up?": (_whole, lambda **c: math.ceil(int4_bytes(**c)), lambda **c: round(int4_bytes(**c))),
        "fp32 cannot tell such large whole numbers apart. Is something counted in a tensor of fp32?": _in_fp32,
    }),),
    valid=lambda num_weights, group_size, scale_bits, zero_point_bits: group_size >= 1 and scale_bits >= 8,
)  # fmt: skip


# 4: the crossover


def crossover(
    shape: ModelShape, seq_len: int, weight_size: float, element_size: int, *, per_token: str = "own", sizes: str = "both",
    rounded: str = "over",
) -> float:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
    width = {"own": shape.num_kv_heads * shape.head_dim, "heads": shape.num_heads * shape.head_dim, "hidden": shape.hidden_size,
             "keys": shape.num_kv_heads * shape.head_dim / 2, "half": shape.num_kv_heads * half_heads(shape)}[per_token]  # fmt: skip
    weights = shape.num_params * (weight_size if sizes in ("both", "weights") else 1)
    one = 2 * shape.num_layers * width * seq_len * (element_size if sizes in ("both", "cache") else 1)
    cut: dict[str, Callable[[float], float]] = {
        "over": lambda n: math.floor(n) + 1,
        "floor": math.floor,
        "ceil": math.ceil,
        "exact": lambda n: n,
        "round": round,
    }
    found: float = cut[rounded](weights / one if rounded != "over" else weights // one)
    return found


def _cross(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: crossover(**case, **options)


def _cross_one_token(**case: Any) -> float:
    """Leaves the length out."""
    return crossover(**{**case, "seq_len": 1})


def _at_least_one(**case: Any) -> float:
    """Answers 1 where one request's cache is far larger, and one too few elsewhere."""
    return max(1, crossover(**case, rounded="floor"))


def cross_cases(draw: random.Random) -> Iterator[Case]:
    """Yield shapes and lengths: divisions that are even, a single request that is enough, hundreds of them."""
    from dataclasses import replace

    even = replace(PUBLISHED["Llama-2-7B"], name="an invented model", num_params=2**30)
    yield {"shape": even, "seq_len": 2**10, "weight_size": 1.0, "element_size": 2}
    for shape in (even, PUBLISHED["Qwen3-32B"], PUBLISHED["Llama-3-8B"]):
        for seq_len, weight, element in ((4096, 2.0, 2), (100, 0.5, 2), (32768, 4.0, 1), (4096, 0.5195, 1)):
            yield {"shape": shape, "seq_len": seq_len, "weight_size": weight, "element_size": element}
    while True:
        shape, element, weight = (
            a_shape(draw),
            draw.choice((1, 2, 4)),
            draw.choice((0.5, 0.5195, 1, 1.0, 2.0, 2, 4.0)),
        )
        one = shape.kv_elements_per_token * element
        seq_len = max(1, int(shape.num_params * weight / one / draw.choice((0.6, 1.3, 4, 40, 400))))
        if draw.random() < 0.3 and weight != 0.5195:  # comes out even
            count = draw.randrange(1, 60)
            shape = replace(
                shape,
                name="an invented model",
                num_params=int(count * one * seq_len * 2 // (2 * weight)) or 1,
            )
        ratio = shape.num_params * weight / (one * seq_len)
        near = abs(ratio - round(ratio)) < 1e-9 * max(1, ratio)
        if not near or shape.num_params * weight == round(ratio) * one * seq_len:
            yield {"shape": shape, "seq_len": seq_len, "weight_size": weight, "element_size": element}


CROSS = Family(
    crossover,
    cross_cases,
    (Part(mistakes={
        "At that number, is the cache larger than the weights, or just as large or smaller?": (
            _cross(rounded="ceil"), _cross(rounded="floor"), _at_least_one, lambda **c: max(1, crossover(**c, rounded="ceil"))),
        "Do weights and cache have the same number of bytes per element?": (
            _cross(sizes="none"), _cross(sizes="weights"), _cross(sizes="cache"),
            lambda **c: crossover(**{**c, "weight_size": c["element_size"]}), lambda **c: crossover(**{**c, "element_size": c["weight_size"]})),
        "A number of requests is whole. Which whole number is the first?": (_cross(rounded="exact"), _cross(rounded="round")),
        "Is the length of the requests in it?": _cross_one_token,
        "Both keys and values are kept: are both counted?": _cross(per_token="keys"),
        "Which heads have keys and values of their own, query heads or KV heads?": (_cross(per_token="heads"), _cross(per_token="hidden")),
        "Is a head as wide as hidden_size / num_heads? A shape has a head_dim of its own.": _cross(per_token="half"),
    }),),
    shown=shown,
)  # fmt: skip


# 5: a deployment

TYPES = {"bf16": 2.0, "int8": 1.0, "int4": 0.5195}
"""Bytes per weight, best quality first; the cache stays in two bytes."""


def choose(
    shape: ModelShape, seq_len: int, requests: int, devices: Offers, *, share: float = 0.9, unit: float = GiB, by: str = "price",
    order: tuple[str, ...] = ("bf16", "int8", "int4"), cache: str = "all", outer: str = "device", factor: float = 2.0,
) -> tuple[str, str] | None:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
    keys = {"price": lambda d: d[2], "dear": lambda d: -d[2], "name": lambda d: d[0], "memory": lambda d: d[1],
            "large": lambda d: -d[1], "ratio": lambda d: d[2] / d[1]}  # fmt: skip
    ordered = sorted(devices, key=keys[by]) if by != "listed" else list(devices)
    count = {"all": requests, "one": 1, "none": 0}[cache]
    width = shape.num_kv_heads * shape.head_dim if cache != "hidden" else shape.hidden_size
    held = count * seq_len * 2 * factor * shape.num_layers * width
    pairs = (
        [(d, t) for d in ordered for t in order]
        if outer == "device"
        else [(d, t) for t in order for d in ordered]
    )
    fits = ((*d[0:1], t) for d, t in pairs if shape.num_params * TYPES[t] + held <= share * d[1] * unit)
    return next(((str(name), t) for name, t in fits), None)


def _choose(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: choose(**case, **options)


def offers(draw: random.Random) -> Iterator[Case]:
    """Yield traffic and offers: none, one, dear small ones and cheap large ones, just too small or just large enough."""
    llama, qwen = PUBLISHED["Llama-3-8B"], PUBLISHED["Qwen3-32B"]
    devices = [("large", 64.0, 4.0), ("small", 32.0, 1.5), ("huge", 128.0, 9.0)]
    for shape, seq_len, requests in (
        (llama, 4096, 20), (llama, 4096, 84), (llama, 4096, 24), (llama, 4096, 33), (qwen, 4096, 8), (qwen, 8192, 20),
        (qwen, 32768, 200), (llama, 1, 1), (llama, 4096, 86), (llama, 4096, 0),
    ):  # fmt: skip
        yield {"shape": shape, "seq_len": seq_len, "requests": requests, "devices": list(devices)}
    yield {"shape": llama, "seq_len": 10, "requests": 1, "devices": []}
    dear = [("small", 32.0, 5.0), ("huge", 128.0, 9.0), ("large", 64.0, 4.0)]
    yield {"shape": llama, "seq_len": 4096, "requests": 4, "devices": dear}
    while True:
        case = _offer(draw)
        needs = [case["shape"].num_params * size + case["requests"] * case["seq_len"] * 2 * case["shape"].kv_elements_per_token
                 for size in TYPES.values()]  # fmt: skip
        if all(abs(need / (0.9 * gib * GiB) - 1) > 1e-6 for need in needs for _, gib, _ in case["devices"]):
            yield case


def _offer(draw: random.Random) -> Case:
    """Return a case whose devices lie around what is needed."""
    shape = a_shape(draw)
    seq_len, requests = draw.choice((1, 100, 4096, 32768)), draw.choice((1, 8, draw.randrange(1, 300)))
    cache = requests * seq_len * 2 * shape.kv_elements_per_token
    names = draw.sample(("Ada", "Bea", "Cyd", "Dot", "Eve"), draw.randrange(1, 6))
    prices = draw.sample(range(1, 40), len(names))
    devices = []
    for name, price in zip(names, prices, strict=True):
        need = shape.num_params * draw.choice(list(TYPES.values())) + draw.choice((cache, cache, 0))
        gib = need / GiB * draw.choice((0.93, 0.97, 1.03, 1.1, 1.13, 1.3, 2.0))
        devices.append((name, round(gib, draw.choice((1, 3))), float(price)))
    return {"shape": shape, "seq_len": seq_len, "requests": requests, "devices": devices}


def offer_kind(got: Any, case: Case) -> tuple[Any]:
    """Return the pair, or None. Raises CheckFailed when it is something else."""
    if got is None:
        return (None,)
    names = {name for name, _, _ in case["devices"]}
    words = isinstance(got, tuple | list) and all(isinstance(part, str) for part in got)
    if not (words and len(got) == 2 and got[0] in names and got[1] in TYPES):
        raise CheckFailed("another choice is right", shown(case), got=describe(got),
                          hint="The answer is a pair, a device's name and a type of the table, or None.")  # fmt: skip
    return (tuple(got),)


def offer_facts(got: Any, right: Any, case: Case) -> str:
    """Return what follows from a wrong choice alone."""
    if got is None:
        return "There is one that holds all requests. Were all devices and all types tried?"
    by_name = {name: (gib, price) for name, gib, price in case["devices"]}
    gib, price = by_name[got[0]]
    shape = case["shape"]
    need = (
        shape.num_params * TYPES[got[1]]
        + case["requests"] * case["seq_len"] * 2 * shape.kv_elements_per_token
    )
    if need > gib * GiB:
        return "That does not fit. Are weights and the caches of all requests counted?"
    if need > 0.9 * gib * GiB:
        return "That fills the device to the brim. Is a tenth of it left free?"
    if right and price > by_name[right[0]][1]:
        return "That holds them, and costs more than needed. Is there a cheaper device, with smaller weights perhaps?"
    return "On that device a better type fits as well. In which order are types tried?"


_DEARER = (
    "That holds them, and costs more than needed. Is there a cheaper device, with smaller weights perhaps?"
)
OFFER = Family(
    choose,
    offers,
    (Part(broken="another choice is right", facts=offer_facts, mistakes={
        "That fills the device to the brim. Is a tenth of it left free?": _choose(share=1.0),
        "That would be right if a GiB were 1e9 bytes. How many bytes is it?": _choose(unit=10**9),
        "The cheapest device is asked for, not the one that is cheapest for each GiB.": _choose(by="ratio"),
        "Are devices tried by price? In the list they come in any order. That choice costs more than needed.": tuple(
            _choose(by=by) for by in ("listed", "dear", "name", "memory", "large")),
        "The cheapest device comes first, and on it the best type. That choice costs more than needed.": _choose(outer="type"),
        "On that device a better type fits as well. In which order are types tried?": (
            _choose(order=("int4", "int8", "bf16")), _choose(order=("int4",)), _choose(order=("int8", "bf16", "int4"))),
        "Are all three types tried? That choice costs more than needed.": (_choose(order=("bf16",)), _choose(order=("bf16", "int8"))),
        "That does not fit. Are weights and the caches of all requests counted?": (_choose(cache="one"), _choose(cache="none")),
        "Keys and values take two bytes each. Are both counted?": (_choose(factor=1.0), _choose(factor=0.5)),
    }),),
    kind=offer_kind,
    shown=shown,
)  # fmt: skip
