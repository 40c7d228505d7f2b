"""Load over replicas: each request is served once, followers come in order, one replica is one engine."""

import pytest

from helpers.engine import RoundRobinRouter, least_requests
from helpers.simulation import SimulatedEngine, simulate, simulate_replicas, together
from helpers.traffic import Arrival, Trace, multi_turn, poisson, shared_prefix
from tests.engine.support import ROUTERS, engines


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


def test_no_engine_is_refused():
    with pytest.raises(ValueError, match="one engine or more"):
        simulate_replicas(Trace([]), [], least_requests)


def test_a_request_that_follows_one_for_no_token_is_served():
    trace = Trace([Arrival(1.0, 4, 0), Arrival(1.0, 9, 2, follows=0)])
    report = simulate(trace, SimulatedEngine(lambda load: 1.0))
    assert sorted((o.name, o.new_tokens) for o in report.outcomes) == [(0, 0), (1, 2)]
