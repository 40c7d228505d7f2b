"""What the devices of a tensor-parallel group hand to each other in one pass, in calls and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from helpers.model.shapes import ModelShape


@dataclass(frozen=True)
class TensorTraffic:
    """Bytes that one device hands in; each device hands in as many."""

    sums: int
    """Calls of all-reduce: two in each layer, and one for the embedding."""
    sum_bytes: float
    """Bytes of each sum: `[tokens, hidden]`."""
    gather_bytes: float
    """Bytes of the one all-gather: fp32 logits of the device's part of the vocabulary, of each sequence."""

    @classmethod
    def of(
        cls, shape: ModelShape, world: int, tokens: int, sequences: int, element_bytes: float = 2.0
    ) -> TensorTraffic:
        """Return the traffic of a pass over `tokens` tokens of `sequences` sequences on `world` devices.

        Raises ValueError for less than one device, sequence, or token of a sequence.
        """
        if not (world >= 1 and 1 <= sequences <= tokens):
            raise ValueError(
                f"expected 1 device or more and 1 token or more of each sequence, got {world}, {tokens}, {sequences}"
            )
        rows = -(-shape.vocab_size // world)
        width = shape.hidden_size * element_bytes
        return cls(2 * shape.num_layers + 1, tokens * width, sequences * rows * 4)

    @property
    def nbytes(self) -> float:
        """Return the bytes of all calls."""
        return self.sums * self.sum_bytes + self.gather_bytes
