"""Exercise 5.4: chunks within a target."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

from helpers.checks.machinery.family import Case, Family, Part, Wrong


def chunk(
    num_params: float, kv_bytes: float, decoding: int, context: int, target: float, peak: float, bandwidth: float, *,
    added: bool = False, ops: int = 2, rounded: Callable[[float], Any] = math.floor, spoken: bool = True, lowest: bool = True,
    cache: float = 1.0, read: bool = True, strict: bool = False, most: float = math.inf, size: int = 2, from_reading: bool = False,
) -> Any:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    reading = (size * num_params + cache * kv_bytes * context * decoding) / bandwidth
    if read and (reading >= target if strict else reading > target):
        return 0
    time = target - reading if added else target
    tokens = time * (bandwidth if from_reading else peak) / (ops * num_params)
    found = rounded(tokens) - (decoding if spoken else 0)
    return min(most, max(0, found) if lowest else found)


def _chunk(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: chunk(**case, **options)


def _chunk_one_cache(**case: Any) -> Any:
    """Read the cache of one request."""
    return chunk(**case, cache=1.0 / max(1, case["decoding"]))


def _chunk_reading_too_late(**case: Any) -> Any:
    """Give the most that fits, not 0, when reading takes too long."""
    return chunk(**case, read=False)


def chunk_cases(draw: random.Random) -> Iterator[Case]:
    """Yield devices and loads: nothing decodes, reading takes too long or exactly the target, computing fills it exactly."""
    device = dict(num_params=7_000_000_000, kv_bytes=131_072, peak=3e14, bandwidth=1.6e12)
    for decoding, context, target in (
        (60, 3000, 0.0251), (20, 500, 0.0301), (100, 2500, 0.028), (0, 0, 0.0203), (700, 20, 0.0101), (0, 1000, 0.9),
        (5, 100, 0.0005),
    ):  # fmt: skip
        yield {**device, "decoding": decoding, "context": context, "target": target}
    yield dict(
        num_params=10**9, kv_bytes=1000, decoding=3, context=10, target=1.0, peak=3e13 + 1e9, bandwidth=1e12
    )
    drawn = 0
    while True:
        drawn += 1
        case = _exact_chunk(draw) if draw.random() < 0.4 else _random_chunk(draw)
        tokens = case["target"] * case["peak"] / (2 * case["num_params"])
        if not _one_answer(case):
            continue  # rounding would decide
        if tokens < 600 or (drawn % 40 == 1 and tokens < 12_000):  # one may look for it step by step
            yield case


def _one_answer(case: Case) -> bool:
    """Return whether all orders of computing find as many whole tokens, and either none or an exact whole number."""
    ops, time = 2 * case["num_params"], case["target"]
    orders = time * case["peak"] / ops, time / (ops / case["peak"]), time / ops * case["peak"]
    near = round(orders[0])
    if any(abs(tokens - near) > 1e-6 * max(1.0, tokens) for tokens in orders):
        return True
    exact = case["num_params"] & case["num_params"] - 1 == 0
    return exact and all(tokens == near for tokens in orders) and near * ops / case["peak"] == time


def _exact_chunk(draw: random.Random) -> Case:
    """Return a case in powers of two, where a time can be exactly the target."""
    params, bandwidth = 2 ** draw.randrange(20, 33), 2.0 ** draw.randrange(36, 41)
    decoding, context = draw.choice((0, 1, 2, 64)), draw.choice((0, 1, 512, 4096))
    kv_bytes = 2 ** draw.randrange(10, 18)
    reading = (2 * params + kv_bytes * context * decoding) / bandwidth
    target = draw.choice((reading, reading * 2, reading / 2))
    tokens = draw.choice(
        (decoding + 1, draw.randrange(1, 500), max(decoding, 1), max(decoding - 1, 1), decoding + 0.5)
    )
    return dict(num_params=params, kv_bytes=kv_bytes, decoding=decoding, context=context, target=target,
                peak=tokens * 2 * params / target, bandwidth=bandwidth)  # fmt: skip


def _random_chunk(draw: random.Random) -> Case:
    """Return a case of any kind."""
    params, bandwidth = draw.randrange(10**8, 10**11), draw.uniform(2e11, 4e12)
    decoding, context, kv_bytes = (
        draw.choice((0, 1, draw.randrange(300))),
        draw.randrange(5000),
        draw.randrange(10**4, 3 * 10**5),
    )
    reading = (2 * params + kv_bytes * context * decoding) / bandwidth
    target = reading * draw.choice((0.6, 0.97, 1.03, 1.5, 4.0))
    tokens = decoding + draw.choice(
        (-5.0, 0.4, draw.uniform(0, 500), draw.uniform(0, 20), draw.uniform(0, 11_000))
    )
    peak = max(tokens, 0.3) * 2 * params / target
    return dict(num_params=params, kv_bytes=kv_bytes, decoding=decoding, context=context, target=target, peak=peak,
                bandwidth=bandwidth)  # fmt: skip


def _one_where_read(**case: Any) -> Any:
    """Give at least 1 where reading alone is fast enough."""
    reading = (2 * case["num_params"] + case["kv_bytes"] * case["context"] * case["decoding"]) / case[
        "bandwidth"
    ]
    return 0 if reading > case["target"] else max(1, chunk(**case))


CHUNK = Family(
    chunk,
    chunk_cases,
    (Part(mistakes={
        "Reading alone takes longer than the target. Which chunk is small enough then?": (
            _chunk_reading_too_late, _chunk(read=False, lowest=False), _chunk(cache=0.0), _chunk(read=False, spoken=False),
        ),
        "Is the cache of each decoding request read?": _chunk_one_cache,
        "How many bytes has a 16-bit weight?": _chunk(size=1),
        "A pass that takes exactly the target stays within it. Is it refused?": (
            _chunk(strict=True), _chunk(rounded=lambda n: math.ceil(n) - 1), _chunk(strict=True, rounded=lambda n: math.ceil(n) - 1)),
        "A chunk is never negative. What if decoding requests fill the pass?": _chunk(lowest=False),
        "Decoding requests are in the pass, too. Is there room for their tokens?": (
            _chunk(spoken=False), _chunk(spoken=False, rounded=float)),
        "Is a chunk a whole number, rounded so that the target holds?": (
            _chunk(rounded=math.ceil), _chunk(rounded=float), _chunk(rounded=round)),
        "Reading and computing happen at the same time. Do their times add up?": _chunk(added=True),
        "A multiply-add is two operations. Are both counted?": _chunk(ops=1),
        "Does computing go at the pace of reading? They have rates of their own.": _chunk(from_reading=True),
        "Every whole number is a chunk. Are only powers of two taken, or multiples?": (
            lambda **c: 1 << chunk(**c).bit_length() - 1 if chunk(**c) else 0,
            *(lambda n=n, **c: chunk(**c) // n * n for n in (8, 16, 32, 64, 128))),
        "Where not even one token fits, the answer is 0. Is it at least 1?": (lambda **c: max(1, chunk(**c)), _one_where_read),
        "Is there a bound on the chunk that the text does not name?": tuple(
            _chunk(most=n) for n in (256, 512, 1000, 1024, 2048, 4096, 8192, 10_000)),
    }),),
)  # fmt: skip
