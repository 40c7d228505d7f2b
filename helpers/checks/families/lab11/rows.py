"""Exercise 11.1: a fused matrix of queries, keys and values, shared out by heads."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.checks.families.lab11.numbers import whole_numbers
from helpers.checks.machinery.family import Case, Family, Part, Wrong


def own_rows(
    heads: int, kv_heads: int, head_dim: int, world: int, rank: int, *, share: str = "first", queries: str = "of keys",
    key_at: str = "right", value_at: str = "right", by_heads: bool = False, parts: str = "qkv", first_rank: int = 0,
    order: str = "parts",
) -> list[int]:  # fmt: skip
    """Return the right answer; with one of the options changed, a wrong one."""
    rank, group = (rank - first_rank) % world, heads // kv_heads
    kv = _share(kv_heads, world, rank, share)
    q = [head for one in kv for head in range(one * group, (one + 1) * group)]
    if queries in ("evenly", "between"):
        q = _share(heads, world, rank, share if queries == "evenly" else queries)
    elif queries == "spread":
        q = [head for head in range(heads) if head % kv_heads in kv]
    keys = {"right": heads, "start": 0, "dims": heads * head_dim}[key_at]
    values = {"right": heads + kv_heads, "keys": heads, "queries": 2 * heads, "start": 0}[value_at]
    columns = {"q": q, "k": [keys + i for i in kv], "v": [values + i for i in kv]}
    found = [head for part in parts for head in columns[part]]
    if order == "heads":
        found = [
            h
            for one in kv
            for h in (*q[kv.index(one) * group :][:group], heads + one, heads + kv_heads + one)
        ]
    return found if by_heads else [head * head_dim + i for head in found for i in range(head_dim)]


def _share(count: int, world: int, rank: int, how: str) -> list[int]:
    """Return a rank's numbers out of `count`; "first" is the right way."""
    each, more = divmod(count, world)
    if how == "all":
        return list(range(count))
    if how == "in turn":
        return list(range(rank, count, world))
    if how == "ceiling":
        size = -(-count // world)
        return list(range(min(count, rank * size), min(count, (rank + 1) * size)))
    start, size = {
        "first": (rank * each + min(rank, more), each + (rank < more)),
        "last": (rank * each + max(0, rank - world + more), each + (rank >= world - more)),
        "floor": (rank * each, each),
        "rest to the last": (rank * each, each + (more if rank == world - 1 else 0)),
        "between": (rank * count // world, (rank + 1) * count // world - rank * count // world),
    }[how]
    return list(range(start, start + size))


def _rows(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: own_rows(**case, **options)


def _pieces(heads: int, kv_heads: int, head_dim: int, world: int, rank: int) -> list[int]:
    """Cut the whole matrix into pieces, one after the other."""
    return _share((heads + 2 * kv_heads) * head_dim, world, rank, "first")


def _whole_heads(heads: int, kv_heads: int, head_dim: int, world: int, rank: int) -> list[int]:
    """Cut the whole matrix into pieces between heads."""
    found = _share(heads + 2 * kv_heads, world, rank, "first")
    return [head * head_dim + i for head in found for i in range(head_dim)]


def _each_by_rows(heads: int, kv_heads: int, head_dim: int, world: int, rank: int) -> list[int]:
    """Cut queries, keys and values each into equal pieces of rows, through heads."""
    found, start = list[int](), 0
    for count in (heads * head_dim, kv_heads * head_dim, kv_heads * head_dim):
        found += [start + row for row in _share(count, world, rank, "first")]
        start += count
    return found


def rows_cases(draw: random.Random) -> Iterator[Case]:
    """Yield matrices: one rank, heads that come out even or not, one query head for each KV head, heads of one row, large models."""
    names = ("heads", "kv_heads", "head_dim", "world", "rank")
    for numbers in (
        (9, 3, 2, 3, 1), (9, 3, 2, 2, 0), (9, 3, 2, 2, 1), (4, 4, 2, 2, 1), (2, 1, 3, 1, 0), (8, 4, 1, 3, 2), (8, 4, 2, 3, 0), (4, 2, 2, 2, 1),
        (5, 5, 1, 3, 1), (1, 1, 1, 1, 0), (256, 16, 128, 12, 11), (32, 8, 128, 3, 2), (96, 12, 40, 11, 10),
    ):  # fmt: skip
        yield dict(zip(names, numbers, strict=True))
    while True:
        kv_heads = draw.randrange(1, draw.choice((4, 9, 18)))
        world = draw.randrange(1, kv_heads + 1)
        heads = kv_heads * draw.choice((1, 2, 3, 4))
        yield dict(
            zip(names, (heads, kv_heads, draw.randrange(1, 5), world, draw.randrange(world)), strict=True)
        )


def _is_split(heads: int, kv_heads: int, head_dim: int, world: int, rank: int) -> bool:
    """Return whether there is a KV head for each rank, and whole groups of query heads."""
    return (
        min(heads, head_dim) >= 1 and 1 <= world <= kv_heads and heads % kv_heads == 0 and 0 <= rank < world
    )


def _facts(got: Sequence[int], right: Sequence[int], case: Case) -> str:
    """Return what rows that are the right ones, or not in the matrix, tell."""
    if sorted(got) == sorted(right):
        return "These are the right rows. Do queries come first, then keys, then values?"
    last = (case["heads"] + 2 * case["kv_heads"]) * case["head_dim"]
    return f"The matrix has rows 0 to {last - 1}." if any(not 0 <= row < last for row in got) else ""


ROWS = Family(
    own_rows,
    rows_cases,
    (Part("rows", broken="not the ones of this rank", facts=_facts, mistakes={
        "Is the matrix cut into pieces, one after the other? Then one rank has queries alone, and another one the keys.": (_pieces, _whole_heads),
        "Are pieces cut through a head? A head is computed whole, by one rank.": _each_by_rows,
        "That is one row for each head. A head has `head_dim` rows.": _rows(by_heads=True),
        "Each rank has its own KV heads. Does this one have all of them?": (_rows(share="all"), _rows(share="all", queries="evenly")),
        "Which query heads read this rank's KV heads? Shared out on their own, they lose them where heads do not come out even.": (
            _rows(queries="evenly"), _rows(queries="between")),
        "Query heads that follow one another read the same KV head. Are they taken in turn?": _rows(queries="spread"),
        "Heads go to ranks in order. Are they dealt in turn?": (_rows(share="in turn"), _rows(share="in turn", queries="evenly")),
        "The first ranks have one head more. Is it the last ones?": _rows(share="last"),
        "Heads do not always come out even. Does the last rank get all that is left?": _rows(share="rest to the last"),
        "Heads do not always come out even. Are some heads with no rank?": _rows(share="floor"),
        "Heads do not always come out even. Do the last ranks have enough?": _rows(share="ceiling"),
        "As even as whole heads allow, and the first ranks have one more: are the larger parts elsewhere?": _rows(share="between"),
        "Keys come after all queries. Where do they begin?": (_rows(key_at="start"), _rows(key_at="dims")),
        "Values come after all keys. Where do they begin?": (_rows(value_at="keys"), _rows(value_at="queries"), _rows(value_at="start")),
        "Does a rank need keys and values, too?": _rows(parts="q"),
        "Does a rank need queries, keys and values?": (_rows(parts="qk"), _rows(parts="kv"), _rows(parts="qv")),
        "Ranks are counted from 0.": _rows(first_rank=1),
        "These are the right rows. Do queries come first, then keys, then values?": (_rows(order="heads"), _rows(parts="kvq"), _rows(parts="qvk")),
    }),),
    kind=whole_numbers("rows"),
    valid=_is_split,
)  # fmt: skip
