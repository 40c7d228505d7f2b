"""The arguments of npu_fused_infer_attention_score (v1 and v2), with what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from helpers.emulated_npu.attention import split_heads

TND = "TND"
LAYOUTS = {"BSH": "BSH", "BSND": "BSND", "BNSD": "BNSD", "BNSD_BSND": "BSND", TND: TND}  # of input: of output
_AS_BNSD: dict[str, Callable[[Tensor, int], Tensor]] = {
    "BSH": lambda t, heads: split_heads(t, 2, heads).transpose(1, 2),
    "BSND": lambda t, heads: t.transpose(1, 2),
    "BNSD": lambda t, heads: t,
}
# The arguments of aclnnFusedInferAttentionScoreV3 by name, None for those that only quantisation uses.
V3_NAMES = (
    "q keys values pse_shift mask q_lens kv_lens dequant_scale1 quant_scale1 dequant_scale2 quant_scale2 quant_offset2 "
    "antiquant_scale antiquant_offset block_table query_padding_size kv_padding_size key_antiquant_scale "
    "key_antiquant_offset value_antiquant_scale value_antiquant_offset key_shared_prefix value_shared_prefix "
    "shared_prefix_len query_rope key_rope key_rope_antiquant_scale heads scale before after layout_bytes "
    "num_key_value_heads sparse_mode inner_precise block_size antiquant_mode want_lse key_antiquant_mode "
    "value_antiquant_mode out lse"
).split()
V3_SIGNATURE = "TLLTT AA TTTTTTT TTT TTTT TT A TTT i d ii s iiiii b ii TT"
# V4 adds two tensors after the ropes and a mode at the end.
_ROPES = V3_NAMES.index("heads")
V4_NAMES = [
    *V3_NAMES[:_ROPES],
    "dequant_scale_query",
    "learnable_sink",
    *V3_NAMES[_ROPES:-2],
    "query_quant_mode",
    "out",
    "lse",
]
V4_SIGNATURE = "TLLTT AA TTTTTTT TTT TTTT TT A TTTTT i d ii s iiiii b iii TT"
# What the emulation does not have: it must be absent.
UNSUPPORTED = (
    "pse_shift dequant_scale1 quant_scale1 dequant_scale2 quant_scale2 quant_offset2 antiquant_scale antiquant_offset "
    "query_padding_size kv_padding_size key_antiquant_offset value_antiquant_offset key_shared_prefix "
    "value_shared_prefix query_rope key_rope key_rope_antiquant_scale "
    "dequant_scale_query"
).split()


@dataclass(frozen=True)
class InferCall:
    """One call; tensors in the layout `layout_in`, lengths as they were passed."""

    q: Tensor
    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    mask: Tensor | None
    q_lens: Sequence[int] | None
    kv_lens: Sequence[int] | None
    block_table: Tensor | None
    learnable_sink: Tensor | None
    key_antiquant_scale: Tensor | None
    value_antiquant_scale: Tensor | None
    key_antiquant_mode: int
    value_antiquant_mode: int
    heads: int
    scale: float
    before: int
    after: int
    layout: str
    kv_heads: int
    sparse_mode: int
    inner_precise: int
    block_size: int
    want_lse: bool
    out: Tensor
    lse: Tensor
    unsupported: Sequence[str]

    @classmethod
    def of(cls, names: Sequence[str], args: Sequence[Any]) -> InferCall:
        """Return the call behind the arguments of an aclnn function."""
        given = dict(zip(names, args, strict=True))
        present = [name for name in UNSUPPORTED if given.get(name) is not None]
        kv_heads = given["num_key_value_heads"] or given["heads"]
        known: dict[str, Any] = {name: given.get(name) for name in cls.__dataclass_fields__ if name in given}
        sink = given.get("learnable_sink")
        known |= {"layout": given["layout_bytes"].decode(), "kv_heads": kv_heads, "learnable_sink": sink}
        return cls(**known, unsupported=present)

    @property
    def layout_in(self) -> str:
        """Return the layout of query, key and value."""
        return self.layout.partition("_")[0]

    @property
    def packed(self) -> bool:
        """Return whether sequences lie one after the other, without a batch dimension."""
        return self.layout == TND

    @property
    def paged(self) -> bool:
        """Return whether keys and values are pages behind a block table."""
        return self.block_table is not None

    @property
    def k(self) -> Tensor:
        """Return the key, of the first (and only) list member."""
        return self.keys[0]

    @property
    def v(self) -> Tensor:
        """Return the value, of the first (and only) list member."""
        return self.values[0]

    @property
    def batch(self) -> int:
        """Return the count of sequences."""
        return len(self.q_lens or ()) if self.packed else self.q.shape[0]

    @property
    def q_size(self) -> int:
        """Return the query's length S; for packed sequences, the number of all their tokens."""
        return self.q.shape[2] if self.layout_in == "BNSD" else self.q.shape[0 if self.packed else 1]

    @property
    def kv_size(self) -> int:
        """Return the key's length S: all tokens where packed, the room of a row of the block table where paged."""
        if self.block_table is not None:
            return self.block_table.shape[1] * self.block_size
        return self.k.shape[2] if self.layout_in == "BNSD" else self.k.shape[0 if self.packed else 1]

    @property
    def head_size(self) -> int:
        """Return the query's head size D."""
        return self.q.shape[2] // self.heads if self.layout_in == "BSH" else self.q.shape[-1]

    @property
    def quantised(self) -> bool:
        """Return whether scales came, which make numbers of int8 keys and values."""
        return self.key_antiquant_scale is not None or self.value_antiquant_scale is not None

    @property
    def decodes(self) -> bool:
        """Return whether the query has one token, the documents' case Q_S == 1.

        That case ignores sparse_mode, pre_tokens and next_tokens.
        """
        return not self.packed and self.q_size == 1

    @property
    def mode(self) -> int:
        """Return the sparse mode in effect."""
        return 0 if self.decodes else self.sparse_mode

    def query_lengths(self) -> list[int]:
        """Return plain query lengths, one for each sequence."""
        if self.packed:
            return _differences(self.q_lens or ())
        return [1] * self.batch if self.decodes else _for_each(self.q_lens, self.batch, self.q_size)

    def key_lengths(self) -> list[int]:
        """Return plain key lengths, one for each sequence: pages come with plain ones, packed sequences with
        cumulative ones.
        """
        if self.packed and not self.paged:
            return _differences(self.kv_lens or ())
        return _for_each(self.kv_lens, self.batch, self.kv_size)

    def queries(self, t: Tensor, layout: str) -> Iterator[Tensor]:
        """Return views `[heads, length, D]` of the query or of an output in a layout, one for each sequence."""
        if not self.packed:
            yield from (
                row[:, :n]
                for row, n in zip(_AS_BNSD[layout](t, self.heads), self.query_lengths(), strict=True)
            )
            return
        for a, b in zip((0, *(self.q_lens or ())), self.q_lens or (), strict=False):
            yield t[a:b].transpose(0, 1)

    def keys_of(self, cache: Tensor) -> Iterator[Tensor]:
        """Return tensors `[KvN, length, D]` of keys or values, one for each sequence."""
        lengths = self.key_lengths()
        if self.block_table is not None:
            yield from (
                self._gathered(cache, row, n) for row, n in zip(self.block_table, lengths, strict=True)
            )
        elif self.packed:
            for end, n in zip(self.kv_lens or (), lengths, strict=True):
                yield cache[end - n : end].transpose(0, 1)
        else:
            yield from (
                row[:, :n]
                for row, n in zip(_AS_BNSD[self.layout_in](cache, self.kv_heads), lengths, strict=True)
            )

    def _gathered(self, cache: Tensor, row: Tensor, length: int) -> Tensor:
        """Return one sequence's keys out of its pages, without the unused slots of the last one."""
        pages: Tensor = cache[row[: self.pages_for(length)].long()]
        if cache.dim() == 3:  # [blocks, block size, KvN * D]
            tokens = split_heads(pages.flatten(0, 1), 1, self.kv_heads).transpose(0, 1)
        else:  # [blocks, KvN, block size, D]
            tokens = pages.transpose(0, 1).flatten(1, 2)
        return tokens[:, :length]

    def pages_for(self, length: int) -> int:
        """Return the number of pages that so many tokens occupy."""
        return -(-length // self.block_size)


def _differences(ends: Sequence[int]) -> list[int]:
    """Return plain lengths from cumulative ones."""
    return [b - a for a, b in zip((0, *ends), ends, strict=False)]


def _for_each(lengths: Sequence[int] | None, batch: int, default: int) -> list[int]:
    """Return one length for each sequence of the batch.

    Without lengths, each sequence has the whole size. A single length is for all; surplus lengths are
    ignored.
    """
    if not lengths:
        return [default] * batch
    return list(lengths) * batch if len(lengths) == 1 else list(lengths[:batch])
