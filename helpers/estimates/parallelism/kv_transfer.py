"""Keys and values that move from the device that computed a prompt to the one that decodes: bytes against recomputing.

Source: DistServe (arXiv:2401.09670), which separates prefill and decode.
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.estimates.cache_bytes import kv_cache_bytes
from helpers.estimates.ceilings import Ceilings
from helpers.estimates.cost import StepCost, prefill_cost
from helpers.model.shapes import ModelShape


@dataclass(frozen=True)
class KVTransfer:
    """One prompt's keys and values, and what it would cost to compute them once more."""

    nbytes: int
    layers: int
    recomputed: StepCost

    @classmethod
    def of(cls, shape: ModelShape, tokens: int, dtype: str = "bf16", **sizes: float) -> KVTransfer:
        """Return the transfer of a prompt's cache in `dtype`; `sizes` are those of `step_cost`.

        Raises ValueError for less than one token, and for a type without a size.
        """
        cost = prefill_cost(shape, tokens, 1, **sizes)
        return cls(kv_cache_bytes(shape, 1, tokens, dtype), shape.num_layers, cost)

    def seconds(self, bandwidth: float, latency: float = 0.0) -> float:
        """Return the seconds of the transfer as one message.

        Raises ValueError for a bandwidth that is not above 0 and a latency below 0.
        """
        if not (bandwidth > 0 and latency >= 0):
            raise ValueError(f"bandwidth is above 0, latency 0 or more; got {bandwidth}, {latency}")
        return latency + self.nbytes / bandwidth

    def exposed(self, prefill: float, bandwidth: float, latency: float = 0.0) -> float:
        """Return the seconds by which the transfer ends after the prefill, when each layer is sent as soon as it is done.

        `prefill` is the seconds of the prompt's pass, in which layers take equally long. Errors as in `seconds`.
        """
        sent = latency + (self.seconds(bandwidth, latency) - latency) / self.layers
        each = prefill / self.layers
        return sent if sent <= each else self.layers * sent - (self.layers - 1) * each

    def least_bandwidth(self, ceilings: Ceilings) -> float:
        """Return the bytes per second from which on moving is faster than recomputing on a device of these ceilings."""
        return self.nbytes / self.recomputed.seconds(ceilings)
