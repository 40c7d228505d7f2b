"""Where a benchmark's numbers go: one JSON file with the machine's kind, versions, the command and every sample."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def environment(packages: Sequence[str] = ("torch", "transformers", "numpy")) -> dict[str, Any]:
    """What the numbers depend on, without a name of the machine or of its user."""
    return {
        "command": " ".join(["python", "-m", "benchmarks." + _called(Path(sys.argv[0])), *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in packages},
    }


def write(name: str, results: Mapping[str, Any], packages: Sequence[str] = ("torch", "transformers")) -> Path:
    """Writes `results/NAME.json` and gives its path; `results` holds samples in seconds unless it says otherwise."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"environment": environment(packages), **results}
    if "torch" in sys.modules:
        content["environment"]["threads"] = sys.modules["torch"].get_num_threads()
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(unfinished, path)  # so that a run may be interrupted at any time
    return path


def _called(path: Path) -> str:
    """The benchmark's name: its file's, or its folder's."""
    return path.parent.name if path.stem == "__main__" else path.stem


def _processor() -> str:
    """The processor's model where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def _version(package: str) -> str | None:
    """The installed version, None without one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
