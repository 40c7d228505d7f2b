"""The two lines of a roofline: bytes per second out of memory, operations per second.

Williams, Waterman and Patterson, 2009, doi:10.1145/1498765.1498785.
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.estimates.hardware import accelerator


@dataclass(frozen=True)
class Ceilings:
    """The two ceilings of a device for one dtype."""

    bandwidth: float
    """Bytes read per second, from an array far larger than any cache."""
    flops: float
    """Floating-point operations per second of a large square matrix product; a multiply-add counts as two."""

    @property
    def ridge(self) -> float:
        """Return the arithmetic intensity, in operations per byte, above which the device is bound by
        compute.
        """
        return self.flops / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """Return the most operations per second that work of this intensity (operations per byte) can reach."""
        return min(self.flops, intensity * self.bandwidth)

    def seconds(self, operations: float, nbytes: float) -> float:
        """Return the least seconds that work of so many operations and bytes can take."""
        return max(operations / self.flops, nbytes / self.bandwidth)


def accelerator_ceilings(name: str, dtype: str = "bf16", bandwidth: float | None = None) -> Ceilings:
    """Return the ceilings of an accelerator of the table, derived or reported, not measured.

    `bandwidth` replaces the table's.

    Raises ValueError for an unknown name or type, and where neither the table nor the caller knows a
    bandwidth.
    """
    item = accelerator(name)
    known = item.bandwidth.value if bandwidth is None else bandwidth
    if known is None or known <= 0:
        raise ValueError(f"{name}: no bandwidth is published, give one in bytes per second (got {bandwidth})")
    return Ceilings(known, item.peak(dtype).value or 0.0)
