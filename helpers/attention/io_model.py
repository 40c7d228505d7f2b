"""What attention moves between memory and chip, and what memory it needs: counted from sizes, in bytes.

Materialised attention passes over `N x N` numbers four times: scores are written, and read for softmax;
weights are written, and read for the second product. Tiled attention keeps scores on the chip, and reads keys
and values again for every block of queries. Larger blocks mean fewer reads:

- A block of `B` queries, a tile of `B` keys, their values and the result take `4 B d` numbers. The chip holds
  `M` numbers, so that `B = M / (4 d)`.
- `N / B` blocks read `2 N d` numbers of keys and values each: `2 N^2 d / B = 8 N^2 d^2 / M`.

So the *memory* is linear in `N`. The *traffic* is O(N^2 d^2 / M), which is not linear (arXiv:2205.14135,
theorem 2). No exact algorithm does better for every `M` (proposition 3 there). Causal masks and windows save
the tiles that no query sees.
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.attention.tiles import Tiling, Visibility

_FP32 = 4


@dataclass(frozen=True)
class AttentionSize:
    """Describe one attention: `seq_len` queries over `kv_len` keys, for every head.

    `kv_len`: as many as `seq_len` if None. `num_kv_heads`: as many as `num_heads` if None. `element_size`:
    bytes of an element of Q, K, V and the result. `causal` and `window` are as in `FlashAttention`. Raises
    ValueError for a size that is not a positive whole number.
    """

    seq_len: int
    num_heads: int = 1
    head_dim: int = 64
    num_kv_heads: int | None = None
    kv_len: int | None = None
    batch_size: int = 1
    element_size: int = 2
    causal: bool = True
    window: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a size that is not a positive whole number, or heads that do not divide."""
        for name, size in vars(self).items():
            if name == "causal" or (size is None and name in ("num_kv_heads", "kv_len", "window")):
                continue
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} is a whole number from 1, got {size!r}")
        if self.num_heads % self.kv_heads:
            raise ValueError(f"num_kv_heads divides num_heads, got {self.num_kv_heads} and {self.num_heads}")

    @property
    def keys(self) -> int:
        """Return the number of keys of a sequence."""
        return self.seq_len if self.kv_len is None else self.kv_len

    @property
    def kv_heads(self) -> int:
        """Return the number of heads of keys and values."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def seen(self) -> Visibility:
        """Return which keys each query sees."""
        return Visibility(self.seq_len, self.keys, self.causal, self.window)

    @property
    def rows(self) -> int:
        """Return the number of queries of all heads and sequences."""
        return self.batch_size * self.num_heads * self.seq_len


@dataclass(frozen=True)
class Traffic:
    """Count the bytes that move between memory and chip, by what is moved."""

    queries: int
    keys_values: int
    scores: int
    """Scores and weights, written and read."""
    result: int

    @property
    def total(self) -> int:
        """Return the bytes of all parts."""
        return self.queries + self.keys_values + self.scores + self.result


def naive_traffic(size: AttentionSize) -> Traffic:
    """Return the least that materialised attention moves: fp32 scores and weights, written and read once.

    Masked scores are computed like others. Inputs are read once, which a matrix product can come near to.
    """
    vector = size.head_dim * size.element_size
    kv = 2 * size.batch_size * size.kv_heads * size.keys * vector
    return Traffic(size.rows * vector, kv, 4 * size.rows * size.keys * _FP32, size.rows * vector)


def tiled_traffic(size: AttentionSize, tiling: Tiling, *, folded: bool = False) -> Traffic:
    """Return what tiled attention moves: queries and result once, keys and values once per block of queries.

    A block of queries reads only the keys that its queries see. The result's log-sum-exp (fp32) counts.
    `folded`: the query heads that share a key head are computed together, as in `FlashAttention`, and the
    shared keys are read once. Otherwise each query head reads the keys alone.
    """
    vector = size.head_dim * size.element_size
    readers = size.batch_size * (size.kv_heads if folded else size.num_heads)
    kv = 2 * readers * keys_read(size, tiling) * vector
    return Traffic(size.rows * vector, kv, 0, size.rows * (vector + _FP32))


def keys_read(size: AttentionSize, tiling: Tiling) -> int:
    """Return the number of keys that the blocks of queries of one head read, all blocks together."""
    seen = size.seen
    return sum(seen.end(end - 1) - seen.first(start) for start, end in tiling.query_tiles(size.seq_len))


def scores_computed(size: AttentionSize, tiling: Tiling) -> int:
    """Return the number of scores of one head in tiles that are not skipped, hidden scores included."""
    seen, total = size.seen, 0
    for start, end in tiling.query_tiles(size.seq_len):
        total += (end - start) * (seen.end(end - 1) - seen.first(start))
    return total


def traffic_order(size: AttentionSize, on_chip: float) -> float:
    """Return the derivation's `2 N d + 8 N^2 d^2 / M`, in bytes for all heads; `on_chip` is `M` in bytes.

    The formula is for as many queries as keys, without a mask; a causal mask leaves half of the second term.
    Raises ValueError for an `on_chip` that is not positive.
    """
    if on_chip <= 0:
        raise ValueError(f"on_chip is a positive number of bytes, got {on_chip}")
    vector = size.head_dim * size.element_size
    once = 2 * size.rows * vector
    return once + 8 * size.rows * size.keys * vector**2 / on_chip


def naive_memory(size: AttentionSize) -> int:
    """Return the bytes that `materialised_attention` needs at its peak, its result included.

    Sequences are computed one at a time. Scores and their softmax are fp32; K and V are copied for each query
    head; 16-bit weights are one more copy.
    """
    heads, vector = size.num_heads, size.head_dim * size.element_size
    scores = heads * size.seq_len * size.keys
    repeated = 2 * heads * size.keys * vector
    rounded = scores * size.element_size if size.element_size != _FP32 else 0
    return size.rows * vector + repeated + 2 * scores * _FP32 + rounded


def tiled_memory(size: AttentionSize, tiling: Tiling) -> int:
    """Return the bytes that `FlashAttention.forward` needs at its peak.

    Counted are the result, the lse, a block of queries, and a tile. A block of queries has a copy in fp32
    (unless the queries are fp32 and no heads are folded), and its state. A tile has scores, the mask, and
    keys or values in fp32, unless the input is fp32.
    """
    block, keys = min(tiling.query_block, size.seq_len), min(tiling.key_block, size.keys)
    rows = size.batch_size * size.num_heads * block
    vectors = rows * size.head_dim * _FP32
    copied = size.element_size != _FP32 or (size.kv_heads != size.num_heads and block < size.seq_len)
    state = vectors + 2 * rows * _FP32 + (vectors if copied else 0)
    kv = size.batch_size * size.kv_heads * keys * size.head_dim * _FP32
    tile = rows * keys * _FP32 + (kv if size.element_size != _FP32 else 0) + block * keys
    return size.rows * (size.head_dim * size.element_size + _FP32) + state + max(tile, vectors)
