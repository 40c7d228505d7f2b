"""Lab 2, prefill/decode profiling: engines to measure, passes of any model on any device, operator tables."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from helpers.checks.families.shapes import a_shape, half_heads, shown
from helpers.checks.machinery.core import require_finite
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.pretend import PretendEngine
from helpers.checks.machinery.values import equal, is_number, plain
from helpers.estimates.hardware import ACCELERATORS, Accelerator
from helpers.model.shapes import PUBLISHED, ModelShape

Row = tuple[str, int, float, float]


# 2: a profiler


def profile(
    engine: PretendEngine, prompt: Sequence[int], max_new_tokens: int, *, warm: str = "both", patient: bool = True,
    clock: str = "clock", waits: bool = True, loop: str = "next", begin: bool = True, late: bool = False,
    mean: str = "mean", more: int = 0, drop: bool = False,
) -> tuple[list[int], float, float]:  # fmt: skip
    """The reference, `(tokens, ttft, tpot)`; with one of the options changed a wrong answer."""
    read, wait = getattr(engine, clock), engine.wait if waits else lambda: None
    token = 0
    if warm != "none":
        token = engine.start(prompt)
        token = engine.next(token) if warm == "both" else token
        if patient:
            engine.wait()
    times = [read()]
    tokens = [engine.start(prompt) if begin else engine.next(token)]
    if not late:
        wait()
        times.append(read())
    while len(tokens) < max_new_tokens + more:
        tokens.append(engine.start(tokens[-1:]) if loop == "start" else engine.next(tokens[-1]))
        wait()
        times.append(read())
    if len(times) == 1:
        wait()
        times.append(read())
    first = times[1] - times[0]
    steps = [b - a for a, b in itertools.pairwise(times[1:])]
    count = max(1, len(steps))
    tpot = {
        "mean": sum(steps) / count, "sum": sum(steps), "last": steps[-1] if steps else 0.0, "first": steps[0] if steps else 0.0,
        "tokens": sum(steps) / max_new_tokens, "prefill": (first + sum(steps)) / max_new_tokens if steps else 0.0,
        "middle": sorted(steps)[len(steps) // 2] if steps else 0.0, "all": (first + sum(steps)) / count if steps else 0.0,
        "prefill always": (first + sum(steps)) / max_new_tokens,
    }[mean]  # fmt: skip
    return tokens[1:] if drop else tokens, first, tpot


def _profile(part: int, **options: Any) -> Wrong:
    """Return a wrong answer to one part."""
    return lambda **case: profile(**case, **options)[part]


def profile_cases(draw: random.Random) -> Iterator[Case]:
    """Yield engines whose decode steps become longer, and prompts and answers of any length, one token included."""
    for prefill, decode, growth, length, count in (
        (0.4, 0.02, 0.1, 150, 12), (0.05, 0.03, 0.0, 20, 5), (1.0, 0.01, 0.1, 80, 1), (0.3, 0.05, 0.2, 40, 2), (0.3, 0.05, 0.2, 1, 3),
    ):  # fmt: skip
        prompt = [(7 * i) % 100 for i in range(length)]
        yield {
            "engine": PretendEngine(prefill, decode, growth=growth),
            "prompt": prompt,
            "max_new_tokens": count,
        }
    while True:
        engine = PretendEngine(
            draw.choice((0.05, 0.4, 2.0)),
            draw.choice((0.005, 0.02, 0.3)),
            growth=draw.choice((0.0, 0.05, 0.3)),
        )
        prompt = [draw.randrange(1000) for _ in range(draw.randrange(1, draw.choice((4, 60))))]
        yield {
            "engine": engine,
            "prompt": prompt,
            "max_new_tokens": draw.choice((1, 2, 3, draw.randrange(1, 16))),
        }


def profile_kind(got: Any, case: Case) -> tuple[list[Any], Any, Any]:
    """Return the three parts. Raises CheckFailed when the result is no mapping with them."""
    given = profile_shown(case)
    if got is None:
        raise CheckFailed("there is no result", given, got=got, hint="Is a return missing?")
    if not isinstance(got, Mapping) or not {"ttft", "tpot", "tokens"} <= set(got):
        raise CheckFailed("expected a dict with ttft, tpot and tokens", given, got=describe(got))
    if not isinstance(got["tokens"], list | tuple):
        raise CheckFailed("tokens is not a list", given, got=describe(got["tokens"]))
    times = [require_finite(got[name], {"value": name, **given}) for name in ("ttft", "tpot")]
    return plain(list(got["tokens"])), times[0], times[1]


def profile_shown(case: Case) -> dict[str, Any]:
    """Return what matters of a case."""
    return {"prompt tokens": len(case["prompt"]), "max_new_tokens": case["max_new_tokens"]}


def tokens_facts(tokens: list[Any], right: list[int], case: Case) -> str:
    """Return what the number of tokens tells."""
    if tokens == right[1:]:
        return "The first token is missing. Which pass gives it?"
    if tokens[: len(right)] == right:
        return f"That is {len(tokens)} tokens. How many does the prefill give, how many the loop?"
    if right[: len(tokens)] == tokens:
        return f"That is only {len(tokens)} tokens. Does the loop end too early?"
    return (
        "Does the request begin with start, after the warm-up? Does each step get the token that came last?"
    )


def time_facts(got: Any, right: float, case: Case) -> str:
    """Return what an impossible time tells."""
    if got < 0:
        return "One of the engine's clocks can be set back. Which one cannot?"
    if 2e-6 < got < 1e-3:
        return "The engine has clocks of its own. Was one of them read?"
    return ""


def _near(one: Any, other: Any) -> bool:
    """Return whether two times are the same to a hundredth."""
    return equal(one, other, rel=0.01)


_ORDERED = "That is the time of the order, not of the work. Does anybody wait for the device?"
_CLOCK = "One of the engine's clocks can be set back. Which one cannot?"
_PREFILL = "Is the prefill in it? TPOT is the mean over the tokens after the first."
PROFILE = Family(
    profile,
    profile_cases,
    (
        Part("tokens", broken="not those of the request", facts=tokens_facts, mistakes={
            "From the second token on, the answer ignores the prompt. Does the loop begin new requests?": (
                _profile(0, loop="start"), _profile(0, loop="start", drop=True), _profile(0, loop="start", drop=True, more=1)),
        }),
        Part("ttft", same=_near, facts=time_facts, mistakes={
            _ORDERED: _profile(1, waits=False),
            "The engine's first prefill ever is slow. Was there one before that did not count?": (
                _profile(1, warm="none"), _profile(1, warm="none", late=True)),
            "Is a decode step in it? The first token comes from the prefill.": _profile(1, late=True),
            "Was the warm-up done when the clock was first read?": (_profile(1, patient=False), _profile(1, warm="prefill", patient=False)),
            _CLOCK: _profile(1, clock="calendar"),
        }),
        Part("tpot", same=_near, facts=time_facts, mistakes={
            "The engine's first decode step ever is slow. Does the warm-up have one?": (_profile(2, warm="prefill"), _profile(2, warm="none")),
            _ORDERED: _profile(2, waits=False),
            _PREFILL: (_profile(2, mean="prefill"), _profile(2, mean="all"), _profile(2, mean="prefill always")),
            "How many steps give how many tokens? The first token is not theirs.": _profile(2, mean="tokens"),
            "Is that the sum of all steps? TPOT is the mean.": _profile(2, mean="sum"),
            "Steps need not take equally long. Is it the mean of all of them, or the time of one?": tuple(
                _profile(2, mean=mean) for mean in ("last", "first", "middle")),
            _CLOCK: _profile(2, clock="calendar"),
        }),
    ),
    kind=profile_kind,
    spent=("engine",),
    shown=profile_shown,
    count=80,
)  # fmt: skip


# 3 and 4: utilisation, and the time at best


def counts(
    shape: ModelShape, batch_size: int, context: int, *, ops: float = 2, requests: bool = True, size: float = 2, weights: str = "once",
    caches: str = "all", pairs: float = 2, width: str = "own", new: int = 0,
) -> tuple[float, float]:  # fmt: skip
    """Return operations and bytes of a decode step; with one of the options changed wrong ones."""
    per_layer = {"own": shape.num_kv_heads * shape.head_dim, "heads": shape.num_heads * shape.head_dim, "hidden": shape.hidden_size,
                 "half": shape.num_kv_heads * half_heads(shape), "exact": shape.num_kv_heads * shape.hidden_size / shape.num_heads}[width]  # fmt: skip
    count = {"all": batch_size, "one": 1, "none": 0}[caches]
    flops = ops * shape.num_params * (batch_size if requests else 1)
    read = (batch_size if weights == "each" else 1) * shape.num_params
    return flops, size * (read + count * (context + new) * pairs * shape.num_layers * per_layer)


def utilisation(
    shape: ModelShape,
    batch_size: int,
    context: int,
    seconds: float,
    peak: float,
    bandwidth: float,
    **options: Any,
) -> tuple[float, float]:
    """The reference; with one of the options changed a wrong answer."""
    flops, nbytes = counts(shape, batch_size, context, **options)
    return flops / seconds / peak, nbytes / seconds / bandwidth


def _used(part: int, factor: float = 1, **options: Any) -> Wrong:
    """Return a wrong answer to one part."""
    return lambda **case: factor * utilisation(**case, **options)[part]


def utilisation_cases(draw: random.Random) -> Iterator[Case]:
    """Yield passes of any model: alone or in a batch, with no context or a long one."""
    for batch, context, seconds in (
        (1, 1000, 0.03),
        (32, 4000, 0.05),
        (8, 0, 0.02),
        (1, 0, 1.0),
        (1, 1, 0.5),
    ):
        yield dict(
            shape=PUBLISHED["Qwen3-32B"],
            batch_size=batch,
            context=context,
            seconds=seconds,
            peak=3e14,
            bandwidth=1.2e12,
        )
    while True:
        yield dict(shape=a_shape(draw), batch_size=draw.choice((1, draw.randrange(1, 300))), context=draw.choice((0, 1, draw.randrange(9000))),
                   seconds=draw.uniform(1e-3, 2), peak=draw.uniform(1e13, 1e15), bandwidth=draw.uniform(1e11, 4e12))  # fmt: skip


def pair_kind(names: str) -> Any:
    """Return what turns a result into two numbers."""

    def kind(got: Any, case: Case) -> tuple[Any, Any]:
        given = shown(case) if "shape" in case else case
        got = got if isinstance(got, tuple | list) else None if got is None else got
        if not isinstance(got, tuple | list) or len(got) != 2:
            hint = "Is a return missing?" if got is None else ""
            raise CheckFailed(f"expected two numbers, {names}", given, got=describe(got), hint=hint)
        return plain(got[0]), plain(got[1])

    return kind


def number_facts(got: Any, right: Any, case: Case) -> str:
    """Say where a part of the result is no number."""
    return "" if is_number(got) else "That is no number."


_OPS = "A multiply-add is two operations. Are both counted?"
_HEAD = "Is a head as wide as hidden_size / num_heads? A shape has a head_dim of its own."
_HEADS = "Which heads have keys and values of their own, query heads or KV heads?"
UTILISATION = Family(
    utilisation,
    utilisation_cases,
    (
        Part("MFU", facts=number_facts, mistakes={
            "Are the two in order? MFU comes first.": _used(1),
            "Shares are between 0 and 1. Is that percent?": _used(0, 100),
            _OPS: _used(0, ops=1),
            "Does each request of the batch have its own operations?": _used(0, requests=False),
        }),
        Part("MBU", facts=number_facts, mistakes={
            "Shares are between 0 and 1. Is that percent?": _used(1, 100),
            "How often are the weights read in one pass, whatever the batch?": _used(1, weights="each"),
            "Does each request of the batch have a cache of its own to read?": _used(1, caches="one"),
            "Decode reads the cache, too. Is it counted?": _used(1, caches="none"),
            "How many bytes has a 16-bit number?": (_used(1, size=1), _used(1, size=4)),
            "Are keys and values both read?": _used(1, pairs=1),
            _HEAD: (_used(1, width="half"), _used(1, width="exact")),
            _HEADS: (_used(1, width="heads"), _used(1, width="hidden")),
            "The new tokens' own entries are left out here. Are they counted?": _used(1, new=1),
        }),
    ),
    kind=pair_kind("MFU and MBU"),
    shown=shown,
)  # fmt: skip


def best(
    shape: ModelShape, batch_size: int, context: int, device: Accelerator, *, combine: Any = max, dtype: str = "fp16",
    unknown: Any = None, unnamed: tuple[str, ...] = (), **options: Any,
) -> Any:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
    bandwidth, peak = device.bandwidth.value, device.peak(dtype).value or 0.0
    if bandwidth is None or device.name in unnamed:
        return unknown
    flops, nbytes = counts(shape, batch_size, context, **options)
    return combine(nbytes / bandwidth, flops / peak)


def _best(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: best(**case, **options)


def device_cases(draw: random.Random) -> Iterator[Case]:
    """Yield devices of the table and invented ones, some without a bandwidth; batches bound by reading and by computing."""
    devices = list(ACCELERATORS.values())
    for device in devices:
        yield dict(shape=PUBLISHED["Qwen3-32B"], batch_size=16, context=500, device=device)
    while True:
        device = draw.choice(devices)
        if draw.random() < 0.6:
            value = draw.choice((None, draw.uniform(1e11, 4e12), draw.uniform(1e11, 4e12)))
            figure = replace(device.bandwidth, value=value, status="unknown" if value is None else "derived")
            device = replace(
                device, name="an invented device", bandwidth=figure, cube_cores=draw.randrange(1, 60)
            )
        yield dict(shape=a_shape(draw), batch_size=draw.choice((1, 64, 700, draw.randrange(1, 2000))),
                   context=draw.choice((0, 16, draw.randrange(3000))), device=device)  # fmt: skip


def device_kind(got: Any, case: Case) -> tuple[Any]:
    """Return the number, or None where nothing is to be predicted."""
    if case["device"].bandwidth.value is None and got is None:
        return (None,)
    return (require_finite(got, device_shown(case)),)


def device_shown(case: Case) -> Mapping[str, Any]:
    """Return a case with the device's bandwidth."""
    given, device = dict(shown(case)), case["device"]
    known = device.bandwidth.value
    return {
        **given,
        "bandwidth": "unknown" if known is None else f"{known:.4g} B/s",
        "peak": f"{device.peak('fp16').value:.4g}/s",
    }


def device_facts(got: Any, right: Any, case: Case) -> str:
    """Say what an unknown bandwidth asks for."""
    return (
        "Nobody published this device's bandwidth. What does the docstring ask for then?"
        if right is None
        else ""
    )


DEVICE = Family(
    best,
    device_cases,
    (Part(facts=device_facts, broken=lambda got, right, case: "the value is wrong: there is nothing to predict from" if right is None else "the value is wrong",
          mistakes={
        "Memory and compute work at the same time. Do their times add up?": _best(combine=lambda a, b: a + b),
        "Reading or computing: one takes longer. Which of the two decides?": (
            _best(combine=min), _best(combine=lambda a, b: a), _best(combine=lambda a, b: b)),
        "Are the caches of all requests read?": _best(caches="one"),
        "Is the KV cache read, too?": (_best(caches="none"), _best(caches="none", combine=lambda a, b: a)),
        _OPS: _best(ops=1),
        "Does each request of the batch have its own operations?": _best(requests=False),
        "Whose peak is that: of 16-bit numbers, or of 8-bit ones?": _best(dtype="int8"),
        "How often are the weights read in one pass?": _best(weights="each"),
        "How many bytes has a 16-bit number?": _best(size=1),
        "Are keys and values both read?": _best(pairs=1),
        _HEAD: (_best(width="half"), _best(width="exact")),
        _HEADS: (_best(width="heads"), _best(width="hidden")),
        "Which devices have no published bandwidth? A figure says so itself.": tuple(
            _best(unnamed=(name,)) for name, device in ACCELERATORS.items() if device.bandwidth.value is None),
        "Nobody published this device's bandwidth. What does the docstring ask for then?": (
            _best(unknown=0.0), _best(unknown=math.inf), _best(unknown=math.nan)),
    }),),
    kind=device_kind,
    shown=device_shown,
)  # fmt: skip


# 5: an operator table


def speedup(
    rows: Sequence[Row], wall: float, names: Sequence[str], factor: float, *, column: int = 3, calls: str = "all", listed: bool = False,
    left: str = "faster", inverse: bool = False, pick: str = "sum", empty: Any = None,
) -> float:  # fmt: skip
    """The reference; with one of the options changed a wrong answer."""
    if empty is not None and not names:
        return float(factor if empty == "factor" else empty)
    chosen = [row for row in rows if row[0] in names]
    times = [
        float(row[column]) * {"all": 1, "each": row[1]}.get(calls, 1) / (row[1] if calls == "one" else 1)
        for row in chosen
    ]
    if pick == "last":
        times = list({row[0]: time for row, time in zip(chosen, times, strict=True)}.values())
    if pick == "first":
        times = list({row[0]: time for row, time in zip(chosen[::-1], times[::-1], strict=True)}.values())
    own = max(times, default=0.0) if pick == "max" else sum(times)
    total = sum(row[3] for row in rows) if listed else wall
    rest = {"faster": own / factor, "gone": 0.0, "saved": own - own / factor}[left]
    new = total - own + rest
    if new <= 0:
        return 0.0
    return new / total if inverse else total / new


def _speedup(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: speedup(**case, **options)


def table_cases(draw: random.Random) -> Iterator[Case]:
    """Yield tables in which names come twice or not at all, operators hold others, and Python takes any share of the pass."""
    for names, factor in ((("addmm",), 2.0), (("rms_norm", "mean", "mul"), 4.0), (("linear", "addmm"), 3.0), ((), 2.0),
                          (("softmax",), 2.0), (("addmm",), 1.0), (("silu", "softmax"), 8)):  # fmt: skip
        yield {"rows": list(_ROWS), "wall": 25.0, "names": list(names), "factor": factor}
    yield {"rows": [*_ROWS, ("addmm", 4, 1.0, 1.0)], "wall": 25.0, "names": ["addmm"], "factor": 2.0}
    yield {"rows": [], "wall": 5.0, "names": ["addmm"], "factor": 2.0}
    yield {"rows": [("mul", 3, 4.0, 4.0)], "wall": 4.0, "names": ["mul"], "factor": 2.0}
    while True:
        words = ("linear", "add", "addmm", "norm", "rms_norm", "mul", "matmul")
        rows: list[Row] = []
        for _ in range(draw.randrange(1, 8)):
            own = draw.randrange(1, 100) / 4
            rows.append(
                (draw.choice(words), draw.randrange(1, 130), own + draw.choice((0.0, 3.0, 20.0)), own)
            )
        listed = sum(row[3] for row in rows)
        chosen = draw.sample((*words, "softmax"), draw.randrange(4))
        yield {
            "rows": rows,
            "wall": listed + draw.choice((0.0, 0.5, 30.0)),
            "names": chosen,
            "factor": draw.choice((1.0, 1.5, 2.0, 10.0)),
        }


# Milliseconds of a pass, as a profiler lists them: name, calls, with what it called, by itself.
_ROWS: list[Row] = [
    ("linear", 121, 14.0, 0.8), ("addmm", 121, 13.2, 13.2), ("rms_norm", 61, 2.4, 0.3), ("mean", 61, 0.9, 0.9),
    ("mul", 122, 1.2, 1.2), ("scaled_dot_product_attention", 30, 1.5, 1.5), ("silu", 30, 0.5, 0.5),
]  # fmt: skip


def _is_table(rows: Sequence[Row], wall: float, names: Sequence[str], factor: float) -> bool:
    """Return whether a table's times lie within the pass."""
    fit = all(len(row) == 4 and row[1] >= 1 and 0 < row[3] <= row[2] for row in rows)
    return (
        fit
        and factor >= 1
        and wall > 0
        and wall >= sum(row[3] for row in rows)
        and len({*names}) == len(names)
    )


SPEEDUP = Family(
    speedup,
    table_cases,
    (Part(mistakes={
        "An operator's total holds the operators that it called. Is time counted twice?": (_speedup(column=2), _speedup(column=2, pick="max")),
        "Is the time for all calls, or for one?": (_speedup(calls="each"), _speedup(calls="one")),
        "Between operators there is Python. Is that in the pass, too?": _speedup(listed=True),
        "Does the rest of the pass become faster, too?": (
            lambda rows, wall, names, factor: factor if names else 1.0, lambda rows, wall, names, factor: factor),
        "What remains of the operators' time when they are faster?": (_speedup(left="gone"), _speedup(left="saved")),
        "Is that the share of the time that is left, or how many times as fast?": (
            _speedup(inverse=True), lambda rows, wall, names, factor: speedup(rows, wall, names, factor, inverse=bool(names))),
        "An operator may be listed more than once. Do all its rows count?": (_speedup(pick="last"), _speedup(pick="first")),
        "Is only one of the operators sped up?": _speedup(pick="max"),
        "Nothing became faster here. What is the answer then?": (_speedup(empty="factor"), _speedup(empty=0.0)),
    }),),
    valid=_is_table,
)  # fmt: skip
