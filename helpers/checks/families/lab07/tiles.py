"""Exercise 7.3: tiles of causal attention."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from helpers.checks.families import flash_answers as answers
from helpers.checks.machinery.failure import CheckFailed, Words, describe
from helpers.checks.machinery.family import Case, Family, Part, Wrong
from helpers.checks.machinery.values import plain


def tile_cases(draw: random.Random) -> Iterator[Case]:
    """Yield sizes: a whole prompt, a chunk, a single token, more queries than keys; blocks that come out even or do not."""
    names = ("q_len", "kv_len", "query_block", "key_block")
    for sizes in (
        (1, 1, 1, 1),
        (9, 11, 4, 3),
        (9, 9, 4, 2),
        (5, 14, 2, 4),
        (12, 12, 4, 3),
        (8, 8, 4, 4),
        (6, 10, 4, 4),
        (1, 9, 4, 4),
        (7, 3, 2, 2),
        (10, 10, 16, 16),
    ):
        yield dict(zip(names, sizes, strict=True))
    while True:
        q_len, more = draw.randrange(1, 20), draw.choice((0, 0, draw.randrange(20), -draw.randrange(6)))
        yield dict(
            zip(names, (q_len, max(1, q_len + more), draw.randrange(1, 8), draw.randrange(1, 8)), strict=True)
        )


def tile_kind(got: Any, case: Case) -> tuple[list[tuple[Any, Any, bool]]]:
    """Return the tiles. Raises CheckFailed when they are something else."""
    got = plain(got)
    if not isinstance(got, list | tuple):
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed("expected a list of (q_start, k_start, masked)", case, got=describe(got), hint=hint)
    if not all(isinstance(tile, tuple | list) and len(tile) == 3 for tile in got):
        raise CheckFailed(
            "expected three things for each tile: q_start, k_start, masked", case, got=describe(got)
        )
    if not all(isinstance(tile[2], bool) for tile in got):
        raise CheckFailed("masked: expected True or False", case, got=describe(got))
    return ([(tile[0], tile[1], tile[2]) for tile in got],)


def listed(tiles: answers.TileList) -> Words:
    """Return tiles in one line, `masked` where one is; as far as there is room."""
    parts = [f"({q}, {k}{', masked' if masked else ''})" for q, k, masked in tiles]
    return Words(f"{len(parts)} tiles: {' '.join(parts[:12])}{' ...' if len(parts) > 12 else ''}")


def tile_facts(tiles: answers.TileList, right: answers.TileList, case: Case) -> str:
    """Return what a wrong list tells."""
    starts, want = [tile[:2] for tile in tiles], [tile[:2] for tile in right]
    if {*starts} != {*want}:
        return "Is a tile left out, or one there that no query sees?"
    return (
        "The order: block of queries by block of queries, keys from left to right." if starts != want else ""
    )


def _tiles(**options: Any) -> Wrong:
    """Return a wrong answer."""
    return lambda **case: answers.tiles(**case, **options)


def _numbered(**case: Any) -> Any:
    """Give numbers of blocks."""
    return [
        (q // case["query_block"], k // case["key_block"], masked) for q, k, masked in answers.tiles(**case)
    ]


def _last_masked(**case: Any) -> Any:
    """Mask the last tile of each block of queries alone."""
    tiles = answers.tiles(**case)
    last = {q: k for q, k, _ in tiles}
    return [(q, k, masked and last[q] == k) for q, k, masked in tiles]


def _by_keys(**case: Any) -> Any:
    """Go through the blocks of keys first."""
    return sorted(answers.tiles(**case), key=lambda tile: tile[1::-1])


TILES = Family(
    answers.tiles,
    tile_cases,
    (Part(broken="not these tiles", facts=tile_facts, shown=listed, mistakes={
        "Where does query 0 stand? The last query sees the last key, not the first query the first key.": _tiles(offset=0),
        "Some tiles lie wholly behind what their queries see. Are they skipped?": (_tiles(skips="nobody"), _tiles(skips="nobody", masks="never"), _tiles(skips="nobody", masks="all")),
        "Which query of a block looks furthest? A tile that the last one sees in part must be computed.": _tiles(skips="first"),
        "A query sees its own position, too. Is one tile too many skipped?": (_tiles(late=1), _tiles(late=1, early=1)),
        "Is one tile too few skipped? The block's end is one behind its last query.": _tiles(skips="beyond"),
        "The order: block of queries by block of queries, keys from left to right.": _by_keys,
        "A tile whose queries all see all of its keys needs no mask. Which query decides?": _tiles(masks="all"),
        "In a tile at the edge, some queries do not see some keys. Is that masked?": _tiles(masks="never"),
        "Which query of a block sees least? It decides whether a tile needs a mask.": _tiles(masks="last"),
        "A query sees its own position, too. Is a tile masked that ends with it?": _tiles(early=1),
        "With more queries than keys, the first queries see nothing. Does such a query stand before the text, or at its first key?": (
            _tiles(floor=0), lambda **case: answers.tiles(**case, offset=max(0, case["kv_len"] - case["q_len"]))),
        "The tile's first query and first key are asked for. Are these numbers of blocks?": _numbered,
        "Queries and keys have blocks of their own sizes. Is one size taken for both?": (
            lambda **case: answers.tiles(**{**case, "key_block": case["query_block"]}),
            lambda **case: answers.tiles(**{**case, "query_block": case["key_block"]})),
        "More than one tile of a block of queries may need a mask. Is only the last one masked?": _last_masked,
        "The last block of keys may be shorter. Where does it end?": _tiles(whole=True),
    }),),
    kind=tile_kind,
    valid=lambda **case: min(case.values()) >= 1,
)  # fmt: skip
