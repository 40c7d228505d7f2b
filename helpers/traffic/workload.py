"""Synthetic traffic: Poisson, bursty and daily arrivals, shared beginnings, conversations.

Equal seeds give equal requests. The lengths, clients and priorities of a seed do not depend on the arrivals.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from helpers.traffic.lengths import Lengths, Mix, stream
from helpers.traffic.trace import Arrival, Trace

_MIX = Mix()
_QUESTIONS = Mix(prompt=Lengths(48, 0.6, 4, 256))
_BEGINNING = Lengths(256)


def poisson(count: int, rate: float, mix: Mix = _MIX, seed: int = 0) -> Trace:
    """Return `count` requests, on average `rate` per second, each independent of the others."""
    return _trace("Poisson", _times(stream(seed, "arrivals").exponential(1.0, count), rate), mix, seed)


def bursty(count: int, rate: float, burstiness: float = 3.0, mix: Mix = _MIX, seed: int = 0) -> Trace:
    """Return requests as `poisson`, but with Gamma distributed gaps.

    The standard deviation of the gaps is `burstiness` times their mean; 1 is Poisson again. Raises ValueError
    for a burstiness that is not above 0.
    """
    if not burstiness > 0:
        raise ValueError(f"burstiness must be above 0, got {burstiness}")
    shape = burstiness**-2
    return _trace("bursty", _times(stream(seed, "arrivals").gamma(shape, 1 / shape, count), rate), mix, seed)


def diurnal(
    count: int, rate: float, period: float, swing: float = 0.8, mix: Mix = _MIX, seed: int = 0
) -> Trace:
    """Return a Poisson process whose rate is `rate * (1 - swing * cos(2 pi t / period))`.

    Night is at 0, midday at half a period (seconds). Raises ValueError for a period that is not above 0, and
    for a swing that is not between 0 and 1.
    """
    if not period > 0 or not 0 <= swing <= 1:
        raise ValueError(f"expected a period above 0 and a swing of 0 to 1, got {period} and {swing}")
    even = _times(stream(seed, "arrivals").exponential(1.0, count), rate)
    end = even[-1] + 2 * period if count else period
    grid = np.linspace(0.0, end, 100 * (count + math.ceil(end / period)))
    passed = grid - swing * period / (2 * math.pi) * np.sin(2 * math.pi * grid / period)
    # Arrivals were drawn at an even rate: each moves to the moment when the real rate adds up to as much.
    return _trace("diurnal", np.interp(even, passed, grid), mix, seed)


def shared_prefix(
    count: int,
    rate: float,
    groups: int = 8,
    shared: Lengths = _BEGINNING,
    mix: Mix = _QUESTIONS,
    popularity: float = 1.0,
    seed: int = 0,
) -> Trace:
    """Return requests as `poisson`, each prompt behind the beginning of one of `groups` groups.

    A beginning has `shared` length; the mix's prompt follows it. The k-th group is drawn with a weight of
    `k ** -popularity` (Zipf); 0 draws groups evenly. Raises ValueError for less than one group.
    """
    if groups < 1:
        raise ValueError(f"groups must be 1 or more, got {groups}")
    begins = shared.draw(groups, stream(seed, "beginnings"))
    weights = np.arange(1, groups + 1) ** -float(popularity)
    drawn = stream(seed, "groups").choice(groups, size=count, p=weights / weights.sum())
    arrivals = [
        replace(a, prompt_tokens=a.prompt_tokens + begins[g], group=str(g), shared_tokens=begins[g])
        for a, g in zip(poisson(count, rate, mix, seed), drawn, strict=True)
    ]
    return Trace(arrivals, "shared prefix", seed)


def multi_turn(
    talks: int,
    rate: float,
    turns: int = 4,
    think: float = 5.0,
    system_tokens: int = 0,
    mix: Mix = _QUESTIONS,
    seed: int = 0,
) -> Trace:
    """Return `talks` conversations of `turns` requests each.

    On average `rate` conversations begin per second. Each conversation is a client of its own. A turn's
    prompt is the whole text before the turn, and a new question of the mix's prompt length. Each turn comes
    on average `think` seconds after the arrival of the previous turn (exponential). If the answer to the
    previous turn ends later, the turn comes at that end. All conversations begin with the same
    `system_tokens` tokens. Raises ValueError for less than one turn, and for negative `think` or
    `system_tokens`.
    """
    if turns < 1 or not think >= 0 or system_tokens < 0:
        raise ValueError(
            f"expected turns >= 1, think >= 0, system_tokens >= 0, got {turns}, {think}, {system_tokens}"
        )
    begins = _times(stream(seed, "arrivals").exponential(1.0, talks), rate)
    pauses = think * stream(seed, "pauses").exponential(1.0, (talks, turns))
    pauses[:, 0] = 0.0
    moments = begins[:, None] + np.cumsum(pauses, axis=1)
    asked = mix.prompt.draw(talks * turns, stream(seed, "prompts"))
    said = mix.answer.draw(talks * turns, stream(seed, "answers"))
    indices: dict[tuple[int, int], int] = {}
    arrivals: list[Arrival] = []
    for at, i, j in sorted((float(moments[i, j]), i, j) for i in range(talks) for j in range(turns)):
        indices[i, j] = len(arrivals)
        before = arrivals[indices[i, j - 1]] if j else None
        text = before.prompt_tokens + before.new_tokens if before else system_tokens
        arrivals.append(
            Arrival(
                at,
                text + asked[i * turns + j],
                said[i * turns + j],
                client=f"talk {i}",
                group="system" if system_tokens else None,
                shared_tokens=system_tokens,
                follows=indices[i, j - 1] if j else None,
            )
        )
    return Trace(arrivals, "multi-turn", seed)


def with_caps(trace: Trace, longest: Lengths, seed: int = 0) -> Trace:
    """Return the same trace, in which clients allow answers of `longest` length.

    A client allows the true length where that is more.
    """
    caps = longest.draw(len(trace), stream(seed, "caps"))
    arrivals = [replace(a, max_tokens=max(cap, a.new_tokens)) for a, cap in zip(trace, caps, strict=True)]
    return replace(trace, arrivals=arrivals)


def _trace(name: str, times: NDArray[np.float64], mix: Mix, seed: int) -> Trace:
    """Return a trace of requests at these times."""
    count = len(times)
    prompts = mix.prompt.draw(count, stream(seed, "prompts"))
    answers = mix.answer.draw(count, stream(seed, "answers"))
    who = stream(seed, "clients").integers(0, len(mix.clients), count)
    how = stream(seed, "priorities").integers(0, len(mix.priorities), count)
    arrivals = [
        Arrival(float(at), p, a, client=mix.clients[c], priority=mix.priorities[u])
        for at, p, a, c, u in zip(times, prompts, answers, who, how, strict=True)
    ]
    return Trace(arrivals, name, seed)


def _times(gaps: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Return moments at `rate` per second with such gaps between them, the first at 0.

    Raises ValueError for a rate that is not above 0.
    """
    if not 0 < rate < math.inf:
        raise ValueError(f"the rate must be above 0, in requests per second, got {rate}")
    moments = np.cumsum(gaps) / rate
    return moments - moments[0] if len(moments) else moments
