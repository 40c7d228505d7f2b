"""The exercises of all labs that have been loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Exercise:
    """One exercise of one lab."""

    lab: str
    number: int
    title: str

    def __str__(self) -> str:
        return f"Exercise {int(self.lab[:2])}.{self.number}, {self.title}"


EXERCISES: list[Exercise] = []
