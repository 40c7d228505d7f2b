"""Load over replicas: what each router does, and the traffic on which each fails."""

import pytest

from helpers.engine import PrefixRouter, RoundRobinRouter, least_requests, least_tokens
from helpers.simulation import SimulatedEngine, simulate, simulate_replicas, together
from helpers.traffic import Arrival, Lengths, Mix, Trace, multi_turn, poisson, shared_prefix, with_caps

ROUTERS = {
    "round robin": RoundRobinRouter,
    "requests": lambda: least_requests,
    "tokens": lambda: least_tokens,
    "prefix": PrefixRouter,
    "affinity": lambda: PrefixRouter(balance=0.0),
}


def pass_time(load):
    return (8 + load.tokens + load.sequences) / 1024


def engines(count=2, seats=4, pages=2000):
    return [
        SimulatedEngine(pass_time, pages, 16, max_batch_size=seats, token_budget=256) for _ in range(count)
    ]


def slowest(trace, name, metric, count=2, seats=4):
    """What one request in a hundred exceeds."""
    reports = simulate_replicas(trace, engines(count, seats), ROUTERS[name]())
    return together(reports).percentile(metric, 99)


def uneven(seed):
    """Few requests for very long answers among many for short ones, at about nine tenths of what four replicas can do."""
    return poisson(400, 14.0, Mix(Lengths(20), Lengths(12, 1.8, 1, 600)), seed=seed)


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("make", [poisson, shared_prefix, lambda n, r: multi_turn(n // 4, r)])
def test_every_request_is_served_once_by_one_engine(name, make):
    trace = make(60, 8.0)
    reports = simulate_replicas(trace, engines(3), ROUTERS[name]())
    assert sorted(o.name for r in reports for o in r.outcomes) == list(range(len(trace)))
    whole = together(reports)
    assert all(o.served and o.arrived >= trace[o.name].at for o in whole.outcomes)
    assert whole.computed == sum(report.computed for report in reports)
    assert whole.utilisation <= 1
    assert [o.new_tokens for o in sorted(whole.outcomes, key=lambda o: o.name)] == [
        a.new_tokens for a in trace
    ]


def test_one_replica_is_one_engine():
    trace = multi_turn(15, 3.0)
    for name in ROUTERS:
        alone = simulate(trace, engines(1)[0])
        assert simulate_replicas(trace, engines(1), ROUTERS[name]())[0] == alone


def test_a_follower_comes_after_what_it_follows_wherever_that_was():
    trace = multi_turn(30, 20.0, 4, 0.1)
    whole = together(simulate_replicas(trace, engines(3), RoundRobinRouter()))
    ends = {o.name: o.ended for o in whole.outcomes}
    arrived = {o.name: o.arrived for o in whole.outcomes}
    for place, arrival in enumerate(trace):
        if arrival.follows is not None:
            assert arrived[place] == max(arrival.at, ends[arrival.follows])


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


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="one engine or more"):
        simulate_replicas(Trace([]), [], least_requests)
    with pytest.raises(ValueError, match="balance"):
        PrefixRouter(-1.0)


def test_a_request_that_follows_one_for_no_token_is_served():
    trace = Trace([Arrival(1.0, 4, 0), Arrival(1.0, 9, 2, follows=0)])
    report = simulate(trace, SimulatedEngine(lambda load: 1.0))
    assert sorted((o.name, o.new_tokens) for o in report.outcomes) == [(0, 0), (1, 2)]
