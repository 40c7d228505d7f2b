"""Exercise 3.3: masks of ragged batches."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong


def mask(
    lengths: Sequence[int], new: int, capacity: int, *, shift: int = 0, own: str = "own", future: bool = False,
    history: bool = True, begin: bool = True, invert: bool = False, each: bool = True, rest: bool = False, narrow: torch.dtype = torch.int64, places_too: bool = False,
    empty: bool = True, ordered: bool = False,
) -> Tensor:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    rows = torch.tensor(sorted(lengths) if ordered else lengths, dtype=torch.int64)
    rows = {
        "own": rows,
        "max": rows.max().expand(len(rows)),
        "first": rows[:1].expand(len(rows)),
        "min": rows.min().expand(len(rows)),
    }[own]
    rows = rows.to(narrow)
    steps = torch.arange(new) if each else torch.zeros(new, dtype=torch.int64)
    last = (
        (rows[:, None] if begin else torch.zeros(len(rows), 1, dtype=torch.int64)) + steps.to(narrow) + shift
    )
    last = last.amax(dim=1, keepdim=True).expand(len(rows), new) if future else last
    places = torch.arange(capacity).to(narrow if places_too else torch.int64)
    seen = places <= last[..., None]
    if not empty:
        seen = seen & (torch.tensor(lengths) > 0)[:, None, None]
    if not history:
        seen = seen & (places >= torch.tensor(lengths)[:, None, None])
    seen = torch.ones_like(seen) if rest else seen
    return ~seen if invert else seen


def _mask(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: mask(**case, **options)


def mask_cases(draw: random.Random) -> Iterator[Case]:
    """Yield rows that are empty or full, alone or many, with one new token or several."""
    for lengths, new, capacity in (
        ([0], 1, 1), ([4, 0, 2], 1, 8), ([0, 0], 3, 4), ([5, 1, 3, 0], 2, 7), ([6], 2, 8), ([3, 3], 1, 4), ([0, 7], 1, 8),
        ([126, 300], 3, 304), ([2047, 4098], 3, 4104),
    ):  # fmt: skip
        yield {"lengths": lengths, "new": new, "capacity": capacity}
    while True:
        new, longest = draw.choice((1, 1, 2, 3, 7)), draw.choice((1, 5, 30, 30, 600))
        lengths = [draw.randrange(longest + 1) for _ in range(draw.randrange(1, 6))]
        yield {"lengths": lengths, "new": new, "capacity": max(lengths) + new + draw.choice((0, 1, 6))}


def mask_kind(got: Any, case: Case) -> tuple[Tensor]:
    """Return the mask. Raises CheckFailed when it is no bool tensor of that shape."""
    shape = (len(case["lengths"]), case["new"], case["capacity"])
    if got is None:
        raise CheckFailed("the mask: nothing was returned", case, hint="Is a return missing?")
    if not isinstance(got, Tensor):
        raise CheckFailed("the mask: expected a tensor", case, got=describe(got))
    if got.shape != shape or got.dtype != torch.bool:
        wanted = f"a tensor of shape {shape}, torch.bool"
        raise CheckFailed("the mask: wrong in shape or type", case, expected=wanted, got=describe(got))
    return (got,)


def _rows(seen: Tensor) -> Words:
    """Return a mask in words: for each row of each sequence its 0s and 1s."""
    if seen.shape[-1] > 40:
        return Words("; ".join(_runs(one) for one in seen.tolist())[:300])
    return Words(
        "  ".join(" ".join("".join(str(int(n)) for n in row) for row in one) for one in seen.tolist())[:300]
    )


def _runs(one: list[list[bool]]) -> str:
    """Return how many positions in turn each query of a row sees, does not see, sees, and so on."""
    queries = []
    for row in one:
        runs = [f"{len(list(group))} {'seen' if key else 'hidden'}" for key, group in itertools.groupby(row)]
        queries.append(" ".join(runs[:4]) + (" ..." if len(runs) > 4 else ""))
    return ", ".join(queries)


MASK = Family(
    mask,
    mask_cases,
    (Part("the mask", broken="wrong values", same=lambda one, other: torch.equal(one, other), shown=_rows, mistakes={
        "True where a query may look. Is it the other way round?": _mask(invert=True),
        "May the new tokens look at those that come after them?": _mask(future=True),
        "May a token look at itself?": _mask(shift=-1),
        "May a token look at the one behind it?": _mask(shift=1),
        "The first new token stands behind the row's history. Is its position 0?": _mask(begin=False),
        "Does every new token see what the first of them sees?": _mask(each=False),
        "Has every row its own length?": tuple(_mask(own=which) for which in ("max", "first", "min")),
        "Positions may be large. Are they kept in a type that cannot hold them all?": tuple(
            _mask(narrow=dtype, places_too=both)
            for dtype in (torch.int8, torch.uint8, torch.float16, torch.bfloat16) for both in (True, False)),
        "A row that is empty sees its new tokens all the same. Is it hidden wholly?": _mask(empty=False),
        "Are the rows of the mask in the order of `lengths`?": _mask(ordered=True),
        "Is the row's history visible, and not the new tokens alone?": _mask(history=False),
        "Positions behind the row's end hold nothing. Are they hidden?": _mask(rest=True),
    }),),
    kind=mask_kind,
    tensors=True,
    valid=lambda lengths, new, capacity: len(lengths) > 0 and new >= 1 and max(lengths) + new <= capacity,
)  # fmt: skip
