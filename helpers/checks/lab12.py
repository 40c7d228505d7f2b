"""Checks of lab 12, serving and load balancing."""

from __future__ import annotations

from typing import Any

from helpers.checks.families.lab12.events import EVENTS
from helpers.checks.families.lab12.loop import LOOP
from helpers.checks.families.lab12.plan import PLAN
from helpers.checks.families.lab12.route import ROUTE
from helpers.checks.machinery.core import exercise
from helpers.checks.machinery.family import check_family

LAB = "12_serving"


@exercise(LAB, 1, "turn the engine loop")
def check_loop(answer: Any) -> None:
    """Check that `answer(turns, seats)` returns the requests that get a token, pass by pass."""
    check_family(answer, LOOP)


@exercise(LAB, 2, "read a stream of events")
def check_events(answer: Any) -> None:
    """Check that `answer(pieces)` returns the data of the events of a stream."""
    check_family(answer, EVENTS)


@exercise(LAB, 3, "route with a bound")
def check_route(answer: Any) -> None:
    """Check that `answer(requests, engines, slack)` returns the engine of each request."""
    check_family(answer, ROUTE)


@exercise(LAB, 4, "choose replicas and router")
def check_plan(answer: Any) -> None:
    """Check that `answer(choices, ttft, tpot, share)` returns the cheapest choice that is good enough."""
    check_family(answer, PLAN)
