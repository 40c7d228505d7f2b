"""Routers: what each does, and the traffic on which each fails."""

from types import SimpleNamespace

import pytest

from helpers.engine import PrefixRouter, Request, RoundRobinRouter, least_requests, least_tokens
from helpers.simulation import simulate_replicas, together
from helpers.traffic import Arrival, Lengths, Mix, Trace, poisson, shared_prefix, with_caps
from tests.engine.support import ROUTERS, engines

ASKED = Request("a", [1] * 10, 5)


def replica(requests, tokens, cached=0):
    """Return an engine that says these numbers of itself."""
    return SimpleNamespace(
        num_requests=requests, tokens_asked=tokens, cached_tokens=lambda tokens, salt=None: cached
    )


def test_routers_name_an_engine_by_what_it_says_of_itself():
    replicas = [replica(3, 90), replica(2, 200), replica(2, 40), replica(5, 40, cached=9)]
    turns = RoundRobinRouter()
    assert [turns(ASKED, replicas) for _ in range(5)] == [0, 1, 2, 3, 0]
    assert least_requests(ASKED, replicas) == 1, "of equal engines the first"
    assert least_tokens(ASKED, replicas) == 2, "of equal engines the first"
    assert PrefixRouter()(ASKED, replicas) == 3
    assert PrefixRouter()(ASKED, replicas[:3]) == 2, "nothing is cached: the least load"


def slowest(trace, name, metric, count=2, seats=4):
    """Return what one request in a hundred exceeds."""
    reports = simulate_replicas(trace, engines(count, seats), ROUTERS[name]())
    return together(reports).percentile(metric, 99)


def uneven(seed):
    """Return few requests for very long answers among many for short ones, at nine tenths of four replicas' load."""
    return poisson(400, 14.0, Mix(Lengths(20), Lengths(12, 1.8, 1, 600)), seed=seed)


def test_turns_fail_where_heavy_requests_come_in_step():
    heavy, light = (200, 120), (10, 4)
    trace = Trace([Arrival(i * 0.18, *(light if i % 2 else heavy)) for i in range(120)])
    times = {name: slowest(trace, name, "latency", seats=2) for name in ROUTERS}
    assert times["round robin"] > 3 * max(times["requests"], times["tokens"])


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_requests_fail_where_they_weigh_differently_and_tokens_where_caps_say_nothing(seed):
    """Some requests wait behind very long ones. Tokens tell which are long, unless only the clients' caps are known."""
    true = uneven(seed)
    capped = with_caps(true, Lengths(1000, 1.0, 600, 20000), seed=1)
    best = slowest(true, "tokens", "ttft", 4, 2)
    assert best < slowest(true, "requests", "ttft", 4, 2)
    assert best < slowest(capped, "tokens", "ttft", 4, 2)


def test_prefixes_find_what_is_cached_and_affinity_alone_drowns_one():
    trace = shared_prefix(300, 12.0, 4, Lengths(400), popularity=3.0, seed=2)
    found = {name: simulate_replicas(trace, engines(4, pages=150), ROUTERS[name]()) for name in ROUTERS}
    hits = {name: together(reports).hit_rate for name, reports in found.items()}
    assert hits["prefix"] > hits["round robin"]
    assert hits["affinity"] >= hits["prefix"]
    busiest = {name: max(len(r.outcomes) for r in reports) / len(trace) for name, reports in found.items()}
    assert busiest["affinity"] > 0.7, "the popular beginning's engine gets nearly all"
    assert busiest["prefix"] < busiest["affinity"]
    medians = {name: together(reports).percentile("latency", 50) for name, reports in found.items()}
    assert medians["prefix"] < medians["affinity"]
    assert medians["prefix"] < medians["tokens"]


def test_a_negative_balance_is_refused():
    with pytest.raises(ValueError, match="balance"):
        PrefixRouter(-1.0)
