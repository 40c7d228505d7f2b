"""Policies that are fair to clients: in turns, or by the tokens served. The contract is `policy.Policy`."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence

from helpers.engine.policy import Policy
from helpers.engine.request import RequestState


class _Turn(Policy):
    """Order one client's requests by the numbers that `_ByClient` gave them."""

    def __init__(self, numbers: Mapping[Hashable, int]):
        super().__init__()
        self._numbers = numbers

    def rank(self, state: RequestState) -> float:
        """Return the request's number."""
        return self._numbers[state.name]


class _ByClient(Policy):
    """Keep a queue for each client. A strategy adds which client is next."""

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
        """Put a request into its client's queue, behind the client's other requests.

        A request that was preempted because pages ran out keeps its number, and so its place.
        """
        client = state.request.client
        if state.name not in self._numbers:
            self._number(state)
        if client not in self._queues:
            self._queues[client] = _Turn(self._numbers)
            self._enter(client)
        self._queues[client].push(state)
        self._waiting += 1

    def remove(self, state: RequestState) -> None:
        """Take a request out of its client's queue."""
        client = state.request.client
        self._queues[client].remove(state)
        self._waiting -= 1
        if not self._queues[client]:
            del self._queues[client]
            self._exit(client)

    def leave(self, state: RequestState) -> None:
        """Forget the request's number."""
        self._numbers.pop(state.name, None)

    def victim(self, running: Sequence[RequestState], now: float) -> RequestState:
        """Return the request that was admitted last: fewest of its tokens are wasted."""
        return running[-1]

    def _number(self, state: RequestState) -> None:
        """Give a request the next number, behind its client's other requests."""
        self._last_number += 1
        self._numbers[state.name] = self._last_number

    def _enter(self, client: Hashable) -> None:
        """Note that a client's first waiting request joins; the client had none."""
        raise NotImplementedError

    def _exit(self, client: Hashable) -> None:
        """Note that a client has no waiting request any more."""
        raise NotImplementedError


class RoundRobin(_ByClient):
    """Let clients take turns, each with its oldest request. With a `quantum`, requests take turns, too.

    Between two admissions of one client, each other waiting client is served once. A running request that was
    given `quantum` new tokens since its admission is preempted when a waiting request finds no place. The
    preempted request waits behind its client's other requests. Its computed tokens are wasted unless the
    cache still holds them. (A quantum of computed tokens could end before the prompt does, every time.)
    """

    def __init__(self, quantum: int | None = None):
        """Begin with an empty queue. Raises ValueError for a quantum under 1."""
        super().__init__()
        if quantum is not None and quantum < 1:
            raise ValueError(f"a quantum is 1 new token or more, got {quantum}")
        self.quantum, self.preemptive = quantum, quantum is not None
        self._ring: OrderedDict[Hashable, None] = OrderedDict()
        self._begun: dict[Hashable, int] = {}  # new tokens that a request had when it was admitted

    def first(self, now: float) -> RequestState:
        """Return the oldest request of the client whose turn it is."""
        return self._queues[next(iter(self._ring))].first(now)

    def pop(self, state: RequestState) -> None:
        """Take the request out, and give the turn to the next client."""
        self._ring.move_to_end(state.request.client)
        self.remove(state)
        self._begun[state.name] = len(state.token_ids)

    def displaced(self, running: Sequence[RequestState], now: float) -> RequestState | None:
        """Return the first running request whose quantum is used up, or None."""
        for state in running:
            if self._left(state) <= 0:
                return state
        return None

    def displace(self, state: RequestState) -> None:
        """Put the request behind its client's other requests."""
        self._number(state)

    def leave(self, state: RequestState) -> None:
        """Forget the request."""
        super().leave(state)
        self._begun.pop(state.name, None)

    def steady(self, running: Sequence[RequestState]) -> float:
        """Return the new tokens until the first quantum is used up."""
        return min(map(self._left, running), default=math.inf)

    def _left(self, state: RequestState) -> float:
        """Return the new tokens that a running request still has of its quantum."""
        begun = self._begun.get(state.name, 0)  # 0 for a sample, which runs without having been admitted
        given = len(state.token_ids) - begun
        return math.inf if self.quantum is None else self.quantum - given

    def _enter(self, client: Hashable) -> None:
        """Give the client the last turn."""
        self._ring[client] = None

    def _exit(self, client: Hashable) -> None:
        """Take the client's turn away."""
        del self._ring[client]


class FairShare(_ByClient):
    """Admit a request of the client that was served the fewest tokens, divided by the client's weight.

    A client that comes back after a pause begins where the client served last stood: a pause earns no credit.
    This is the virtual token counter (Sheng et al., arXiv:2401.00588), with the virtual time of start-time
    fair queueing (Goyal et al. 1996).
    """

    static = False

    def __init__(self, weights: Mapping[Hashable, float] | None = None):
        """Set the `weights` of clients, 1 where none is given.

        Raises ValueError for a weight of 0 or less.
        """
        super().__init__()
        self.weights = dict(weights or {})
        if any(not weight > 0 for weight in self.weights.values()):
            raise ValueError(f"weights must be above 0, got {self.weights}")
        self.served: dict[Hashable, float] = {}
        """Tokens computed for each client, by weight, and what the client was lifted by when it came back."""
        self._line: list[tuple[float, int, Hashable]] = []  # a heap by counter, which may have grown since
        self._entry: dict[Hashable, int] = {}  # the valid entry of each client in the heap
        self._entries = 0
        self._time = 0.0
        self._alive: dict[Hashable, set[Hashable]] = {}  # the unfinished requests of each client
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
        if not self._alive:  # idle: as in start-time fair queueing, all go on from the largest counter
            self._time = max(self.served.values(), default=self._time)
        self._forget_idle()

    def _forget_idle(self) -> None:
        """Drop accounts of clients without requests that would be lifted anyway when they come back."""
        while self._idle and self._idle[0][0] <= self._time:
            counter, _, client = heapq.heappop(self._idle)
            if client not in self._alive and self.served.get(client) == counter:
                del self.served[client]

    def first(self, now: float) -> RequestState:
        """Return the oldest request of the client that was served least."""
        while True:
            counter, entry, client = self._line[0]
            if self._entry.get(client) != entry:
                heapq.heappop(self._line)
            elif counter < self.served[client]:
                heapq.heapreplace(self._line, (self.served[client], entry, client))
            else:
                return self._queues[client].first(now)

    def pop(self, state: RequestState) -> None:
        """Take the request out, and note its client's counter as the virtual time."""
        self._time = max(self._time, self.served[state.request.client])
        self.remove(state)

    def charge(self, state: RequestState, tokens: int) -> None:
        """Count tokens that are computed for a request's client."""
        client = state.request.client
        self._alive.setdefault(client, set()).add(state.name)  # a sample may run without having waited
        self.served[client] = self.served.get(client, 0.0) + tokens / self.weights.get(client, 1.0)

    def victim(self, running: Sequence[RequestState], now: float) -> RequestState:
        """Return the last admitted request of the client that was served most."""
        return max(reversed(running), key=lambda state: self.served.get(state.request.client, 0.0))

    def _enter(self, client: Hashable) -> None:
        """Put a client that comes back into the line, lifted to the virtual time."""
        self.served[client] = max(self.served.get(client, 0.0), self._time)
        self._entries += 1
        self._entry[client] = self._entries
        heapq.heappush(self._line, (self.served[client], self._entries, client))
        if len(self._line) > 2 * len(self._entry) + 8:
            self._line = [entry for entry in self._line if self._entry.get(entry[2]) == entry[1]]
            heapq.heapify(self._line)

    def _exit(self, client: Hashable) -> None:
        """Take a client out of the line."""
        del self._entry[client]
