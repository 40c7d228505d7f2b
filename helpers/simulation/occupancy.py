"""How much of a cache's memory holds tokens: requests replayed against a pool, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helpers.caches.page_pool import OutOfPages, PagePool


@dataclass(frozen=True)
class Occupancy:
    """Record what a replay has seen, pass by pass. Memory is counted in slots.

    A slot takes one token's keys and values.
    """

    num_slots: int
    """Slots of the memory."""
    running: tuple[int, ...]
    """Requests in each pass."""
    taken: tuple[int, ...]
    """Slots of pages in use, in each pass."""
    filled: tuple[int, ...]
    """Slots that hold a token, in each pass."""
    busy: int
    """Passes until the queue was empty; later passes only finish running requests."""
    preemptions: int
    """Times that a request was preempted."""
    recomputed: int
    """Tokens that were computed once more because of preemptions."""

    @property
    def passes(self) -> int:
        """Return the number of passes until all requests were served."""
        return len(self.running)

    @property
    def mean_running(self) -> float:
        """Return the requests in a pass, on average while there was a queue."""
        return _mean(self.running[: self.busy])

    @property
    def shares(self) -> tuple[float, float, float]:
        """Return the shares of the memory that held tokens, were taken but empty, and were free.

        The shares are averages while there was a queue.
        """
        filled, taken = (_mean(counts[: self.busy]) / self.num_slots for counts in (self.filled, self.taken))
        return filled, taken - filled, 1 - taken


def replay_occupancy(requests: Sequence[tuple[int, int]], num_slots: int, page_size: int) -> Occupancy:
    """Serve `(prompt tokens, new tokens)` requests in order; return how full the memory was, pass by pass.

    The memory has `num_slots` slots in pages of `page_size`. A page as long as the longest request is a row
    of a contiguous cache. A request's first pass computes its prompt, each further pass computes one token;
    the last new token is never cached. A request joins as soon as its text finds pages. When a token finds no
    page, the request that joined last is preempted. The preempted request frees its pages, waits at the head
    of the queue, and computes its text again. Raises ValueError for sizes below 1 and for a request that does
    not fit alone.
    """
    for prompt, new in requests:
        if prompt < 1 or new < 1:
            raise ValueError(f"expected 1 or more prompt tokens and new tokens, got {prompt} and {new}")
        if -(-(prompt + new - 1) // page_size) > num_slots // page_size:
            raise ValueError(f"a request of {prompt} + {new} tokens does not fit into {num_slots} slots")
    return _Replay(requests, PagePool(num_slots // page_size, page_size, sharing=False)).run(num_slots)


class _Replay:
    """Keep the requests of a replay, by number."""

    def __init__(self, requests: Sequence[tuple[int, int]], pool: PagePool):
        """Put all requests into the queue."""
        self.pool, self.waiting, self.running = pool, list(range(len(requests))), list[int]()
        self.lengths = [prompt for prompt, _ in requests]  # texts' tokens to be cached in the next pass
        self.last = [prompt + new - 1 for prompt, new in requests]
        self.preemptions = self.recomputed = 0

    def run(self, num_slots: int) -> Occupancy:
        """Run all passes; return what was counted."""
        counts, busy = [], 0
        while self.waiting or self.running:
            self.grow()
            busy += bool(self.waiting)
            filled = sum(map(self.pool.length, self.running))
            counts.append((len(self.running), self.pool.num_used * self.pool.page_size, filled))
            self.leave()
        running, taken, filled_slots = zip(*counts, strict=True) if counts else ((), (), ())
        return Occupancy(num_slots, running, taken, filled_slots, busy, self.preemptions, self.recomputed)

    def grow(self) -> None:
        """Give each running request a token more, then admit waiting requests that fit.

        A request that was just preempted is not admitted at once: it needs more pages than are free.
        """
        for name in list(self.running):
            while name in self.running:
                try:
                    self.pool.append_anonymous(name, self.lengths[name] - self.pool.length(name))
                    break
                except OutOfPages:
                    self.preempt()
        while self.waiting:
            name = self.waiting[0]
            if -(-self.lengths[name] // self.pool.page_size) > self.pool.num_free:
                return
            self.running.append(self.waiting.pop(0))
            self.pool.admit(name, [])
            self.pool.append_anonymous(name, self.lengths[name])

    def preempt(self) -> None:
        """Preempt the request that joined last."""
        name = self.running.pop()
        self.recomputed += self.pool.length(name)
        self.preemptions += 1
        self.pool.free(name)
        self.waiting.insert(0, name)

    def leave(self) -> None:
        """End the requests that have all their tokens; make the other requests' texts a token longer."""
        for name in [name for name in self.running if self.lengths[name] == self.last[name]]:
            self.running.remove(name)
            self.pool.free(name)
        for name in self.running:
            self.lengths[name] += 1


def _mean(counts: Sequence[int]) -> float:
    """Return the average; 0 for no counts."""
    return sum(counts) / len(counts) if counts else 0.0
