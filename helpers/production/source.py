"""Where a fact was read: project, version, file and day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Source:
    """A file of a project in one version, and the day on which that file was opened."""

    project: str
    """Name of the project, such as "vLLM"."""
    version: str
    """Release, or the branch with commit and day, such as "main 182b75ea84 of 2026-08-22"."""
    file: str
    """Path of the file inside the project's package or repository."""
    read: date
    """Day on which the file was opened."""

    def __post_init__(self) -> None:
        """Raise ValueError when the project, the version or the file is missing."""
        for name in ("project", "version", "file"):
            if not getattr(self, name).strip():
                raise ValueError(f"a source has no {name}: {self}")

    @property
    def edition(self) -> str:
        """Project and version, such as "vLLM 0.33.0"."""
        return f"{self.project} {self.version}"

    def __str__(self) -> str:
        """Return project, version and file in one phrase."""
        return f"{self.edition}: {self.file}"
