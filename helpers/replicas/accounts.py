"""What a router knows of distant replicas: what it sent them, and what they have finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from helpers.engine.request import Request
from helpers.engine.routing import Router
from helpers.replicas.prompt_history import PromptHistory


@dataclass
class Account:
    """Show a router one distant replica."""

    history: PromptHistory
    num_requests: int = 0
    tokens_asked: int = 0

    def cached_tokens(self, tokens: Sequence[int], salt: Hashable = None) -> int:
        """Return the tokens of a prompt that the replica should have cached."""
        return self.history.cached_tokens(tokens, salt)


@dataclass
class _Entry:
    """A call that is counted at a replica."""

    replica: Hashable
    request: Request
    samples: int
    since: float
    routed: bool = field(default=False)


class Accounts:
    """Keep an account for each replica, and let a router choose by them.

    A call counts from the choice on, so that the calls of a burst see each other. It counts until `ended`; a
    call that was never `sent` counts for `patience` seconds.
    """

    def __init__(
        self,
        router: Router,
        num_pages: int = 512,
        page_size: int = 16,
        patience: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Begin without replicas, each of which has so many pages."""
        self._router, self._pages = router, (num_pages, page_size)
        self._patience, self._clock = patience, clock
        self._accounts: dict[Hashable, Account] = {}
        self._entries: dict[Hashable, _Entry] = {}

    def __getitem__(self, replica: Hashable) -> Account:
        """Return the account of a replica, which is new for a new one."""
        if replica not in self._accounts:
            self._accounts[replica] = Account(PromptHistory(*self._pages))
        return self._accounts[replica]

    def choose(self, call: Hashable, request: Request, samples: int, replicas: Sequence[Hashable]) -> int:
        """Return the index of the replica for a call, which counts there from now on.

        A call that is chosen for again counts at the new replica alone.
        """
        self._forget_lost()
        self.ended(call)
        place = self._router(request, [self[replica] for replica in replicas])
        self._count(call, _Entry(replicas[place], request, samples, self._clock()))
        return place

    def sent(self, call: Hashable, request: Request, samples: int, replica: Hashable) -> None:
        """Note where a call was sent to, which may be another replica than the chosen one."""
        self.ended(call)
        self._count(call, _Entry(replica, request, samples, self._clock(), True))
        self[replica].history.note(request.prompt_ids, request.salt)

    def ended(self, call: Hashable) -> None:
        """Note that a call has ended, for any reason; an unknown call changes nothing."""
        entry = self._entries.pop(call, None)
        if entry is not None:
            self._add(entry, -1)

    def keep(self, replicas: Sequence[Hashable]) -> None:
        """Forget all replicas but these, with their calls."""
        for call, entry in list(self._entries.items()):
            if entry.replica not in replicas:
                self.ended(call)
        self._accounts = {name: self._accounts[name] for name in self._accounts if name in replicas}

    def _count(self, call: Hashable, entry: _Entry) -> None:
        """Count a call at its replica."""
        self._entries[call] = entry
        self._add(entry, 1)

    def _add(self, entry: _Entry, sign: int) -> None:
        """Add a call to its replica's load, or take it out."""
        account, request = self[entry.replica], entry.request
        account.num_requests += sign * entry.samples
        account.tokens_asked += sign * entry.samples * (len(request.prompt_ids) + request.max_tokens)

    def _forget_lost(self) -> None:
        """Take out calls that were chosen for long ago and never sent: their callers have left."""
        before = self._clock() - self._patience
        for call, entry in list(self._entries.items()):
            if entry.routed or entry.since > before:
                continue
            self.ended(call)
