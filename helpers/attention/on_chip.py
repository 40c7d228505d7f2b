"""Whether a tile of attention fits the chip: what it needs of a Da Vinci core's buffers, or a host's caches.

How attention runs on such a core (the design documents of CANN's flash attention operators,
cann/ops-transformer): the *cube* unit multiplies, from L0A and L0B into L0C, in bases of 128 x 128 that come
through L1; the *vector* unit does softmax and rescaling in UB, some rows of scores at a time. Everything on
its way exists twice, so that one is filled while the other is used. The sizes of buffers are official; which
tensor waits where is our accounting of these documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from helpers.attention.io_model import AttentionSize, scores_computed, tiled_traffic
from helpers.attention.tiles import Tiling
from helpers.estimates.hardware import Accelerator, HostCaches

CUBE_BASE = 128
"""Rows and columns of the products that are made of the cube's steps of 16 x 16 x 16."""
VECTOR_ROWS = 8
"""Rows of scores that the vector unit takes at a time: 8 rows of 1024 in fp32 are 32 KiB."""
_CUBE_STEP, _BLOCK, _FP32, _KIB = 16, 32, 4, 1024
BLOCKS = (128, 256, 512, 1024, 2048)
"""Block sizes that `best_tiling` tries on an accelerator: whole bases."""
HOST_BLOCKS = (16, 32, 64, 128, 256, 512, 1024)
"""Block sizes that it tries on a host."""


@dataclass(frozen=True)
class Need:
    """What a tile asks of one buffer, in bytes."""

    buffer: str
    capacity: int
    parts: Mapping[str, int]

    @property
    def used(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether they fit."""
        return self.used <= self.capacity


def needs(size: AttentionSize, tiling: Tiling, chip: Accelerator | HostCaches) -> tuple[Need, ...]:
    """What a tile of one head needs in every buffer of the chip, the smallest buffers first.

    A host's caches each take the whole working set of `FlashAttention`, or do not; a core's buffers have
    their parts.
    """
    if isinstance(chip, HostCaches):
        levels = {"L1": chip.l1, "L2": chip.l2, "L3": chip.l3}
        parts = _working_set(size, tiling)
        return tuple(Need(name, kib * _KIB, parts) for name, kib in levels.items())
    have = chip.buffers
    rows, keys, dim = _tile(size, tiling)
    m, n, k = (min(extent, CUBE_BASE) for extent in (rows, keys, dim))
    element = size.element_size
    found = {
        "L0A": (have.l0a, {"Q or weights, twice": 2 * m * max(k, n) * element}),
        "L0B": (have.l0b, {"K or V, twice": 2 * n * k * element}),
        "L0C": (have.l0c, {"scores or result in fp32, twice": 2 * m * max(n, k) * _FP32}),
        "UB": (have.ub, _vector(-(-rows // _sharing(chip)), keys, dim, element)),
        "L1": (have.l1, _cube(rows, n, dim, element)),
        "L2": (chip.l2_mib * _KIB, {"workspace of all cores": workspace(size, tiling, chip)}),
    }
    return tuple(Need(name, kib * _KIB, parts) for name, (kib, parts) in found.items())


def fits(size: AttentionSize, tiling: Tiling, chip: Accelerator | HostCaches) -> bool:
    """Whether the tile fits every buffer of an accelerator; on a host, the second-level cache."""
    found = needs(size, tiling, chip)
    return next(need.fits for need in found if need.buffer == "L2") and (
        isinstance(chip, HostCaches) or all(need.fits for need in found)
    )


def workspace(size: AttentionSize, tiling: Tiling, chip: Accelerator) -> int:
    """Bytes of device memory through which cube and vector units hand over tiles; 0 where they need none.

    Two tiles for each core: scores and the second product in fp32, weights in the input's type.
    """
    if not chip.handover.through_memory:
        return 0
    rows, keys, dim = _tile(size, tiling)
    return 2 * chip.cube_cores * rows * (keys * (_FP32 + size.element_size) + dim * _FP32)


def handover_traffic(size: AttentionSize, tiling: Tiling, chip: Accelerator) -> int:
    """Bytes that cube and vector units move to hand tiles over: L2's work if it holds the workspace."""
    if not chip.handover.through_memory:
        return 0
    heads, seen = size.batch_size * size.num_heads, size.seen
    products = sum(
        (end - start) * tiling.num_visited(seen, start, end)
        for start, end in tiling.query_tiles(size.seq_len)
    )
    per_score = 2 * (_FP32 + size.element_size)
    return heads * (scores_computed(size, tiling) * per_score + products * size.head_dim * 2 * _FP32)


def cube_share(size: AttentionSize, tiling: Tiling) -> float:
    """The share of the cube's 16 x 16 x 16 steps that is not padding: 1/16 for one query."""
    share = 1.0
    for extent in _tile(size, tiling):
        share *= extent / (-(-extent // _CUBE_STEP) * _CUBE_STEP)
    return share


def best_tiling(
    size: AttentionSize, chip: Accelerator | HostCaches, blocks: Iterable[int] | None = None
) -> Tiling | None:
    """Of the tilings with these block sizes that fit, the one that moves least, handing over included.

    The one with fewest tiles, if several do; None where nothing fits.
    """
    sizes = tuple(blocks or (HOST_BLOCKS if isinstance(chip, HostCaches) else BLOCKS))
    fitting = [t for q in sizes for k in sizes if fits(size, t := Tiling(q, k), chip)]

    def cost(tiling: Tiling) -> tuple[int, int]:
        """Bytes moved, and tiles."""
        handed = 0 if isinstance(chip, HostCaches) else handover_traffic(size, tiling, chip)
        return tiled_traffic(size, tiling).total + handed, sum(tiling.count(size.seen).values())

    return min(fitting, key=cost, default=None)


def _tile(size: AttentionSize, tiling: Tiling) -> tuple[int, int, int]:
    """Queries, keys and head size of a tile."""
    return min(tiling.query_block, size.seq_len), min(tiling.key_block, size.keys), size.head_dim


def _sharing(chip: Accelerator) -> int:
    """Vector cores that share a tile's rows: two for each cube core where the cores are split, else one."""
    return max(1, chip.vector_cores // chip.cube_cores)


def _cube(rows: int, base: int, dim: int, element: int) -> dict[str, int]:
    """L1: the block of queries stays, keys, values and weights pass in bases."""
    return {
        "Q": rows * dim * element,
        "K and V, a base each, twice": 2 * 2 * base * dim * element,
        "weights, a base, twice": 2 * rows * base * element,
    }


def _vector(rows: int, keys: int, dim: int, element: int) -> dict[str, int]:
    """UB of one vector core for its rows of a tile: a statistic takes 32 bytes per row."""
    taken = min(rows, VECTOR_ROWS)
    return {
        "scores in fp32, twice": 2 * taken * keys * _FP32,
        "weights, twice": 2 * taken * keys * element,
        "old and new result in fp32, twice": 2 * 2 * taken * dim * _FP32,
        "maximum, sum and factor of each row": 3 * rows * _BLOCK,
    }


def _working_set(size: AttentionSize, tiling: Tiling) -> dict[str, int]:
    """What `FlashAttention` touches for a tile of one key head, in fp32: its query heads come together."""
    rows, keys, dim = _tile(size, tiling)
    rows *= size.num_heads // size.kv_heads
    parts = {"Q": rows * dim, "K and V": 2 * keys * dim, "scores": rows * keys, "result": rows * (dim + 2)}
    return {name: count * _FP32 for name, count in parts.items()}
