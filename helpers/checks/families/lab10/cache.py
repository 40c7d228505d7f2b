"""Exercise 10.6: keys and values in 8 bits, and from which length on they pay."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_number, is_whole, plain

Gain = tuple[float, int | None]
_LONGEST = 1e11


def int8_gain(
    heads: int, head_dim: int, layers: int, weight_bytes: float, bandwidth: float, unpack: float, speedup: float, *, scales: str = "head",
    sides: int = 2, unpacked: str = "times", weights: str = "same", rounding: str = "up", never: bool = True, wide: int = 2,
    codes: int = 1, compared: str = "ratio",
) -> Gain:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    numbers = sides * layers * heads * head_dim
    stored = {"head": 2 * sides * layers * heads, "none": 0, "token": 2 * sides * layers, "wide": 4 * sides * layers * heads,
              "byte": sides * layers * heads, "number": 2 * numbers, "side": 2 * layers * heads}[scales]  # fmt: skip
    plain_bytes, packed = wide * numbers, codes * numbers + stored
    unpacking = {"times": numbers / unpack, "none": 0.0, "bytes": packed / unpack, "once": 0.0}[unpacked]
    gain = plain_bytes - speedup * (packed + unpacking * bandwidth)
    extra = numbers / unpack * bandwidth if unpacked == "once" else 0.0
    if compared == "saved":
        gain = plain_bytes - packed - unpacking * bandwidth
    if gain <= 0 and never:
        return plain_bytes / packed, None
    read = {"same": weight_bytes * (speedup - 1), "none": 0.0, "smaller": weight_bytes * (speedup / 2 - 1)}[
        weights
    ]
    tokens = (read + speedup * extra) / gain
    count = {
        "up": math.ceil(tokens),
        "down": math.floor(tokens),
        "nearest": round(tokens),
        "next": math.floor(tokens) + 1,
    }[rounding]
    return plain_bytes / packed, max(0 if rounding == "down" else 1, count)


def cache_cases(draw: random.Random) -> Iterator[Case]:
    """Yield models and machines: narrow heads and wide ones, machines that unpack in no time, and too slowly."""
    for unpacked in (0.455, 0.495):  # less than a byte of a token's 64 is won, or lost
        yield {"heads": 1, "head_dim": 16, "layers": 1, "weight_bytes": 1001, "bandwidth": 1e9, "unpack": 1e9 / unpacked, "speedup": 1.25}  # fmt: skip
    # 10 tokens exactly, in numbers that fp64 holds: a speed-up of just 1.25
    yield {"heads": 1, "head_dim": 16, "layers": 1, "weight_bytes": 360, "bandwidth": 2.0**30, "unpack": 2.0**32, "speedup": 1.25}  # fmt: skip
    while True:
        case: Case = {
            "heads": draw.randrange(1, 9),
            "head_dim": draw.choice((16, 32, 64, 128, 256)),
            "layers": draw.randrange(1, 33),
            "weight_bytes": draw.randrange(10**6, draw.choice((10**7, 10**9, 10**10, 10**14))),
            "bandwidth": draw.choice((2e10, 1e11, 1.5e12)),
            "speedup": round(draw.uniform(1.02, 1.8), 3),
        }
        case["unpack"] = case["bandwidth"] * draw.choice((0.4, 0.9, 1.3, 2.5, 6.0, 40.0))
        if is_clear(**case):
            yield case


def is_clear(**case: Any) -> bool:
    """Return whether all is above 0, and fp64 finds the number of tokens without doubt."""
    if min(case.values()) <= 0 or case["speedup"] <= 1.001:
        return False
    numbers = 2 * case["layers"] * case["heads"] * case["head_dim"]
    packed = numbers + 4 * case["layers"] * case["heads"]
    gain = 2 * numbers - case["speedup"] * (packed + numbers * case["bandwidth"] / case["unpack"])
    tokens = case["weight_bytes"] * (case["speedup"] - 1) / gain if gain else 0.0
    doubt = max(1e-3, tokens * 1e-12)
    clear = abs(gain) > 1e-3 * numbers and (gain < 0 or abs(tokens - round(tokens)) > doubt)
    return clear and 0 != tokens < _LONGEST


def cache_kind(got: Any, case: Case) -> Gain:
    """Return the two parts. Raises CheckFailed when they are something else."""
    got = plain(got)
    if not isinstance(got, tuple | list) or len(got) != 2:
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed("expected two things: more, tokens", case, got=describe(got), hint=hint)
    more, tokens = got
    if not is_number(more):
        raise CheckFailed("more: expected a number", case, got=describe(more))
    if isinstance(tokens, float) and tokens.is_integer():
        tokens = int(tokens)
    if tokens is not None and not is_whole(tokens):
        hint = "A cache holds whole tokens. Which whole number is the first that suffices?"
        raise CheckFailed("tokens: expected a whole number, or None", case, got=describe(tokens), hint=hint)
    return more, tokens


_MORE: Mapping[str, tuple[dict[str, Any], ...]] = {
    "8 bits have scales beside them. Are these counted?": ({"scales": "none"},),
    "Each token has a scale in each head. Is it one for all heads?": ({"scales": "token"},),
    "A scale is a bf16 number. How many bytes has it?": ({"scales": "wide"}, {"scales": "byte"}),
    "Keys have scales, and values have theirs. Are both counted?": ({"scales": "side"},),
    "A head's numbers of one token share a scale. Has every number its own here?": ({"scales": "number"},),
    "The cache that is replaced has 16 bits. Is it compared with 32?": ({"wide": 4},),
}
_TOKENS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "Keys and values: two sides. Is one left out?": ({"sides": 1},),
    "Each number that is read must be unpacked. Is the time for that in it?": ({"unpacked": "none"},),
    "Unpacking is counted in numbers, and scales are none of these. Are bytes divided?": ({"unpacked": "bytes"},),
    "Every cached token is unpacked in every step. Is it done once?": ({"unpacked": "once"},),
    "A step reads the weights, too, in both cases. Are they in it?": ({"weights": "none"},),
    "The weights stay as they are: only keys and values have 8 bits. Are they halved?": ({"weights": "smaller"},),
    "At the number below the speed-up is not reached yet. Is it rounded up?": ({"rounding": "down"}, {"rounding": "nearest"}),
    "A speed-up that is just reached counts. Is one token added?": ({"rounding": "next"},),
    "Where a longer cache makes it no better, no length suffices: None. Is a number below 1 let through?": ({"never": False},),
    "Is that the length from which time is saved, or from which the step is `speedup` times as fast?": ({"compared": "saved"},),
    "8 bits have scales beside them, which are read, too. Are they in the time?": ({"scales": "none"},),
}  # fmt: skip


def _wrong(
    mistakes: Mapping[str, tuple[dict[str, Any], ...]], part: int | None
) -> dict[str, tuple[Wrong, ...]]:
    """Return the wrong answers to one part, or to both where there is none."""
    chosen = slice(None) if part is None else part
    return {
        words: tuple(
            lambda options=options, **case: int8_gain(**case, **options)[chosen] for options in several
        )
        for words, several in mistakes.items()
    }


def cache_facts(got: Any, right: Any, case: Case) -> str:
    """Return what None in the wrong place tells."""
    if right is None:
        return "Does int8 ever reach this speed-up here, however long the cache is?"
    return "There is such a length. Where does None come from?" if got is None else ""


CACHE = Family(
    int8_gain,
    cache_cases,
    (
        Part("more", mistakes=_wrong(_MORE, 0)),
        Part("tokens", mistakes=_wrong(_TOKENS, 1), facts=cache_facts),
    ),
    kind=cache_kind,
    valid=is_clear,
    joint=_wrong(_MORE, None),
)
