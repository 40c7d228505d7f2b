"""Checks of lab 2, prefill/decode profiling."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from helpers.checks.machinery.core import CheckFailed, describe, exercise, require_callable, require_number
from helpers.checks.machinery.limit import attempt
from helpers.checks.machinery.pretend import PretendEngine
from helpers.estimates.hardware import ACCELERATORS, Accelerator
from helpers.model.shapes import PUBLISHED, ModelShape

LAB = "02_prefill_decode_profiling"
Function = Callable[..., Any]


@exercise(LAB, 1, "predict a decode step")
def check_step_time(answer: Any) -> None:
    """`answer`: milliseconds of Qwen2.5-7B's decode step, int8 weights, no context to speak of, at 1.6 TB/s."""
    right = PUBLISHED["Qwen2.5-7B"].num_params / 1.6e12 * 1e3
    mistakes: dict[str, float | tuple[float, ...]] = {
        "How many bytes has an int8 weight?": (2 * right, 4 * right),
        "Milliseconds were asked for. Is that seconds?": right / 1e3,
        "Milliseconds were asked for. Is that microseconds?": right * 1e3,
        "Are those tokens per second? The time of one was asked for.": 1e3 / right,
    }
    require_number(answer, right, mistakes=mistakes, rel=0.02, reveal=False)


@exercise(LAB, 2, "a profiler that measures")
def check_profiler(answer: Function) -> None:
    """`answer(engine, prompt, max_new_tokens)` -> a mapping with `ttft`, `tpot` (seconds) and `tokens`."""
    require_callable(answer)
    for prefill, decode, length, count in ((0.4, 0.02, 150, 12), (0.05, 0.03, 20, 5), (1.0, 0.01, 80, 1)):
        prompt = [(7 * i) % 100 for i in range(length)]
        got = attempt(answer, engine=PretendEngine(prefill, decode), prompt=prompt, max_new_tokens=count)
        shown = {"prompt tokens": length, "max_new_tokens": count}
        _check_kind(got, shown)
        _check_tokens(list(got["tokens"]), prompt, count, shown)
        _check_times(got, prefill * length / 100, decode, count, shown)


def _check_kind(got: Any, shown: Mapping[str, Any]) -> None:
    """CheckFailed unless the result is a mapping with the three entries."""
    if got is None:
        raise CheckFailed("there is no result", shown, got=got, hint="Is a return missing?")
    if not isinstance(got, Mapping) or not {"ttft", "tpot", "tokens"} <= set(got):
        raise CheckFailed("expected a dict with ttft, tpot and tokens", shown, got=describe(got))
    if not isinstance(got["tokens"], list | tuple):
        raise CheckFailed("tokens is not a list", shown, got=describe(got["tokens"]))


def _check_tokens(tokens: list[Any], prompt: list[int], count: int, shown: Mapping[str, Any]) -> None:
    """CheckFailed unless the tokens are those of one request, from the first to the last."""
    right = _answer_of(prompt, count)
    if tokens == right:
        return
    forgot = [right[0], *_answer_without_prompt(right[0], count - 1)]
    hint = (
        "Does the request begin with start, after the warm-up? Does each step get the token that came last?"
    )
    if tokens in (forgot, forgot[1:]):
        hint = "From the second token on, the answer ignores the prompt. Does the loop begin new requests?"
    elif tokens == right[1:]:
        hint = "The first token is missing. Which pass gives it?"
    elif tokens[: len(right)] == right:
        hint = f"That is {len(tokens)} tokens. How many does the prefill give, how many the loop?"
    elif right[: len(tokens)] == tokens:
        hint = f"That is only {len(tokens)} tokens. Does the loop end too early?"
    raise CheckFailed(
        "the tokens are not those of the request", shown, expected=right, got=describe(tokens), hint=hint
    )


def _check_times(
    got: Mapping[str, Any], first: float, step: float, count: int, shown: Mapping[str, Any]
) -> None:
    """CheckFailed unless both times are those that the engine needs when it is warm."""
    for value in (got["ttft"], got["tpot"]):
        if isinstance(value, float) and value < 0:
            hint = "One of the engine's clocks can be set back. Which one cannot?"
            raise CheckFailed("a time is negative", shown, got=describe(value), hint=hint)
        if isinstance(value, float) and 2e-6 < value < 1e-3:
            hint = "The engine has clocks of its own. Was one of them read?"
            raise CheckFailed("no pass takes so little", shown, got=describe(value), hint=hint)
    require_number(got["ttft"], first, {"value": "ttft", **shown}, rel=0.01, mistakes={
        "That is the time of the order, not of the work. Does anybody wait for the device?": (1e-6, 2e-6),
        "The engine's first prefill ever is slow. Was there one before that did not count?": (20 * first, 20 * first + 20 * step),
        "Is a decode step in it? The first token comes from the prefill.": first + step,
        "Was the warm-up done when the clock was first read?": (21 * first, 21 * first + 20 * step),
    })  # fmt: skip
    spread: dict[str, float | tuple[float, ...]] = {
        "The engine's first decode step ever is slow. Does the warm-up have one?": _first_slow(step, count),
        "That is the time of the order, not of the work. Does anybody wait for the device?": (1e-6, 2e-6, 0.0),
        "Is the prefill in it? TPOT is the mean over the tokens after the first.": (
            (first + step * (count - 1)) / count, (first + step * (count - 1)) / max(count - 1, 1),
        ),
        "How many steps give how many tokens? The first token is not theirs.": step * (count - 1) / count,
        "Is that the sum of all steps? TPOT is the mean.": step * (count - 1),
    }  # fmt: skip
    right = step if count > 1 else 0.0
    require_number(got["tpot"], right, {"value": "tpot", **shown}, rel=0.01, mistakes=spread)


def _first_slow(step: float, count: int) -> float:
    """The mean when the first of the steps takes 20 times as long."""
    return step * (count - 1 + 19) / max(count - 1, 1)


def _answer_of(prompt: list[int], count: int) -> list[int]:
    """The tokens that the engine gives to a prompt."""
    engine = PretendEngine()
    tokens = [engine.start(prompt)]
    while len(tokens) < count:
        tokens.append(engine.next(tokens[-1]))
    return tokens


def _answer_without_prompt(token: int, count: int) -> list[int]:
    """What comes out when every pass begins a new request with the last token alone."""
    engine, tokens = PretendEngine(), [token]
    for _ in range(count):
        tokens.append(engine.start(tokens[-1:]))
    return tokens[1:]


@exercise(LAB, 3, "MFU and MBU")
def check_utilisation(answer: Function) -> None:
    """`answer(shape, batch_size, context, seconds, peak, bandwidth)` -> (MFU, MBU), shares between 0 and 1, 16-bit numbers."""
    require_callable(answer)
    for shape in _shapes():
        for batch, context, seconds in ((1, 1000, 0.03), (32, 4000, 0.05), (8, 0, 0.02)):
            given = dict(
                shape=shape, batch_size=batch, context=context, seconds=seconds, peak=3e14, bandwidth=1.2e12
            )
            got = attempt(answer, **given)
            if not isinstance(got, tuple | list) or len(got) != 2:
                hint = "" if got is not None else "Is a return missing?"
                raise CheckFailed("expected two numbers, MFU and MBU", given, got=describe(got), hint=hint)
            weights, one = 2 * shape.num_params, 2 * shape.kv_elements_per_token
            flops, nbytes = weights * batch, weights + batch * context * one
            mfu, mbu = flops / seconds / 3e14, nbytes / seconds / 1.2e12
            require_number(got[0], mfu, {"value": "MFU", **given}, mistakes={
                "Are the two in order? MFU comes first.": mbu,
                "Shares are between 0 and 1. Is that percent?": 100 * mfu,
                "A multiply-add is two operations. Are both counted?": mfu / 2,
                "Does each request of the batch have its own operations?": mfu / batch,
            })  # fmt: skip
            require_number(got[1], mbu, {"value": "MBU", **given}, mistakes={
                "Shares are between 0 and 1. Is that percent?": 100 * mbu,
                "How often are the weights read in one pass, whatever the batch?": (
                    batch * (weights + context * one) / seconds / 1.2e12
                ),
                "Does each request of the batch have a cache of its own to read?": (
                    (weights + context * one) / seconds / 1.2e12
                ),
                "Decode reads the cache, too. Is it counted?": weights / seconds / 1.2e12,
                "How many bytes has a 16-bit number?": mbu / 2,
                "Are keys and values both read?": (weights + batch * context * one / 2) / seconds / 1.2e12,
            })  # fmt: skip


@exercise(LAB, 4, "a device that is not here")
def check_other_device(answer: Function) -> None:
    """`answer(shape, batch_size, context, device)` -> seconds of a decode step at best, 16 bits; None without a bandwidth."""
    require_callable(answer)
    for shape in _shapes():
        for device in _devices():
            for batch, context in ((1, 500), (64, 200), (512, 16)):
                given = dict(shape=shape, batch_size=batch, context=context, device=device)
                got = attempt(answer, **given)
                bandwidth, peak = device.bandwidth.value, device.peak("fp16").value or 0.0
                if bandwidth is None:
                    _check_unknown(got, given)
                    continue
                weights, cache = 2 * shape.num_params, batch * context * 2 * shape.kv_elements_per_token
                read, compute = (weights + cache) / bandwidth, weights * batch / peak
                require_number(got, max(read, compute), given, mistakes={
                    "Memory and compute work at the same time. Do their times add up?": read + compute,
                    "Reading or computing: one takes longer. Which of the two decides?": min(read, compute),
                    "Are the caches of all requests read?": max(compute, (weights + cache / batch) / bandwidth),
                    "Is the KV cache read, too?": max(compute, weights / bandwidth),
                    "A multiply-add is two operations. Are both counted?": max(read, compute / 2),
                    "Does each request of the batch have its own operations?": max(read, compute / batch),
                    "Whose peak is that: of 16-bit numbers, or of 8-bit ones?": max(read, compute / 2),
                    "How often are the weights read in one pass?": max(compute, (weights * batch + cache) / bandwidth),
                })  # fmt: skip


def _check_unknown(got: Any, given: Mapping[str, Any]) -> None:
    """CheckFailed unless nothing is predicted where no bandwidth is known."""
    if got is not None:
        hint = "Nobody published this device's bandwidth. What does the docstring ask for then?"
        raise CheckFailed(
            "there is nothing to predict from", given, expected=None, got=describe(got), hint=hint
        )


@exercise(LAB, 5, "read an operator table")
def check_speedup(answer: Function) -> None:
    """`answer(rows, wall, names, factor)` -> how many times as fast the pass becomes; rows are (name, calls, total, self)."""
    require_callable(answer)
    for names, factor in (
        (("addmm",), 2.0),
        (("rms_norm", "mean", "mul"), 4.0),
        (("linear", "addmm"), 3.0),
        (("rms_norm",), 2.0),
        (("addmm", "silu"), 2.0),
        ((), 2.0),
    ):
        rows, wall = copy.deepcopy(_ROWS), 25.0
        given = dict(rows=rows, wall=wall, names=list(names), factor=factor)
        chosen = [row for row in rows if row[0] in names]
        own, total = sum(row[3] for row in chosen), sum(row[2] for row in chosen)
        listed = sum(row[3] for row in rows)
        saved = 1 - 1 / factor
        mistakes: dict[str, float | tuple[float, ...]] = {
            "An operator's total holds the operators that it called. Is time counted twice?": _over(
                wall, total * saved
            ),
            "Is the time for all calls, or for one?": _over(
                wall, sum(row[1] * row[3] for row in chosen) * saved
            ),
            "Between operators there is Python. Is that in the pass, too?": _over(listed, own * saved),
            "Does the rest of the pass become faster, too?": factor,
            "What remains of the operators' time when they are faster?": (
                _over(wall, own),
                _over(wall, own / factor),
            ),
            "Is that the share of the time that is left, or how many times as fast?": (wall - own * saved)
            / wall,
        }
        if not names:
            mistakes = {"Nothing became faster here. What is the answer then?": (factor, 0.0)}
        require_number(attempt(answer, **given), _over(wall, own * saved), given, mistakes=mistakes)


# Milliseconds of a pass, as a profiler lists them: name, calls, with what it called, by itself.
_ROWS: list[tuple[str, int, float, float]] = [
    ("linear", 121, 14.0, 0.8),
    ("addmm", 121, 13.2, 13.2),
    ("rms_norm", 61, 2.4, 0.3),
    ("mean", 61, 0.9, 0.9),
    ("mul", 122, 1.2, 1.2),
    ("scaled_dot_product_attention", 30, 1.5, 1.5),
    ("silu", 30, 0.5, 0.5),
]


def _over(wall: float, saved: float) -> float:
    """How many times as fast a pass is when so much of it is saved."""
    return wall / (wall - saved) if wall > saved else 0.0


def _shapes() -> list[ModelShape]:
    """A published shape, and one that no answer can know by heart."""
    llama = PUBLISHED["Llama-3-8B"]
    return [
        llama,
        replace(llama, name="an invented model", num_params=3_141_592_653, num_layers=17, num_kv_heads=3),
    ]


def _devices() -> list[Accelerator]:
    """Devices with and without a known bandwidth."""
    return [ACCELERATORS[name] for name in ("Ascend 910C (one die)", "Ascend 310P3", "Ascend 910B1")]
