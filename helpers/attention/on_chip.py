"""Whether a tile of attention fits the chip: what it needs of a Da Vinci core's buffers, or a host's caches.

How attention runs on such a core is in the design documents of CANN's flash attention operators
(cann/ops-transformer). The *cube* unit multiplies from L0A and L0B into L0C, in bases of 128 x 128 that come
through L1. The *vector* unit does softmax and rescaling in UB, for some queries at a time. Every tensor on
the way exists twice: one copy is filled while the other is used. The sizes of buffers are official; which
tensor waits where is our accounting of these documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from helpers.attention.io_model import AttentionSize, scores_computed, tiled_traffic
from helpers.attention.tiles import Tiling
from helpers.estimates.hardware import Accelerator
from helpers.estimates.host_caches import HostCaches

CUBE_BASE = 128
"""Side of the square products that the cube makes in steps of 16 x 16 x 16."""
VECTOR_ROWS = 8
"""Queries whose scores the vector unit takes at a time: 8 times 1024 scores in fp32 are 32 KiB."""
_CUBE_STEP, _BLOCK, _FP32, _KIB = 16, 32, 4, 1024
BLOCKS = (128, 256, 512, 1024, 2048)
"""Block sizes that `best_tiling` tries on an accelerator: whole bases of the cube."""
HOST_BLOCKS = (16, 32, 64, 128, 256, 512, 1024)
"""Block sizes that `best_tiling` tries on a host."""


@dataclass(frozen=True)
class Need:
    """Describe what a tile needs of one buffer, in bytes."""

    buffer: str
    capacity: int
    parts: Mapping[str, int]

    @property
    def used(self) -> int:
        """Return the bytes of all parts."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Return whether all parts fit into the buffer."""
        return self.used <= self.capacity


def needs(size: AttentionSize, tiling: Tiling, chip: Accelerator | HostCaches) -> tuple[Need, ...]:
    """Return what a tile of one head needs in every buffer of the chip, the smallest buffers first.

    A core's buffers hold different parts. On a host, each cache is compared with the whole working set of
    `FlashAttention`.
    """
    if isinstance(chip, HostCaches):
        levels = {"L1": chip.l1, "L2": chip.l2, "L3": chip.l3}
        parts = _working_set(size, tiling)
        return tuple(Need(name, kib * _KIB, parts) for name, kib in levels.items())
    have = chip.buffers
    queries, keys, dim = _tile(size, tiling)
    m, n, k = (min(extent, CUBE_BASE) for extent in (queries, keys, dim))
    element = size.element_size
    found = {
        "L0A": (have.l0a, {"Q or weights, twice": 2 * m * max(k, n) * element}),
        "L0B": (have.l0b, {"K or V, twice": 2 * n * k * element}),
        "L0C": (have.l0c, {"scores or result in fp32, twice": 2 * m * max(n, k) * _FP32}),
        "UB": (have.ub, _vector(-(-queries // _sharing(chip)), keys, dim, element)),
        "L1": (have.l1, _cube(queries, n, dim, element)),
        "L2": (chip.l2_mib * _KIB, {"workspace of all cores": workspace(size, tiling, chip)}),
    }
    return tuple(Need(name, kib * _KIB, parts) for name, (kib, parts) in found.items())


def fits(size: AttentionSize, tiling: Tiling, chip: Accelerator | HostCaches) -> bool:
    """Return whether the tile fits every buffer of an accelerator; on a host, the second-level cache."""
    found = needs(size, tiling, chip)
    return next(need.fits for need in found if need.buffer == "L2") and (
        isinstance(chip, HostCaches) or all(need.fits for need in found)
    )


def workspace(size: AttentionSize, tiling: Tiling, chip: Accelerator) -> int:
    """Return the bytes of device memory through which cube and vector units hand over tiles; 0 if none.

    Each core has two tiles: scores and the second product in fp32, weights in the input's type.
    """
    if not chip.handover.through_memory:
        return 0
    queries, keys, dim = _tile(size, tiling)
    return 2 * chip.cube_cores * queries * (keys * (_FP32 + size.element_size) + dim * _FP32)


def handover_traffic(size: AttentionSize, tiling: Tiling, chip: Accelerator) -> int:
    """Return the bytes that cube and vector units move to hand over tiles.

    L2 moves these bytes if it holds the workspace.
    """
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
    """Return the share of the cube's 16 x 16 x 16 steps that is not padding: 1/16 for one query."""
    share = 1.0
    for extent in _tile(size, tiling):
        share *= extent / (-(-extent // _CUBE_STEP) * _CUBE_STEP)
    return share


def best_tiling(
    size: AttentionSize, chip: Accelerator | HostCaches, blocks: Iterable[int] | None = None
) -> Tiling | None:
    """Return the tiling that fits and moves the fewest bytes, hand-over included; None where no tiling fits.

    `blocks`: the block sizes to try, `BLOCKS` or `HOST_BLOCKS` if None. Among tilings that move equally many
    bytes, the one with the fewest tiles is returned.
    """
    sizes = tuple(blocks or (HOST_BLOCKS if isinstance(chip, HostCaches) else BLOCKS))
    fitting = [t for q in sizes for k in sizes if fits(size, t := Tiling(q, k), chip)]

    def cost(tiling: Tiling) -> tuple[int, int]:
        """Return the bytes moved and the number of tiles."""
        handed = 0 if isinstance(chip, HostCaches) else handover_traffic(size, tiling, chip)
        return tiled_traffic(size, tiling).total + handed, sum(tiling.count(size.seen).values())

    return min(fitting, key=cost, default=None)


def _tile(size: AttentionSize, tiling: Tiling) -> tuple[int, int, int]:
    """Return queries, keys and head size of a tile."""
    return min(tiling.query_block, size.seq_len), min(tiling.key_block, size.keys), size.head_dim


def _sharing(chip: Accelerator) -> int:
    """Return how many vector cores share a tile's queries: 2 per cube core where cores are split, else 1."""
    return max(1, chip.vector_cores // chip.cube_cores)


def _cube(queries: int, base: int, dim: int, element: int) -> dict[str, int]:
    """Return the needs of L1: queries stay there; keys, values and weights pass through in bases."""
    return {
        "Q": queries * dim * element,
        "K and V, a base each, twice": 2 * 2 * base * dim * element,
        "weights, a base, twice": 2 * queries * base * element,
    }


def _vector(queries: int, keys: int, dim: int, element: int) -> dict[str, int]:
    """Return the needs of one vector core's UB for its queries of a tile.

    A statistic takes 32 bytes per query.
    """
    taken = min(queries, VECTOR_ROWS)
    return {
        "scores in fp32, twice": 2 * taken * keys * _FP32,
        "weights, twice": 2 * taken * keys * element,
        "old and new result in fp32, twice": 2 * 2 * taken * dim * _FP32,
        "maximum, sum and factor of each row": 3 * queries * _BLOCK,
    }


def _working_set(size: AttentionSize, tiling: Tiling) -> dict[str, int]:
    """Return what `FlashAttention` touches for a tile of one key head and all its query heads, in fp32."""
    queries, keys, dim = _tile(size, tiling)
    queries *= size.num_heads // size.kv_heads
    parts = {
        "Q": queries * dim,
        "K and V": 2 * keys * dim,
        "scores": queries * keys,
        "result": queries * (dim + 2),
    }
    return {name: count * _FP32 for name, count in parts.items()}
