"""What attention moves between memory and chip, and what memory it needs, counted from sizes: all in bytes.

Materialised attention writes a score for every pair of tokens, reads it for softmax, writes the weight and
reads that for the second product: four passes over `N x N` numbers. Tiled attention keeps scores on the chip
and reads keys and values again for every block of queries. The larger the block, the fewer times:

- A block of `B` queries, a tile of `B` keys, their values and the result take `4 B d` of the `M` numbers that
  the chip holds, so that `B = M / (4 d)`;
- `N / B` blocks read `2 N d` numbers of keys and values each: `2 N^2 d / B = 8 N^2 d^2 / M`.

So the *memory* is linear in `N`, the *traffic* is O(N^2 d^2 / M), not linear (arXiv:2205.14135, theorem 2;
proposition 3: no exact algorithm does better for every `M`). Causal masks and windows save the tiles that
nobody sees.
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.attention.tiles import Tiling, Visibility

_FP32 = 4


@dataclass(frozen=True)
class AttentionSize:
    """The sizes of one attention: `seq_len` queries over `kv_len` keys (as many if None), for every head.

    `num_kv_heads`: as many as `num_heads` if None. `element_size`: bytes of an element of Q, K, V and the
    result. `causal` and `window` as in `FlashAttention`. Raises ValueError for a size that is no positive
    whole number.
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
        """Checks every size."""
        for name, size in vars(self).items():
            if name == "causal" or (size is None and name in ("num_kv_heads", "kv_len", "window")):
                continue
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} is a whole number from 1, got {size!r}")
        if self.num_heads % self.kv_heads:
            raise ValueError(f"num_kv_heads divides num_heads, got {self.num_kv_heads} and {self.num_heads}")

    @property
    def keys(self) -> int:
        """Keys of a sequence."""
        return self.seq_len if self.kv_len is None else self.kv_len

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def seen(self) -> Visibility:
        """Which keys each query sees."""
        return Visibility(self.seq_len, self.keys, self.causal, self.window)

    @property
    def rows(self) -> int:
        """Queries of all heads and sequences."""
        return self.batch_size * self.num_heads * self.seq_len


@dataclass(frozen=True)
class Traffic:
    """Bytes between memory and chip, by what they are."""

    queries: int
    keys_values: int
    scores: int
    """Scores and weights, written and read."""
    result: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.queries + self.keys_values + self.scores + self.result


def naive_traffic(size: AttentionSize) -> Traffic:
    """What materialised attention moves at least: every score and weight, in fp32, written and read once.

    Masked scores are computed like others. Inputs are read once, which a matrix product can come near to.
    """
    vector = size.head_dim * size.element_size
    kv = 2 * size.batch_size * size.kv_heads * size.keys * vector
    return Traffic(size.rows * vector, kv, 4 * size.rows * size.keys * _FP32, size.rows * vector)


def tiled_traffic(size: AttentionSize, tiling: Tiling, *, folded: bool = False) -> Traffic:
    """What tiled attention moves: queries and result once, keys and values once per block that sees them.

    The result's log-sum-exp (fp32) counts. `folded`: the query heads that share a key head are computed
    together, as `FlashAttention` does, and read its keys once for all of them; otherwise each head reads them
    alone.
    """
    vector = size.head_dim * size.element_size
    readers = size.batch_size * (size.kv_heads if folded else size.num_heads)
    kv = 2 * readers * keys_read(size, tiling) * vector
    return Traffic(size.rows * vector, kv, 0, size.rows * (vector + _FP32))


def keys_read(size: AttentionSize, tiling: Tiling) -> int:
    """Keys that the blocks of queries of one head read, all blocks together."""
    seen = size.seen
    return sum(seen.end(end - 1) - seen.first(start) for start, end in tiling.query_tiles(size.seq_len))


def scores_computed(size: AttentionSize, tiling: Tiling) -> int:
    """Scores of one head in tiles that are not skipped, hidden ones of these tiles included."""
    seen, total = size.seen, 0
    for start, end in tiling.query_tiles(size.seq_len):
        total += (end - start) * (seen.end(end - 1) - seen.first(start))
    return total


def traffic_order(size: AttentionSize, on_chip: float) -> float:
    """The derivation's `2 N d + 8 N^2 d^2 / M`, in bytes for all heads: `on_chip` is `M` in bytes.

    For as many queries as keys, without a mask; of the second term a causal mask leaves half.
    """
    if on_chip <= 0:
        raise ValueError(f"on_chip is a positive number of bytes, got {on_chip}")
    vector = size.head_dim * size.element_size
    once = 2 * size.rows * vector
    return once + 8 * size.rows * size.keys * vector**2 / on_chip


def naive_memory(size: AttentionSize) -> int:
    """Bytes that `materialised_attention` needs at its peak, its result included; one sequence at a time.

    Scores and their softmax are fp32; K and V are copied for each query head; 16-bit weights are one more
    copy.
    """
    heads, vector = size.num_heads, size.head_dim * size.element_size
    scores = heads * size.seq_len * size.keys
    repeated = 2 * heads * size.keys * vector
    rounded = scores * size.element_size if size.element_size != _FP32 else 0
    return size.rows * vector + repeated + 2 * scores * _FP32 + rounded


def tiled_memory(size: AttentionSize, tiling: Tiling) -> int:
    """Bytes that `FlashAttention.forward` needs at its peak: the result, its lse, a block's state, a tile.

    Of a block of queries: a copy in fp32 (unless they are that already and no heads are folded), and its
    state. Of a tile: scores, the mask, and keys or values in fp32, unless they are.
    """
    block, keys = min(tiling.query_block, size.seq_len), min(tiling.key_block, size.keys)
    rows = size.batch_size * size.num_heads * block
    vectors = rows * size.head_dim * _FP32
    copied = size.element_size != _FP32 or (size.kv_heads != size.num_heads and block < size.seq_len)
    state = vectors + 2 * rows * _FP32 + (vectors if copied else 0)
    kv = size.batch_size * size.kv_heads * keys * size.head_dim * _FP32
    tile = rows * keys * _FP32 + (kv if size.element_size != _FP32 else 0) + block * keys
    return size.rows * (size.head_dim * size.element_size + _FP32) + state + max(tile, vectors)
