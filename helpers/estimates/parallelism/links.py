"""Links between devices as data: bandwidth in one direction and latency, each with its source and its status.

A status says how far to trust a figure, as in `helpers.estimates.figure`.
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.estimates.figure import Figure

_PAPER = "CloudMatrix384, arXiv:2506.12708"
_UNKNOWN = Figure(None, "s", "unknown", "no published figure found; measure it with a small message")


@dataclass(frozen=True)
class Link:
    """What one device can send to others of its group."""

    name: str
    reach: str
    """The devices that the link joins."""
    bandwidth: Figure
    """Bytes per second in one direction, of one device to all others together."""
    latency: Figure
    """Seconds before the first byte of a message arrives."""

    def seconds(self, nbytes: float, latency: float | None = None, bandwidth: float | None = None) -> float:
        """Return the seconds of one message; `latency` and `bandwidth` replace the table's.

        Raises ValueError for a message below 0 bytes, and where neither the table nor the caller knows a figure.
        """
        a = self.latency.value if latency is None else latency
        b = self.bandwidth.value if bandwidth is None else bandwidth
        if a is None or b is None:
            raise ValueError(f"{self.name}: no latency is published, give one in seconds (latency=...)")
        if not (nbytes >= 0 and a >= 0 and b > 0):
            raise ValueError(f"bytes and latency are 0 or more, bandwidth above 0; got {nbytes}, {a}, {b}")
        return a + nbytes / b


def _rate(value: float, status: str, source: str) -> Figure:
    """Return a bandwidth in B/s."""
    return Figure(value, "B/s", "derived" if status == "derived" else "reported", source)


LINKS = {
    item.name: item
    for item in (
        Link(
            "HCCS (910B)", "8 devices of one server, each with 7 others",
            _rate(196e9, "reported", "half of 7 links of 56 GB/s, counted in both directions; not checked"), _UNKNOWN,
        ),
        Link(
            "UB (910C supernode)", "384 packages of a CloudMatrix384, of two dies each",
            _rate(196e9, "derived", f"half of a package's 392 GB/s in one direction: one die ({_PAPER})"),
            Figure(1e-6, "s", "reported", f"between servers less than 1 us ({_PAPER})"),
        ),
        Link(
            "RoCE (910C supernode)", "devices of several supernodes",
            _rate(25e9, "derived", f"half of a package's 400 Gbit/s in one direction: one die ({_PAPER})"), _UNKNOWN,
        ),
        Link(
            "RoCE (200 GbE)", "devices of several servers",
            _rate(25e9, "derived", "200 Gbit/s over 8 bits, before headers"), _UNKNOWN,
        ),
        Link(
            "PCIe 5.0 x16", "devices and host of one server",
            _rate(16 * 32e9 * 128 / 130 / 8, "derived", "16 lanes of 32 GT/s, 128 bits of 130 (PCI-SIG)"), _UNKNOWN,
        ),
        Link(
            "PCIe 4.0 x16", "devices and host of one server",
            _rate(16 * 16e9 * 128 / 130 / 8, "derived", "16 lanes of 16 GT/s, 128 bits of 130 (PCI-SIG)"), _UNKNOWN,
        ),
    )
}  # fmt: skip


def link(name: str) -> Link:
    """Return the table's row of that name; raise ValueError with the known names for another."""
    if name not in LINKS:
        raise ValueError(f"unknown link {name!r}; known are {', '.join(LINKS)}")
    return LINKS[name]
