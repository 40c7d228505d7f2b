"""A trace: when requests come, with how long a prompt, for how long an answer.

A trace is saved as JSON lines, one request a line.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.engine.request import Request
from helpers.storage.files import replacing

_FORMAT = "inference-trace-1"
_GROUP, _OWN = 2**30, 1  # first paper token ids of groups, and of requests


@dataclass(frozen=True)
class Arrival:
    """Describe one request of a trace."""

    at: float
    """Seconds from the trace's beginning. A request that follows another one comes then, or when the other
    one is done if that is later."""
    prompt_tokens: int
    """Tokens of the whole prompt, 1 or more."""
    new_tokens: int
    """Tokens of the answer. A request for 0 tokens is answered when it comes, without the engine."""
    max_tokens: int | None = None
    """What the client allows, when the length of the answer is not known to the client; by default
    `new_tokens`."""
    client: str | None = None
    priority: int = 0
    """Smaller is more urgent."""
    group: str | None = None
    """Requests of a group begin alike, with `shared_tokens` tokens of the group's."""
    shared_tokens: int = 0
    follows: int | None = None
    """Index of an earlier request in the trace: the prompt begins with that request's prompt and answer."""

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that no request can have."""
        cap = self.new_tokens if self.max_tokens is None else self.max_tokens
        if not 0 <= self.at < float("inf") or self.prompt_tokens < 1 or not 0 <= self.new_tokens <= cap:
            raise ValueError(
                f"expected at >= 0, 1 or more prompt tokens, 0 <= new tokens <= max_tokens, got {self}"
            )
        if not 0 <= self.shared_tokens <= self.prompt_tokens or (self.shared_tokens and self.group is None):
            raise ValueError(
                f"expected 0 <= shared tokens <= prompt tokens, and a group to share them, got {self}"
            )


@dataclass(frozen=True)
class Trace:
    """Hold arrivals in order of time. Equal seeds give equal texts."""

    arrivals: Sequence[Arrival]
    name: str = "trace"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for an arrival out of order, or one that cannot follow its earlier request."""
        last = 0.0
        for i, arrival in enumerate(self.arrivals):
            if arrival.at < last:
                raise ValueError(
                    f"arrival {i} comes at {arrival.at} s, before the one ahead of it at {last} s"
                )
            last = arrival.at
            if arrival.follows is not None:
                if not 0 <= arrival.follows < i:
                    raise ValueError(f"arrival {i} must follow an earlier one, got {arrival.follows}")
                before = self.arrivals[arrival.follows]
                if arrival.prompt_tokens <= before.prompt_tokens + before.new_tokens:
                    raise ValueError(f"arrival {i} must be longer than the text it follows, got {arrival}")

    def __len__(self) -> int:
        return len(self.arrivals)

    def __iter__(self) -> Iterator[Arrival]:
        return iter(self.arrivals)

    def __getitem__(self, place: int) -> Arrival:
        return self.arrivals[place]

    @property
    def duration(self) -> float:
        """Return the seconds from the first to the last arrival; 0 for an empty trace."""
        return self.arrivals[-1].at - self.arrivals[0].at if self.arrivals else 0.0

    @property
    def rate(self) -> float:
        """Return the requests per second from the first to the last arrival; 0 when no time lies between."""
        return (len(self) - 1) / self.duration if self.duration else 0.0

    @cached_property
    def followers(self) -> dict[int, list[int]]:
        """Return, by index, the requests that follow each request."""
        found: dict[int, list[int]] = defaultdict(list)
        for i, arrival in enumerate(self.arrivals):
            if arrival.follows is not None:
                found[arrival.follows].append(i)
        return dict(found)

    def faster(self, factor: float) -> Trace:
        """Return the same requests at `factor` times the rate.

        Raises ValueError for a factor that is not above 0.
        """
        if not factor > 0:
            raise ValueError(f"the factor must be above 0, got {factor}")
        return replace(self, arrivals=[replace(a, at=a.at / factor) for a in self.arrivals])

    def request(self, place: int, vocab_size: int | None = None, before: Sequence[int] = ()) -> Request:
        """Return the request at index `place` of the trace, named by that index.

        `before` is the text that the request follows, as it really came out. Without `vocab_size` the tokens
        are numbers on paper: cheap to make, and equal where texts are equal. With `vocab_size` the tokens are
        seeded random tokens of the vocabulary, 100 and above. Raises ValueError for an arrival that asks for
        no token.
        """
        arrival, prompt = self.arrivals[place], self.prompt(place, vocab_size, before)
        allowed = arrival.new_tokens if arrival.max_tokens is None else arrival.max_tokens
        return Request(place, prompt, allowed, priority=arrival.priority, client=arrival.client)

    def prompt(self, place: int, vocab_size: int | None = None, before: Sequence[int] = ()) -> list[int]:
        """Return the prompt of the request at index `place`; arguments as in `request`."""
        arrival = self.arrivals[place]
        follows = arrival.follows is not None
        prompt = list(before[: arrival.prompt_tokens - 1]) if follows else self._shared(arrival, vocab_size)
        own = arrival.prompt_tokens - len(prompt)
        if vocab_size is None:
            return prompt + [_OWN + place] * own
        return prompt + self._random(f"own {place}", own, vocab_size)

    def save(self, path: Path | str) -> None:
        """Write JSON lines: a header with name and seed, then a line per request without default fields."""
        head = {"format": _FORMAT, "name": self.name, "seed": self.seed}
        lines = [json.dumps(head), *(json.dumps(_brief(arrival)) for arrival in self.arrivals)]
        with replacing(Path(path)) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> Trace:
        """Return the trace that `save` wrote to a file.

        Raises ValueError, naming the line, for any other file.
        """
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        number = 1
        try:
            head = json.loads(lines[0])
            if head["format"] != _FORMAT:
                raise ValueError(f"expected format {_FORMAT!r}, got {head['format']!r}")
            arrivals = []
            for number, line in enumerate(lines[1:], 2):  # noqa: B007
                arrivals.append(Arrival(**json.loads(line)))
            return cls(arrivals, head["name"], head["seed"])
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ValueError(f"{path}, line {number}: not a saved trace: {error}") from error

    def _shared(self, arrival: Arrival, vocab_size: int | None) -> list[int]:
        """Return the beginning that a request has in common with its group."""
        if not arrival.shared_tokens:
            return []
        if vocab_size is not None:
            return self._random(f"group {arrival.group}", arrival.shared_tokens, vocab_size)
        return [_GROUP + self._groups[arrival.group]] * arrival.shared_tokens

    @cached_property
    def _groups(self) -> dict[str | None, int]:
        """Return the numbers of the groups."""
        return {name: i for i, name in enumerate(dict.fromkeys(a.group for a in self.arrivals))}

    def _random(self, what: str, count: int, vocab_size: int) -> list[int]:
        """Return tokens that depend on the seed and on `what`; a longer list begins like a shorter one."""
        return random.Random(f"{self.seed} {what}").choices(
            range(min(100, vocab_size - 1), vocab_size), k=count
        )


_DEFAULTS = {field.name: field.default for field in fields(Arrival)}


def _brief(arrival: Arrival) -> dict[str, Any]:
    """Return an arrival's fields that are not at their default."""
    return {name: value for name, value in asdict(arrival).items() if value != _DEFAULTS[name]}
