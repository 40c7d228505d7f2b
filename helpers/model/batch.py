"""A step's work for the model: tokens of several sequences in one flat row, as production engines do it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class FlatBatch:
    """The new tokens of `B` sequences, packed one after the other: `T` tokens in all, no padding.

    A prompt, a chunk of a prompt, one decoded token, or any mixture of these is the same thing. All are new
    tokens that follow a history which the cache holds. Lengths are host values: a fused attention operator
    takes lists, and a device tensor would make the operator wait for the device.
    """

    token_ids: Tensor
    """`[T]` int64: the new tokens."""
    positions: Tensor
    """`[T]` int64: each token's position in its own sequence, counted from 0."""
    query_start_loc: tuple[int, ...]
    """`B + 1` offsets into the `T` tokens: sequence `i` owns `[i]:[i + 1]`."""
    seq_lens: tuple[int, ...]
    """`B` lengths in tokens: history plus new tokens."""
    seq_ids: tuple[Hashable, ...]
    """`B` names under which the cache keeps the sequences."""
    new_tokens: tuple[tuple[int, ...], ...]
    """The new tokens of each sequence again, on the host, for a cache that shares texts between requests."""
    max_token_id: int
    """The largest of the token ids, known on the host so that the model can refuse it without asking the
    device.
    """

    @classmethod
    def pack(
        cls,
        new_tokens: Sequence[Sequence[int]],
        history: Sequence[int] | None = None,
        seq_ids: Sequence[Hashable] | None = None,
        device: torch.device | str = "cpu",
    ) -> FlatBatch:
        """Return a batch of `new_tokens`, each sequence following `history[i]` tokens that are computed
        already (default 0).

        Raises ValueError for no sequence, an empty sequence, a negative token or history, or a name given
        twice.
        """
        starts = tuple(history) if history is not None else (0,) * len(new_tokens)
        names = tuple(seq_ids) if seq_ids is not None else tuple(range(len(new_tokens)))
        lengths = [len(row) for row in new_tokens]
        _check(lengths, starts, names)
        tokens = [token for row in new_tokens for token in row]
        if min(tokens) < 0:
            raise ValueError(f"token ids must be 0 or more, got {min(tokens)}")
        positions = [torch.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)]
        return cls(
            token_ids=torch.tensor(tokens, device=device),
            positions=torch.cat(positions).to(device),
            query_start_loc=(0, *accumulate(lengths)),
            seq_lens=tuple(start + n for start, n in zip(starts, lengths, strict=True)),
            seq_ids=names,
            new_tokens=tuple(tuple(row) for row in new_tokens),
            max_token_id=max(tokens),
        )

    def to(self, device: torch.device) -> FlatBatch:
        """Return the batch with its tensors on `device`; the same batch when the tensors are there."""
        if self.token_ids.device == device:
            return self
        return replace(self, token_ids=self.token_ids.to(device), positions=self.positions.to(device))

    @property
    def query_lens(self) -> tuple[int, ...]:
        """Return `B` numbers of new tokens."""
        return tuple(
            end - start for start, end in zip(self.query_start_loc, self.query_start_loc[1:], strict=False)
        )

    @property
    def history_lens(self) -> tuple[int, ...]:
        """Return `B` numbers of tokens that the cache must hold already."""
        return tuple(total - new for total, new in zip(self.seq_lens, self.query_lens, strict=True))

    @property
    def last_token_indices(self) -> Tensor:
        """Return `[B]` int64: the index of each sequence's last new token among the `T`.

        That token's logits choose the next one.
        """
        return torch.tensor(self.query_start_loc[1:], device=self.token_ids.device) - 1


def _check(lengths: list[int], starts: tuple[int, ...], names: tuple[Hashable, ...]) -> None:
    """Raise ValueError unless the three describe a batch."""
    if not lengths:
        raise ValueError("a batch needs at least one sequence, got none")
    if not len(lengths) == len(starts) == len(names):
        raise ValueError(
            f"{len(lengths)} sequences, {len(starts)} histories, {len(names)} names: expected as many of each"
        )
    if 0 in lengths:
        raise ValueError(f"sequence {lengths.index(0)} has no new token; leave it out of the batch")
    if min(starts) < 0:
        raise ValueError(f"history lengths must be 0 or more, got {min(starts)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a sequence may stand in a batch once; names given: {list(names)}")
