"""Checks of lab 5, continuous batching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from helpers.checks.families.lab05.chunk import CHUNK
from helpers.checks.families.lab05.pack import PACK
from helpers.checks.families.lab05.padding import PADDING
from helpers.checks.families.lab05.plan import PLAN
from helpers.checks.machinery.core import CheckFailed, exercise
from helpers.checks.machinery.family import check_family

LAB = "05_continuous_batching"
Function = Callable[..., Any]
Request = dict[str, Any]


@exercise(LAB, 1, "count the padding")
def check_padding(answer: Any) -> None:
    """Check that `answer(prompts, answers, batch_size)` returns how many tokens static batches waste."""
    check_family(answer, PADDING)


@exercise(LAB, 2, "mend the positions")
def check_pack(answer: Any) -> None:
    """Check that `answer(requests)` returns `(tokens, positions, rows)` of a pass."""
    check_family(answer, PACK)


@exercise(LAB, 3, "schedule under a budget")
def check_plan(answer: Any) -> None:
    """Check that `answer(running, waiting, token_budget, chunk_size, seats, free_pages, page_size)` returns
    the next pass.
    """
    check_family(answer, PLAN)


@exercise(LAB, 4, "choose the chunk")
def check_chunk(answer: Any) -> None:
    """Check that `answer(num_params, kv_bytes, decoding, context, target, peak, bandwidth)` returns the
    number of tokens of the largest chunk.
    """
    check_family(answer, CHUNK)


def serve(
    plan: Function, lengths: Sequence[tuple[int, int]], token_budget: int, chunk_size: int, seats: int
) -> list[int]:
    """Return the sizes, in tokens, of all passes in which `plan` serves requests of `(prompt, answer)` tokens; there are pages enough.

    Raises CheckFailed for a plan that computes nothing.
    """
    requests = [
        {"name": str(i), "length": prompt, "computed": 0, "last": prompt + answer}
        for i, (prompt, answer) in enumerate(lengths)
    ]
    running: list[Request] = []
    sizes: list[int] = []
    while running or requests:
        shown = [
            [{k: r[k] for k in ("name", "length", "computed")} for r in rs] for rs in (running, requests)
        ]
        planned = plan(*shown, token_budget, chunk_size, seats, 10**6, 16)
        if not planned:
            raise CheckFailed(
                "the plan computes nothing, and there is work to do", {"chunk_size": chunk_size}
            )
        sizes.append(sum(count for _, count in planned))
        shares = dict(planned)
        running += [r for r in requests if r["name"] in shares]
        requests = [r for r in requests if r["name"] not in shares]
        for r in running:
            r["computed"] += shares.get(r["name"], 0)
            r["length"] += r["computed"] == r["length"]
        running = [r for r in running if r["length"] < r["last"]]
    return sizes
