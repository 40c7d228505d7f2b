"""Exercises 2.3 and 2.4: a decode step of any model, on any device."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from helpers.checks.families.shapes import a_shape, half_heads, shown
from helpers.checks.machinery.core import require_finite
from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import is_number, plain
from helpers.estimates.hardware import ACCELERATORS, Accelerator
from helpers.model.shapes import PUBLISHED, ModelShape


def counts(
    shape: ModelShape, batch_size: int, context: int, *, ops: float = 2, requests: bool = True, size: float = 2, weights: str = "once",
    caches: str = "all", pairs: float = 2, width: str = "own", new: int = 0, least: int = 0, weight_size: float = 0, layers: bool = True,
) -> tuple[float, float]:  # fmt: skip
    """Return operations and bytes of a decode step; with one of the options changed wrong ones."""
    per_layer = {"own": shape.num_kv_heads * shape.head_dim, "heads": shape.num_heads * shape.head_dim, "hidden": shape.hidden_size,
                 "half": shape.num_kv_heads * half_heads(shape), "exact": shape.num_kv_heads * shape.hidden_size / shape.num_heads}[width]  # fmt: skip
    count = {"all": batch_size, "one": 1, "none": 0}[caches]
    flops = ops * shape.num_params * (batch_size if requests else 1)
    read = (batch_size if weights == "each" else 1) * shape.num_params
    cached = count * (max(context, least) + new) * pairs * (shape.num_layers if layers else 1) * per_layer
    return flops, (weight_size or size) * read + size * cached


def utilisation(
    shape: ModelShape,
    batch_size: int,
    context: int,
    seconds: float,
    peak: float,
    bandwidth: float,
    **options: Any,
) -> tuple[float, float]:
    """Return the right answer; with one of the options changed, a wrong one."""
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
        got = got.tolist() if isinstance(got, Tensor) and got.ndim == 1 else got
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
_TIME = "Operations and bytes per second are compared. Is the time in it?"
_CUT = "A share above 1 says that the numbers given cannot be. Is it cut to 1? Then that remains unseen."


def _with_attention(**case: Any) -> float:
    """Count attention's operations, too."""
    shape, work = case["shape"], 4 * case["context"] * case["shape"].num_layers
    more = work * shape.num_heads * shape.head_dim * case["batch_size"]
    return utilisation(**case)[0] + float(more / case["seconds"] / case["peak"])


UTILISATION = Family(
    utilisation,
    utilisation_cases,
    (
        Part("MFU", facts=number_facts, mistakes={
            "Are the two in order? MFU comes first.": _used(1),
            "Shares are between 0 and 1. Is that percent?": _used(0, 100),
            _OPS: _used(0, ops=1),
            "Does each request of the batch have its own operations?": _used(0, requests=False),
            _TIME: lambda **case: utilisation(**case)[0] * case["seconds"],
            "Operations are divided by the peak in operations per second. Is it another rate here?": (
                lambda **case: utilisation(**{**case, "peak": case["bandwidth"]})[0]),
            "Attention's own operations are left out here. Are they counted?": _with_attention,
            "A decode step computes one token of each request. Does the context multiply the operations?": (
                lambda **case: utilisation(**case)[0] * max(1, case["context"]), lambda **case: utilisation(**case)[0] * case["context"],
                lambda **case: utilisation(**case)[0] * (case["context"] + 1)),
            _CUT: lambda **case: min(1.0, utilisation(**case)[0]),
        }),
        Part("MBU", facts=number_facts, mistakes={
            "Shares are between 0 and 1. Is that percent?": _used(1, 100),
            "How often are the weights read in one pass, whatever the batch?": _used(1, weights="each"),
            "Does each request of the batch have a cache of its own to read?": _used(1, caches="one"),
            "Decode reads the cache, too. Is it counted?": _used(1, caches="none"),
            _TIME: lambda **case: utilisation(**case)[1] * case["seconds"],
            "How many bytes has a 16-bit number? Weights and cache are both of that type.": (
                _used(1, size=1), _used(1, size=4), _used(1, weight_size=1)),
            "No context is no cached token. Is one counted?": _used(1, least=1),
            "Is every layer's cache counted?": _used(1, layers=False),
            _CUT: lambda **case: min(1.0, utilisation(**case)[1]),
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
    """Return the right answer; with one of the options changed, a wrong one."""
    bandwidth, peak = device.bandwidth.value, device.peak(dtype).value or 0.0
    if bandwidth is None or device.name in unnamed:
        return unknown
    flops, nbytes = counts(shape, batch_size, context, **options)
    return combine(nbytes / bandwidth, flops / peak)


def _best(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: best(**case, **options)


def _weights_apart(shape: ModelShape, batch_size: int, context: int, device: Accelerator) -> Any:
    """Compare computing with the weights alone, and add the cache's time."""
    if device.bandwidth.value is None:
        return None
    bare = best(shape, batch_size, 0, device)
    cache = counts(shape, batch_size, context)[1] - counts(shape, batch_size, 0)[1]
    return bare + cache / device.bandwidth.value


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
            name = draw.choice((device.name, "an invented device", "an invented device"))
            device = replace(device, name=name, bandwidth=figure, cube_cores=draw.randrange(1, 60))
        yield dict(shape=a_shape(draw), batch_size=draw.choice((1, 64, 700, draw.randrange(1, 2000))),
                   context=draw.choice((0, 16, draw.randrange(3000))), device=device)  # fmt: skip


def device_kind(got: Any, case: Case) -> tuple[Any]:
    """Return the number, or None where nothing is to be predicted."""
    if case["device"].bandwidth.value is None and got is None:
        return (None,)
    if got is None:
        raise CheckFailed(
            "None was returned, and the bandwidth is known", device_shown(case),
            hint="Is a return missing? Or is a figure taken for unknown whose value is a number?",
        )  # fmt: skip
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
        "This device's bandwidth is not published. What does the docstring ask for then?"
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
        "The device that is given counts. Is the table's row of that name taken?": (
            lambda **c: best(**{**c, "device": ACCELERATORS.get(c["device"].name, c["device"])})),
        "Seconds are asked for. Is that another unit?": tuple(
            _best(combine=lambda a, b, many=many: many * max(a, b)) for many in (1e3, 1e6)),
        "The new tokens' own entries are left out, as in 2.3. Are they counted?": _best(new=1),
        "Computing and reading of one pass are compared. Are reading the weights and reading the cache taken apart?": _weights_apart,
        "Which devices have no published bandwidth? A figure says so itself.": tuple(
            _best(unnamed=(name,)) for name, device in ACCELERATORS.items() if device.bandwidth.value is None),
        "This device's bandwidth is not published. What does the docstring ask for then?": (
            _best(unknown=0.0), _best(unknown=math.inf), _best(unknown=math.nan)),
    }),),
    kind=device_kind,
    shown=device_shown,
)  # fmt: skip
