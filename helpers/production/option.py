"""One option of a production engine, as a dated fact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from helpers.production.source import Source

Kind = Literal["flag", "config key", "environment variable"]
_FORMS: dict[str, str] = {
    "flag": r"--[a-z][a-z0-9-]+",
    "config key": r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*",
    "environment variable": r"[A-Z][A-Z0-9_]+",
}


@dataclass(frozen=True)
class Option:
    """A flag, a key of a JSON option, or an environment variable: what it sets, since when, read where."""

    name: str
    kind: Kind
    sets: str
    """What the option sets, in a few words."""
    default: str
    """Value where nothing is given, in the versions that were read."""
    since: str
    """First version that is known to have the option."""
    until: str | None
    """Last version with the option or with its effect; None where the newest version that was read has it."""
    sources: tuple[Source, ...]
    """Files that were opened; at least one."""
    values: tuple[str, ...] = ()
    """Values that chapters name."""
    on_ascend: str = ""
    """What vLLM-Ascend does with the option, where that differs from vLLM."""

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown kind, a name of another form, an empty field, and no source."""
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"{self.name}: unknown kind {self.kind!r}; known are {', '.join(get_args(Kind))}"
            )
        if not re.fullmatch(_FORMS[self.kind], self.name):
            raise ValueError(f"{self.name!r} does not have the form of a {self.kind}")
        for field in ("sets", "default", "since"):
            if not getattr(self, field):
                raise ValueError(f"{self.name} has no {field}")
        if not self.sources:
            raise ValueError(f"{self.name} has no source")

    @property
    def versions(self) -> str:
        """Versions that have the option, in words, such as "since 0.24.0rc1"."""
        return f"{self.since} to {self.until}" if self.until else f"since {self.since}"
