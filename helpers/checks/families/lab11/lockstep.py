"""Ranks without processes: one function runs as each rank in turn, and waits where it asks for a sum over ranks.

A rank that asks for a sum that is not known yet is left, and called anew when all ranks have handed in their part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from helpers.checks.machinery.failure import CheckFailed, describe
from helpers.checks.machinery.limit import attempt_spending

Reduce = Callable[[Tensor], Tensor]
MOST = 6
"""Sums over ranks that one call may ask for."""


class _Waits(BaseException):
    """Raised inside a rank that asks for a sum that is not known yet; no Exception, so that a broad except lets it pass."""


def run(
    function: Callable[..., Any],
    parts: Sequence[Mapping[str, Any]],
    spent: tuple[str, ...] = (),
    shown: Mapping[str, Any] | None = None,
) -> tuple[list[Any], int]:
    """Return what each rank returns for its arguments and an `all_reduce`, and the number of sums.

    Raises CheckFailed where real ranks would wait for ever or end: sums that not all ranks ask for, or of other shapes.
    """
    sums: list[Tensor] = []
    while True:
        handed = [_turn(function, part, sums, spent) for part in parts]
        waiting = [tensor for tensor, _ in handed if tensor is not None]
        if not waiting:
            return [result for _, result in handed], len(sums)
        _require_alike([tensor for tensor, _ in handed], shown)
        if len(sums) == MOST:
            raise CheckFailed(f"a rank asks for more than {MOST} sums", shown, hint="Is there one in a loop?")
        sums.append(sum(waiting[1:], start=waiting[0].clone()))


def _turn(
    function: Callable[..., Any], part: Mapping[str, Any], sums: Sequence[Tensor], spent: tuple[str, ...]
) -> tuple[Tensor | None, Any]:
    """Return what one rank hands in to the sum that is not known yet, and None; or None, and what the rank returns."""
    asked: list[Tensor] = []
    handed: list[Tensor] = []

    def all_reduce(t: Tensor) -> Tensor:
        if not isinstance(t, Tensor):
            raise CheckFailed("all_reduce sums tensors", got=describe(t))
        asked.append(t)
        if len(asked) <= len(sums):
            return sums[len(asked) - 1].clone()
        handed.append(t.detach().clone())
        raise _Waits

    try:
        return None, attempt_spending(spent, function, **part, all_reduce=all_reduce)
    except CheckFailed as failure:
        if isinstance(failure.error, _Waits) and handed:
            return handed[0], None
        raise


def _require_alike(handed: Sequence[Tensor | None], shown: Mapping[str, Any] | None) -> None:
    """Raise CheckFailed unless all ranks hand in tensors of one shape and type."""
    done = [rank for rank, tensor in enumerate(handed) if tensor is None]
    if done:
        waits = next(rank for rank, tensor in enumerate(handed) if tensor is not None)
        raise CheckFailed(
            f"rank {waits} waits in all_reduce for rank {done[0]}, which has returned", shown,
            hint="A sum needs all ranks. Does every rank ask for it, whatever its number?",
        )  # fmt: skip
    tensors = [tensor for tensor in handed if tensor is not None]
    other = next((t for t in tensors if t.shape != tensors[0].shape or t.dtype != tensors[0].dtype), None)
    if other is not None:
        raise CheckFailed(
            "ranks hand tensors of different shapes to one sum", shown,
            got=f"{describe(tensors[0])}; {describe(other)}",
            hint="Ranks have parts of different widths. Which tensor has one shape on all ranks?",
        )  # fmt: skip
