"""Expert parallelism on paper: which devices a token needs, what each device computes, which rows travel.

Sources: GShard (arXiv:2006.16668); copies of busy experts as in DeepSeek-V3 (arXiv:2412.19437, section 3.4).
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Routes = Sequence[Sequence[int]]
"""The experts of each token."""
Placement = Sequence[Sequence[int]]
"""The devices that hold each expert, one or more."""


def draw_routes(
    tokens: int, num_experts: int, per_token: int, skew: float = 0.0, seed: int = 0
) -> list[tuple[int, ...]]:
    """Return `per_token` different experts for each token; expert `i` is drawn with weight `1 / (i + 1) ** skew`.

    Raises ValueError for less than one token or expert of a token, and for more experts than there are.
    """
    if tokens < 1 or not 1 <= per_token <= num_experts:
        raise ValueError(
            f"expected 1 token or more, and 1 to {num_experts} experts for each, got {tokens}, {per_token}"
        )
    draw = random.Random(seed)
    rates = [(i + 1) ** -skew for i in range(num_experts)]
    routes = []
    for _ in range(tokens):  # the first of many exponential clocks is drawn by its rate
        rings = [draw.expovariate(rate) for rate in rates]
        routes.append(tuple(sorted(heapq.nsmallest(per_token, range(num_experts), key=rings.__getitem__))))
    return routes


def blocks(num_experts: int, world: int) -> list[tuple[int, ...]]:
    """Return the plain placement: neighbouring experts on one device, as evenly as they divide.

    Raises ValueError for less than one device, and for more devices than experts.
    """
    if not 1 <= world <= num_experts:
        raise ValueError(f"{num_experts} experts go to 1 to {num_experts} devices, got {world}")
    return [(expert * world // num_experts,) for expert in range(num_experts)]


def balanced(counts: Sequence[float], world: int, copies: int) -> list[tuple[int, ...]]:
    """Return a placement for experts with these loads: `copies` of busy experts more, the heaviest placed first.

    Each device holds equally many. Raises ValueError where experts and copies do not divide by the devices, and where
    an expert would need more devices than there are.
    """
    total = len(counts) + copies
    if world < 1 or copies < 0 or total % world or copies > len(counts) * (world - 1):
        raise ValueError(f"{len(counts)} experts and {copies} copies do not fill {world} devices evenly")
    number = [1] * len(counts)
    for _ in range(copies):
        busiest = max(
            (e for e in range(len(counts)) if number[e] < world), key=lambda e: counts[e] / number[e]
        )
        number[busiest] += 1
    load, held, places = [0.0] * world, [0] * world, [list[int]() for _ in counts]
    for expert in sorted(range(len(counts)), key=lambda e: (-number[e], -counts[e] / number[e])):
        for _ in range(number[expert]):
            # Devices fill evenly: so there is always a free one that has no copy of this expert yet.
            free = [d for d in range(world) if held[d] < total // world and d not in places[expert]]
            device = min(free, key=lambda d: (held[d], load[d]))
            load[device] += counts[expert] / number[expert]
            held[device] += 1
            places[expert].append(device)
    return [tuple(devices) for devices in places]


def expert_counts(routes: Routes, num_experts: int) -> list[int]:
    """Return how many tokens each expert computes."""
    counts = Counter(expert for chosen in routes for expert in chosen)
    return [counts[expert] for expert in range(num_experts)]


def devices_per_token(num_experts: int, per_token: int, world: int) -> float:
    """Return how many devices a token's experts lie on, on average, when the router favours none.

    `num_experts / world` lie on each. Raises ValueError as `blocks` does.
    """
    blocks(num_experts, world)
    others = num_experts - num_experts // world
    none = math.comb(others, per_token) / math.comb(num_experts, per_token)
    return world * (1 - none)


@dataclass(frozen=True)
class ExpertLoad:
    """What the experts of one layer compute in a pass, and what travels for it."""

    per_device: tuple[int, ...]
    """Pairs of a token and an expert that each device computes."""
    rows_sent: int
    """Rows that leave their token's device: one for each other device that the token needs. As many come back."""

    @classmethod
    def of(cls, routes: Routes, placement: Placement, world: int) -> ExpertLoad:
        """Return the load of these tokens, which lie on the devices in turn; copies of an expert take turns, too.

        Raises ValueError for an expert or a device that is not there.
        """
        if any(not 0 <= device < world for devices in placement for device in devices):
            raise ValueError(f"the devices are 0 to {world - 1}; another one is in the placement")
        if any(not 0 <= expert < len(placement) for chosen in routes for expert in chosen):
            raise ValueError(f"the experts are 0 to {len(placement) - 1}; another one is in the routes")
        pairs, rows, turns = [0] * world, 0, [0] * len(placement)
        for token, chosen in enumerate(routes):
            home, needed = token % world, set()
            for expert in chosen:
                devices = placement[expert]
                device = devices[turns[expert] % len(devices)]
                turns[expert] += 1
                pairs[device] += 1
                needed.add(device)
            rows += len(needed - {home})
        return cls(tuple(pairs), rows)

    @property
    def imbalance(self) -> float:
        """Return the busiest device's pairs over the mean: all devices wait for the busiest one."""
        return max(self.per_device) * len(self.per_device) / sum(self.per_device)

    def nbytes(self, hidden_size: int, element_bytes: float = 2.0) -> float:
        """Return the bytes of all rows that are sent, in one direction."""
        return self.rows_sent * hidden_size * element_bytes
