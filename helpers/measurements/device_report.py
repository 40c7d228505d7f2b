"""A report on this device in one JSON file: versions, trials of all operators, times of the model.

    python -m helpers.measurements operators FILE      (python3 course.py check --report FILE)

Without FILE only the operators are tried. The file holds no names and no paths, so that no person and no
machine is known by it.
"""

from __future__ import annotations

import datetime
import getpass
import json
import os
import platform
import re
import socket
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from helpers.display.tables import Table
from helpers.machine.device import choose_device, is_emulated, total_memory
from helpers.measurements.operator_trials import TrialResult, try_operators
from helpers.measurements.trial import TOLERANCE
from helpers.storage.files import replacing

FORMAT = 1
"""Version of the file's layout."""
_TYPES = [str(dtype).removeprefix("torch.") for dtype in TOLERANCE]
EMULATED = "an emulated NPU: results are real torch_npu semantics, times mean nothing"

_PACKAGES = ("torch", "torch_npu", "transformers", "numpy")
_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[/\\][^\s/\\:'\",;()\[\]]+){2,}[/\\]?|~/\S+")
_TEXT = "The quick brown fox jumps over the lazy dog, and then it asks what a language model does with its cache. "


def report(device: torch.device, with_model: bool = True) -> dict[str, Any]:
    """Return the report, ready for JSON: format, versions, platform, device, operators, the model's times."""
    emulated = is_emulated(device)
    return {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "note": EMULATED if emulated else None,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "cann": None if emulated else cann_version(),
        "driver": None if emulated else _stated(Path("/usr/local/Ascend/driver"), ["version.info"]),
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "device": {
            "type": device.type,
            "emulated": emulated,
            "name": _device_name(device),
            "memory_bytes": total_memory(device),
        },
        "operators": [_entry(result) for result in try_operators(device)],
        "model": [time_model(dtype, device) for dtype in (torch.float32, torch.bfloat16) if with_model],
    }


def _entry(result: TrialResult) -> dict[str, Any]:
    """Return one trial's result for JSON."""
    return asdict(result) | {"problem": result.problem and scrub(result.problem)}


def time_model(dtype: torch.dtype, device: torch.device, new_tokens: int = 16) -> dict[str, Any]:
    """Return the model's seconds of prefill and decode, and whether fp32 gives the tokens of the CPU.

    An error does not reach the caller: its text is the entry `problem`.
    """
    from helpers.caches.kv_cache import KVCache
    from helpers.measurements.profiling import InferenceProfiler
    from helpers.model.checkpoint import load
    from helpers.model.generation import generate

    found: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch.")}
    try:
        model, tokenizer = load(dtype, device)
        prompt = tokenizer(_TEXT * 8)["input_ids"][:128]
        profile = InferenceProfiler().profile_generation(model, tokenizer, prompt, new_tokens)
        found |= {"prompt_tokens": profile.prompt_tokens, "new_tokens": profile.new_tokens}
        found |= {"prefill_seconds": profile.ttft, "decode_seconds_per_token": profile.tpot}
        if dtype == torch.float32:
            own = load(dtype, "cpu").model
            cache = KVCache.for_model(own, 1, len(prompt) + profile.new_tokens)
            plain = generate(own, prompt, profile.new_tokens, cache)
            found["cpu_tokens"] = plain.token_ids == profile.generation.token_ids
            found["min_margin"] = plain.min_margin
    except Exception as error:  # the rest of the report is useful without this part
        found["problem"] = scrub(f"{type(error).__name__}: {error}")
    return found


def cann_version() -> str | None:
    """Return the version that CANN's files state, at `ASCEND_HOME_PATH`; None where no file states one."""
    home = os.environ.get("ASCEND_HOME_PATH", "")
    names = ["ascend_*_install.info", "*/ascend_*_install.info", "version.info", "*/version.info"]
    return _stated(Path(home), names) if home else None


def _stated(folder: Path, patterns: list[str]) -> str | None:
    """Return the first `version=...` in files of these names; None without one."""
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            found = re.search(r"^version\s*=\s*\[?([\w.+-]+)", path.read_text(errors="replace"), re.M | re.I)
            if found:
                return found[1]
    return None


def scrub(text: str) -> str:
    """Return the text without paths, the user's name and the machine's name, cut at 400 characters."""
    text = _PATH.sub("<path>", text)
    for private in sorted({*_names()}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(private)}(?!\w)", "<name>", text)
    return text[:400]


def _names() -> Iterator[str]:
    """Yield the names of the machine and of the user."""
    yield from filter(None, (socket.gethostname(), socket.gethostname().split(".")[0], platform.node()))
    try:
        yield getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return


def _device_name(device: torch.device) -> str:
    """Return the name that the device's driver gives."""
    return "CPU" if device.type == "cpu" else str(torch.get_device_module(device).get_device_name(device))


def _version(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main(arguments: list[str]) -> int:
    """Try the operators, write the report to a given file, and return the exit status: 1 after a failure."""
    try:
        device = choose_device()
        found = report(device, with_model=bool(arguments))
        if arguments:
            write(Path(arguments[0]), found)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"report: {error}")
        return 1
    print(summary(found["operators"]))
    failed = failures(found)
    print("\n".join(failed) or f"all {len(found['operators'])} trials passed")
    if arguments:
        print(
            f"written: {arguments[0]}; it names neither you nor this machine; docs/npu.md says where it is welcome"
        )
    return int(bool(failed))


def write(path: Path, found: dict[str, Any]) -> None:
    """Write the report as JSON, whole or not at all; raise OSError where the file cannot be written."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")


def failures(found: dict[str, Any]) -> list[str]:
    """Return one line for each trial that failed, and for each dtype in which the model failed."""
    lines = [
        f"FAILED: {o['operator']} ({o['case']}) in {o['dtype']}: {o['problem'] or _too_large(o)}"
        for o in found["operators"]
        if not o["passed"]
    ]
    for timed in found["model"]:
        if "problem" in timed:
            lines.append(f"FAILED: the model in {timed['dtype']}: {timed['problem']}")
        elif timed.get("cpu_tokens") is False:
            lines.append(f"FAILED: the model in {timed['dtype']} gives other tokens than on the CPU")
    return lines


def _too_large(outcome: dict[str, Any]) -> str:
    """Return in words what is wrong with a result of the right shape."""
    if outcome["max_error"] is None:
        return "a result is no number"
    return f"error {outcome['max_error']:.1e}, allowed {outcome['tolerance']:.1e}"


def summary(outcomes: list[dict[str, Any]]) -> Table:
    """Return one row for each operator: number of trials, number of failures, largest error in each dtype."""
    rows = []
    for name in dict.fromkeys(o["operator"] for o in outcomes):
        own = [o for o in outcomes if o["operator"] == name]
        worst = [_worst([o["max_error"] for o in own if o["dtype"] == dtype]) for dtype in _TYPES]
        rows.append((name, len(own), sum(not o["passed"] for o in own), *worst))
    return Table(("operator", "trials", "failed", *(f"error, {dtype}" for dtype in _TYPES)), rows)


def _worst(errors: list[float | None]) -> str:
    """Return the largest error as text; "none" when a result was no number."""
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return "none"
    return f"{max(known):.1e}" if known else ""
