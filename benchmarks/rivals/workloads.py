"""What is measured: one stream, a long prompt, 16 streams, and the two workloads of `benchmarks.engine`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.engine import ragged16, shared64
from benchmarks.transformers_batches import Job


@dataclass(frozen=True)
class Workload:
    """One thing to measure: its row in the table, and the call of the protocol that measures it."""

    title: str
    call: str
    arguments: dict[str, Any] = field(default_factory=dict)
    jobs: Callable[[], list[Job]] | None = None
    """Requests, whose seconds count; other workloads count tokens per second."""

    def asked(self, turn: int) -> dict[str, Any]:
        """Return the call's arguments in a turn: other words each time, so that no turn's cache helps the next."""
        if self.jobs is None:
            return {**self.arguments, "turn": turn}
        jobs = reworded(self.jobs(), turn)
        return {"prompts": [job.prompt for job in jobs], "lengths": [job.new_tokens for job in jobs]}


def reworded(jobs: list[Job], turn: int) -> list[Job]:
    """Return jobs of the same lengths, which share what they shared, with other tokens in each turn."""
    shift = 7_919 * turn
    return [
        Job([100 + (token - 100 + shift) % 48_900 for token in job.prompt], job.new_tokens) for job in jobs
    ]


WORKLOADS = {
    "stream32": Workload("one stream, context 32, tokens/s", "decode", {"context": 32, "batch": 1}),
    "stream512": Workload("one stream, context 512, tokens/s", "decode", {"context": 512, "batch": 1}),
    "prefill512": Workload("prefill of 512 tokens, tokens/s", "prefill", {"length": 512}),
    "streams16": Workload("16 streams, context 32, tokens/s", "decode", {"context": 32, "batch": 16}),
    "ragged16": Workload("16 ragged requests, s", "requests", jobs=ragged16),
    "shared64": Workload("64 requests behind one prompt, s", "requests", jobs=shared64),
}


def of_format(format: str) -> list[str]:
    """Return what is measured in a format unless workloads are named: few bits without the two long ones."""
    few_bits = format.startswith("int")
    return [name for name, workload in WORKLOADS.items() if not (few_bits and workload.jobs)]
