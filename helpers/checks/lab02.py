"""Checks of lab 2, prefill/decode profiling."""

from __future__ import annotations

from typing import Any

from helpers.checks.families.lab02.profile import PROFILE
from helpers.checks.families.lab02.speedup import SPEEDUP
from helpers.checks.families.lab02.utilisation import DEVICE, UTILISATION
from helpers.checks.machinery.core import exercise, require_number
from helpers.checks.machinery.family import check_family
from helpers.checks.machinery.own_code import require_closed
from helpers.checks.machinery.pretend import PretendEngine
from helpers.model.shapes import PUBLISHED

LAB = "02_prefill_decode_profiling"


@exercise(LAB, 1, "predict a decode step")
def check_step_time(answer: Any) -> None:
    """Check `answer`: milliseconds of Qwen2.5-7B's decode step, int8 weights, no context to speak of, at 1.6
    TB/s.
    """
    right = PUBLISHED["Qwen2.5-7B"].num_params / 1.6e12 * 1e3
    mistakes: dict[str, float | tuple[float, ...]] = {
        "How many bytes has an int8 weight?": (2 * right, 4 * right),
        "Are those bits? The device reads bytes.": 8 * right,
        "1 TB is 1e12 bytes, and the weights are 7,615,616,512. Is another number taken for one of them?": (
            right * 1e12 / 2**40,
            7 / 1.6,
            8 / 1.6,
        ),
        "Milliseconds were asked for. Is that seconds?": right / 1e3,
        "Milliseconds were asked for. Is that microseconds?": right * 1e3,
        "Are those tokens per second? The time of one was asked for.": 1e3 / right,
    }
    require_number(answer, right, mistakes=mistakes, rel=0.02, reveal=False)


@exercise(LAB, 2, "a profiler that measures")
def check_profiler(answer: Any) -> None:
    """Check that `answer(engine, prompt, max_new_tokens)` returns a mapping with `ttft`, `tpot` (seconds) and
    `tokens`.
    """
    hidden = {name for name in (*vars(PretendEngine()), *vars(PretendEngine)) if name.startswith("_")}
    named = {name for name in hidden if not name.endswith("__")} | {"__dict__"}
    require_closed(answer, named, "times are to be measured, and the answer reads how the engine is made")
    check_family(answer, PROFILE)


@exercise(LAB, 3, "MFU and MBU")
def check_utilisation(answer: Any) -> None:
    """Check that `answer(shape, batch_size, context, seconds, peak, bandwidth)` returns (MFU, MBU), shares
    between 0 and 1, 16-bit numbers.
    """
    check_family(answer, UTILISATION)


@exercise(LAB, 4, "a device that is not here")
def check_other_device(answer: Any) -> None:
    """Check that `answer(shape, batch_size, context, device)` returns the seconds of a decode step at best, 16
    bits; None without a bandwidth.
    """
    check_family(answer, DEVICE)


@exercise(LAB, 5, "read an operator table")
def check_speedup(answer: Any) -> None:
    """Check that `answer(rows, wall, names, factor)` returns how many times as fast the pass becomes; rows
    are (name, calls, total, self).
    """
    check_family(answer, SPEEDUP)
