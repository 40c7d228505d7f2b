"""Checks of lab 7, flash attention."""

from __future__ import annotations

from typing import Any

from helpers.checks.families.lab07.core import CORE
from helpers.checks.families.lab07.merge import MERGE
from helpers.checks.families.lab07.tiles import TILES
from helpers.checks.families.lab07.traffic import TRAFFIC
from helpers.checks.families.lab07.update import UPDATE
from helpers.checks.machinery.core import exercise
from helpers.checks.machinery.family import check_family

LAB = "07_flash_attention"


@exercise(LAB, 1, "count the bytes")
def check_traffic(answer: Any) -> None:
    """Check that `answer(q_len, kv_len, head_dim, query_block, element_bytes)` returns the bytes that move
    between device memory and the core.
    """
    check_family(answer, TRAFFIC)


@exercise(LAB, 2, "mend the update")
def check_update(answer: Any) -> None:
    """Check that `answer(maximum, total, weighted, scores, values)` returns the three after one more block of
    keys.
    """
    check_family(answer, UPDATE)


@exercise(LAB, 3, "skip tiles")
def check_tiles(answer: Any) -> None:
    """Check that `answer(q_len, kv_len, query_block, key_block)` returns the tiles `(q_start, k_start,
    masked)` that must be computed.
    """
    check_family(answer, TILES)


@exercise(LAB, 4, "merge two parts")
def check_merge(answer: Any) -> None:
    """Check that `answer(out_a, lse_a, out_b, lse_b)` returns out and lse over the keys of both parts."""
    check_family(answer, MERGE)


@exercise(LAB, 5, "choose tiles for a core")
def check_choose(answer: Any) -> None:
    """Check that `answer(head_dim, l0a, l0b, l0c, l1, ub)` returns (query_block, key_block), or None where no
    tile fits.
    """
    check_family(answer, CORE)
