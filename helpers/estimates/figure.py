"""A number with its unit and its standing.

How far to trust a figure:

- official: read from a file or page of the maker.
- derived: computed here from official figures.
- reported: said by the maker's paper or talk, or by the press; not checked here.
- measured: timed on the hardware.
- unknown: no usable figure was found, and `value` is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Status = Literal["official", "derived", "reported", "measured", "unknown"]


@dataclass(frozen=True)
class Figure:
    """One number, its unit, and why to believe it."""

    value: float | None
    unit: str
    status: Status
    source: str

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown status, no source, and a value that does not fit its status."""
        if self.status not in get_args(Status):
            raise ValueError(f"unknown status {self.status!r}; known are {', '.join(get_args(Status))}")
        if not self.source:
            raise ValueError(f"a figure of {self.value} {self.unit} has no source")
        if (self.value is None) != (self.status == "unknown"):
            raise ValueError(f"a figure is unknown where it has no value; got {self.value} ({self.status})")
