"""Policies that know more than a request: who asks, what was served, what is cached. The contract is `policy.Policy`."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence

from helpers.engine.policy import Policy
from helpers.engine.request import RequestState


class _Turn(Policy):
    """One client's queue: in the order of the numbers that its requests were given."""

    def __init__(self, numbers: Mapping[Hashable, int]):
        super().__init__()
        self._numbers = numbers

    def rank(self, state: RequestState) -> float:
        """Its number."""
        return self._numbers[state.name]


class _ByClient(Policy):
    """A queue for each client. Which client is next is what a strategy adds."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[Hashable, int] = {}
        self._last_number = 0
        self._queues: dict[Hashable, _Turn] = {}
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def __iter__(self) -> Iterator[RequestState]:
        return (state for queue in self._queues.values() for state in queue)

    def push(self, state: RequestState) -> None:
        """A request joins its client's queue: behind the others, or where it was if it was preempted for want of pages."""
        client = state.request.client
        if state.name not in self._numbers:
            self._number(state)
        if client not in self._queues:
            self._queues[client] = _Turn(self._numbers)
            self._enter(client)
        self._queues[client].push(state)
        self._waiting += 1

    def remove(self, state: RequestState) -> None:
        """A request leaves its client's queue."""
        client = state.request.client
        self._queues[client].remove(state)
        self._waiting -= 1
        if not self._queues[client]:
            del self._queues[client]
            self._exit(client)

    def leave(self, state: RequestState) -> None:
        """Forgets its number."""
        self._numbers.pop(state.name, None)

    def victim(self, running: Sequence[RequestState], now: float) -> RequestState:
        """The last one admitted: it has lost the least."""
        return running[-1]

    def _number(self, state: RequestState) -> None:
        """Puts a request behind all others of its client."""
        self._last_number += 1
        self._numbers[state.name] = self._last_number

    def _enter(self, client: Hashable) -> None:
        """A client of whom nobody waited has somebody who waits."""
        raise NotImplementedError

    def _exit(self, client: Hashable) -> None:
        """Nobody of a client waits any more."""
        raise NotImplementedError


class RoundRobin(_ByClient):
    """Clients take turns, each with its oldest request. With a `quantum`, so do the requests themselves.

    Between two admissions of one client each other client that waits is served once. A request that was given `quantum` new tokens
    since it was admitted gives its place to somebody who waits for one, and queues up again behind its client's others; what it
    had computed is lost unless the cache still has it. (A quantum of computed tokens could end before a prompt does, every time.)
    """

    def __init__(self, quantum: int | None = None):
        """Raises ValueError for a quantum under 1."""
        super().__init__()
        if quantum is not None and quantum < 1:
            raise ValueError(f"a quantum is 1 new token or more, got {quantum}")
        self.quantum, self.preemptive = quantum, quantum is not None
        self._ring: OrderedDict[Hashable, None] = OrderedDict()
        self._begun: dict[Hashable, int] = {}  # new tokens that a request had when it was admitted

    def first(self, now: float) -> RequestState:
        """The oldest request of the client whose turn it is."""
        return self._queues[next(iter(self._ring))].first(now)

    def pop(self, state: RequestState) -> None:
        """It is the next client's turn."""
        self._ring.move_to_end(state.request.client)
        self.remove(state)
        self._begun[state.name] = len(state.token_ids)

    def displaced(self, running: Sequence[RequestState], now: float) -> RequestState | None:
        """Return the first of the running whose quantum is used up."""
        for state in running:
            if self._left(state) <= 0:
                return state
        return None

    def displace(self, state: RequestState) -> None:
        """Put the request behind its client's others."""
        self._number(state)

    def leave(self, state: RequestState) -> None:
        """Forgets it."""
        super().leave(state)
        self._begun.pop(state.name, None)

    def steady(self, running: Sequence[RequestState]) -> float:
        """Until the first quantum is used up."""
        return min(map(self._left, running), default=math.inf)

    def _left(self, state: RequestState) -> float:
        """New tokens that a running request still has of its quantum."""
        given = len(state.token_ids) - self._begun.get(
            state.name, 0
        )  # it may have begun as a sample of another
        return math.inf if self.quantum is None else self.quantum - given

    def _enter(self, client: Hashable) -> None:
        """The client has the last turn of all."""
        self._ring[client] = None

    def _exit(self, client: Hashable) -> None:
        """The client has no turn."""
        del self._ring[client]


class FairShare(_ByClient):
    """Next is the client that has been served the fewest tokens, each divided by its client's weight.

    Who comes back after a pause begins where the one served last stood: nobody saves up for a flood. This is the virtual
    token counter (Sheng et al., arXiv:2401.00588), the virtual time that of start-time fair queueing (Goyal et al. 1996).
    """

    static = False

    def __init__(self, weights: Mapping[Hashable, float] | None = None):
        """`weights` of clients, 1 where there is none. Raises ValueError for a weight that is not above 0."""
        super().__init__()
        self.weights = dict(weights or {})
        if any(not weight > 0 for weight in self.weights.values()):
            raise ValueError(f"weights must be above 0, got {self.weights}")
        self.served: dict[Hashable, float] = {}
        """Tokens computed for each client, by weight, with what it was lifted by when it came back."""
        self._line: list[tuple[float, int, Hashable]] = []  # a heap; counters may have grown since
        self._entry: dict[Hashable, int] = {}  # entries of the heap that count
        self._entries = 0
        self._time = 0.0
        self._alive: dict[Hashable, set[Hashable]] = {}  # the requests of each client that are not done
        self._idle: list[tuple[float, int, Hashable]] = []  # a heap of clients without requests, by counter

    def push(self, state: RequestState) -> None:
        """Put a request into its client's queue."""
        self._alive.setdefault(state.request.client, set()).add(state.name)
        super().push(state)

    def leave(self, state: RequestState) -> None:
        """Forget a request, and its client's account when that can no longer change a decision."""
        super().leave(state)
        client = state.request.client
        alive = self._alive.get(client, set())
        alive.discard(state.name)
        if not alive:
            self._alive.pop(client, None)
            self._entries += 1
            heapq.heappush(self._idle, (self.served.get(client, 0.0), self._entries, client))
        if (
            not self._alive
        ):  # idle: as in start-time fair queueing, all begin anew where the one served most stands
            self._time = max(self.served.values(), default=self._time)
        self._forget_idle()

    def _forget_idle(self) -> None:
        """Drop the accounts of clients that are gone and would be lifted to more when they come back."""
        while self._idle and self._idle[0][0] <= self._time:
            counter, _, client = heapq.heappop(self._idle)
            if client not in self._alive and self.served.get(client) == counter:
                del self.served[client]

    def first(self, now: float) -> RequestState:
        """The oldest request of the client that was served least."""
        while True:
            counter, entry, client = self._line[0]
            if self._entry.get(client) != entry:
                heapq.heappop(self._line)
            elif counter < self.served[client]:
                heapq.heapreplace(self._line, (self.served[client], entry, client))
            else:
                return self._queues[client].first(now)

    def pop(self, state: RequestState) -> None:
        """Notes how far its client had come."""
        self._time = max(self._time, self.served[state.request.client])
        self.remove(state)

    def charge(self, state: RequestState, tokens: int) -> None:
        """Counts what is computed for a client."""
        client = state.request.client
        self._alive.setdefault(client, set()).add(state.name)  # a sample may run without having waited
        self.served[client] = self.served.get(client, 0.0) + tokens / self.weights.get(client, 1.0)

    def victim(self, running: Sequence[RequestState], now: float) -> RequestState:
        """The last one admitted of the client that was served most."""
        return max(reversed(running), key=lambda state: self.served.get(state.request.client, 0.0))

    def _enter(self, client: Hashable) -> None:
        """Lifts a client that comes back."""
        self.served[client] = max(self.served.get(client, 0.0), self._time)
        self._entries += 1
        self._entry[client] = self._entries
        heapq.heappush(self._line, (self.served[client], self._entries, client))
        if len(self._line) > 2 * len(self._entry) + 8:
            self._line = [entry for entry in self._line if self._entry.get(entry[2]) == entry[1]]
            heapq.heapify(self._line)

    def _exit(self, client: Hashable) -> None:
        """Takes a client out of the line."""
        del self._entry[client]
