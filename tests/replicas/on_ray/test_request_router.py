"""The routers of the simulator under Ray Serve's contract, without a cluster: what Ray asks, and what it is told."""

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("ray", reason="Ray is in .venv-serve alone: course.py serve --replicas makes it")

from helpers.engine import ROUTERS, Request, named_router
from helpers.replicas import Accounts
from helpers.replicas.on_ray import CourseRouter

REPLICAS = [SimpleNamespace(replica_id=name) for name in "abc"]


def router(name):
    """The router as Ray has it, without Ray's own machinery."""
    made = CourseRouter.__new__(CourseRouter)
    made.initialize_state(router=name, num_pages=64, page_size=4)
    return made


def pending(i, prompt, samples=1):
    """A request as Ray shows it."""
    args = (Request(i, prompt, 8), samples)
    return SimpleNamespace(args=args, metadata=SimpleNamespace(internal_request_id=f"call {i}"))


def choose(made, call, replicas=REPLICAS):
    """The ranks that Ray would try, as names."""
    return [rank[0].replica_id for rank in asyncio.run(made.choose_replicas(replicas, call))]


@pytest.mark.parametrize("name", ROUTERS)
def test_decisions_are_those_of_the_router_itself(name):
    """Ray lists the replicas in any order; the first rank is the router's own choice, and all are named once."""
    made, plain = router(name), Accounts(named_router(name), 64, 4)
    for i in range(40):
        prompt, samples = [i * i % 3] * (5 + 7 * i % 20), 1 + i % 2
        ranks = choose(made, pending(i, prompt, samples), REPLICAS[i % 3 :] + REPLICAS[: i % 3])
        expected = "abc"[plain.choose(f"call {i}", Request(i, prompt, 8), samples, list("abc"))]
        assert ranks[0] == expected
        assert sorted(ranks) == list("abc")
        made.on_request_routed(pending(i, prompt, samples), expected, None)
        plain.sent(f"call {i}", Request(i, prompt, 8), samples, expected)
        if i > 5:
            made.on_request_completed("?", f"call {i - 5}")
            plain.ended(f"call {i - 5}")


def test_the_other_ranks_come_from_the_least_load_on():
    made = router("round-robin")
    made.on_request_routed(pending("x", [1] * 50), "b", None)
    assert choose(made, pending(0, [1])) == ["a", "c", "b"]


def test_without_a_request_or_replicas_nothing_is_chosen():
    made = router("least-tokens")
    assert asyncio.run(made.choose_replicas(REPLICAS, None)) == [REPLICAS]
    assert asyncio.run(made.choose_replicas([], pending(0, [1]))) == [[]]


def test_a_call_for_no_answer_may_go_anywhere_and_is_not_counted():
    made = router("least-tokens")
    call = SimpleNamespace(args=(), metadata=SimpleNamespace(internal_request_id="serves"))
    assert asyncio.run(made.choose_replicas(REPLICAS, call)) == [REPLICAS]
    made.on_request_routed(call, "a", None)
    assert made.accounts["a"].num_requests == 0
