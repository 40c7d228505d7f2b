"""Puts the table of engines into the README: `python tools/rivals_table.py [--check]`.

It is made from benchmarks/results/rivals.json, which `python -m benchmarks.rivals` writes.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.record import RESULTS
from benchmarks.rivals.contenders import CONTENDERS, FORMATS
from benchmarks.rivals.workloads import WORKLOADS
from tools import notebooks as nbs

SOURCE, TARGET = RESULTS / "rivals.json", nbs.ROOT / "README.md"
BEGIN, END = "<!-- begin: tools/rivals_table.py -->\n", "<!-- end: tools/rivals_table.py -->"
NOTHING = "No run has been recorded yet; `python -m benchmarks.rivals` makes one.\n"
ORDER = sorted(CONTENDERS, key=lambda name: name != "ours")
"""The table's columns: the course first."""
EQUAL = "answers equal to transformers' in fp32"


def section(results: dict[str, Any]) -> str:
    """Return the tables of all formats, and what they depend on."""
    entries = results.get("entries", {})
    tables = [table(format, entries[format]) for format in FORMATS if any(entries.get(format, {}).values())]
    if not tables:
        return NOTHING
    return "\n".join([*tables, conditions(results), *filter(None, [absent(results.get("absent", {}))])])


def table(format: str, entries: dict[str, Any]) -> str:
    """Return one format's table: medians, the best of a row bold."""
    names = [name for name in ORDER if any(name in by for by in entries.values())]
    rows = [[format, *(CONTENDERS[name].title for name in names)], ["---", *["---:"] * len(names)]]
    for workload in WORKLOADS:
        if entries.get(workload):
            rows.append([WORKLOADS[workload].title, *_marked(workload, entries[workload], names)])
    rows.append([EQUAL, *(_equal(entries, name) for name in names)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def value(workload: str, entry: dict[str, Any]) -> float:
    """Return the median of a contender's samples: seconds of requests, else tokens per second."""
    samples = entry["samples"].values()
    if WORKLOADS[workload].jobs:
        return statistics.median(sample["seconds"] for sample in samples)
    return statistics.median(sample["tokens"] / sample["seconds"] for sample in samples)


def conditions(results: dict[str, Any]) -> str:
    """Return what the tables depend on: machine, days, samples, other load, versions."""
    entries = list(_entries(results["entries"]))
    samples = [sample for _, entry in entries for sample in entry["samples"].values()]
    counts = sorted({len(entry["samples"]) for _, entry in entries})
    machine, days = results["machine"], sorted({sample["day"] for sample in samples})
    loads = [sample["other cores"] for sample in samples]
    others = [entry["versions"] for name, entry in entries if name != "ours"]
    versions = {f"{package} {number}" for by_package in others for package, number in by_package.items()}
    return (
        f"Medians; samples of each: {_range(counts)}, contenders in turns; {machine['processor'] or machine['platform']}, "
        f"{machine['cpus']} cores, {machine['threads']} threads each; {_range(days)}. Other programs used "
        f"{statistics.median(loads):.2f} cores (median; at most {max(loads):.2f}). One sample is up to "
        f"{spread(entries):.0%} away from its median.\n"
        f"Versions: {', '.join(sorted(versions, key=str.lower))}. llama.cpp's 16 bits are F16, its 8 Q8_0, its 4 Q4_1.\n"
    )


def spread(entries: list[tuple[str, dict[str, Any]]]) -> float:
    """Return the largest distance of a sample's seconds from its median, as a share of the median."""
    largest = 0.0
    for _, entry in entries:
        seconds = [sample["seconds"] for sample in entry["samples"].values()]
        middle = statistics.median(seconds)
        largest = max([largest, *(abs(second - middle) / middle for second in seconds)])
    return largest


def absent(reasons: dict[str, dict[str, str]]) -> str:
    """Return one sentence about contenders that could not take part; empty when all did."""
    told = [
        f"{CONTENDERS[name].title} in {format} ({reason})"
        for format, by_name in reasons.items()
        for name, reason in by_name.items()
    ]
    return f"Not measured: {'; '.join(told)}.\n" if told else ""


def readme(text: str, results: dict[str, Any]) -> str:
    """Return the README's text with its section made anew; ValueError without the section's marks."""
    found = re.search(f"{re.escape(BEGIN)}.*?{re.escape(END)}", text, re.DOTALL)
    if found is None:
        raise ValueError(f"the README has no line {BEGIN.strip()} with {END} after it")
    return f"{text[: found.start()]}{BEGIN}{section(results)}{END}{text[found.end() :]}"


def recorded() -> dict[str, Any]:
    """Return what the file of results holds; nothing where there is none."""
    found: dict[str, Any] = json.loads(SOURCE.read_text()) if SOURCE.exists() else {}
    return found


def main(arguments: list[str]) -> int:
    """The command."""
    text = TARGET.read_text()
    wanted = readme(text, recorded())
    if arguments != ["--check"]:
        TARGET.write_text(wanted)
    elif text != wanted:
        print(
            "the README's table is older than benchmarks/results/rivals.json; run: python tools/rivals_table.py"
        )
        return 1
    print("the README's table is that of benchmarks/results/rivals.json")
    return 0


def _entries(entries: dict[str, Any]) -> Any:
    """Yield all entries with their contender's name."""
    for by_workload in entries.values():
        for by_name in by_workload.values():
            yield from by_name.items()


def _marked(workload: str, by_name: dict[str, Any], names: list[str]) -> list[str]:
    """Return a row's cells, the best one bold, a dash where nothing was measured."""
    values = {name: value(workload, by_name[name]) for name in names if name in by_name}
    best = (min if WORKLOADS[workload].jobs else max)(values.values())
    shown = {name: f"{number:.0f}" if number >= 100 else f"{number:.1f}" for name, number in values.items()}
    return [
        "–" if name not in values else f"**{shown[name]}**" if values[name] == best else shown[name]
        for name in names
    ]


def _equal(entries: dict[str, Any], name: str) -> str:
    """Return how many of a contender's answers equal transformers', and of how many."""
    pairs = [
        sample["equal"]
        for by_name in entries.values()
        for sample in by_name.get(name, {"samples": {}})["samples"].values()
        if sample["equal"]
    ]
    return f"{sum(a for a, _ in pairs)} of {sum(b for _, b in pairs)}" if pairs else "–"


def _range(values: list[Any]) -> str:
    """Return the first and the last value, or the only one."""
    return f"{values[0]} to {values[-1]}" if len(values) > 1 else str(values[0])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
