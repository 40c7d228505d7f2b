"""Exercise 1.5: traffic, and devices to choose from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.checks.families.shapes import a_shape, shown
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.estimates.units import GiB
from helpers.model.shapes import PUBLISHED, ModelShape

Offers = Sequence[tuple[str, float, float]]


TYPES = {"bf16": 2.0, "int8": 1.0, "int4": 0.5195}
"""Bytes per weight, best quality first; the cache stays in two bytes."""


def choose(
    shape: ModelShape, seq_len: int, requests: int, devices: Offers, *, share: float = 0.9, unit: float = GiB, by: str = "price",
    order: tuple[str, ...] = ("bf16", "int8", "int4"), cache: str = "all", outer: str = "device", factor: float = 2.0,
    half: bool = False, typed: bool = False,
) -> tuple[str, str] | None:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    keys = {"price": lambda d: d[2], "dear": lambda d: -d[2], "name": lambda d: d[0], "memory": lambda d: d[1],
            "large": lambda d: -d[1], "ratio": lambda d: d[2] / d[1], "whole": lambda d: int(d[2])}  # fmt: skip
    ordered = sorted(devices, key=keys[by]) if by != "listed" else list(devices)
    count = {"all": requests, "one": 1, "none": 0}[cache]
    width = shape.num_kv_heads * shape.head_dim if cache != "hidden" else shape.hidden_size
    held = count * seq_len * 2 * factor * shape.num_layers * width
    pairs = (
        [(d, t) for d in ordered for t in order]
        if outer == "device"
        else [(d, t) for t in order for d in ordered]
    )
    sizes = TYPES | ({"int4": 0.5} if half else {})
    fits = ((*d[0:1], t) for d, t in pairs
            if shape.num_params * sizes[t] + held * (sizes[t] / 2 if typed else 1) <= share * d[1] * unit)  # fmt: skip
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
    names = draw.sample(("Ada", "Bea", "Cyd", "Dot", "Eve", "Fay", "Gus"), draw.randrange(1, 8))
    small = draw.random() < 0.3  # all but the dearest are, and hold nothing
    unit = draw.choice((1, 1, 0.25, 1000))
    prices = [unit * n for n in draw.sample(range(1, 40), len(names))]
    devices = []
    for name, price in zip(names, prices, strict=True):
        need = shape.num_params * draw.choice(list(TYPES.values())) + draw.choice((cache, cache, 0))
        if small and price != max(prices):
            need /= 8
        gib = need / GiB * draw.choice((0.93, 0.97, 1.03, 1.1, 1.13, 1.3, 2.0))
        digits = draw.choice((1, 3))
        devices.append((name, max(round(gib, digits), 10.0**-digits), float(price)))
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
        "Prices may have cents, and be in any currency. Is a part of a price cut off?": _choose(by="whole"),
        "The cheapest device comes first, and on it the best type. That choice costs more than needed.": _choose(outer="type"),
        "On that device a better type fits as well. In which order are types tried?": (
            _choose(order=("int4", "int8", "bf16")), _choose(order=("int4",)), _choose(order=("int8", "bf16", "int4"))),
        "Are all three types tried? That choice costs more than needed.": (_choose(order=("bf16",)), _choose(order=("bf16", "int8"))),
        "That does not fit. Are weights and the caches of all requests counted?": (_choose(cache="one"), _choose(cache="none")),
        "Four bits are more than half a byte here: groups have scales. Which number does the text give?": _choose(half=True),
        "The cache takes two bytes per element, whatever the weights take.": _choose(typed=True),
        "Keys and values take two bytes each. Are both counted?": (_choose(factor=1.0), _choose(factor=0.5)),
    }),),
    kind=offer_kind,
    shown=shown,
)  # fmt: skip
