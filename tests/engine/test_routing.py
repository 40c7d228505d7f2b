"""Routers: what each does, and the traffic on which each fails."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.engine import (
    ROUTERS as NAMED,
)
from helpers.engine import (
    BoundedPrefixRouter,
    PrefixRouter,
    Request,
    RoundRobinRouter,
    TwoChoicesRouter,
    least_requests,
    least_tokens,
    named_router,
)
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


def test_two_choices_name_the_lighter_of_two_that_are_drawn():
    loads = [50, 40, 30, 20, 10]
    router = TwoChoicesRouter(seed=4)
    named = [router(ASKED, [replica(1, load) for load in loads]) for _ in range(2000)]
    # Of the 10 pairs of five engines, the one that is lighter than k others wins k pairs.
    shares = [named.count(i) / 2000 for i in range(5)]
    assert shares == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=0.04)
    again = TwoChoicesRouter(seed=4)
    assert [again(ASKED, [replica(1, load) for load in loads]) for _ in range(2000)] == named
    assert TwoChoicesRouter()(ASKED, [replica(1, 5)]) == 0


def test_a_bounded_router_takes_the_best_cache_that_is_not_too_busy():
    router = BoundedPrefixRouter(slack=100)
    assert router(ASKED, [replica(1, 150), replica(1, 50), replica(9, 150, cached=5)]) == 2
    assert router(ASKED, [replica(1, 150), replica(1, 49), replica(9, 150, cached=5)]) == 1
    assert router(ASKED, [replica(1, 60, 5), replica(1, 50, 5), replica(1, 50, 5)]) == 1
    with pytest.raises(ValueError, match="the slack must be 0 tokens or more, got -1"):
        BoundedPrefixRouter(-1)


class Counted:
    """An engine on paper that counts what it was sent, and caches every prompt for ever."""

    def __init__(self):
        self.asked, self.seen = [], set()

    num_requests = property(lambda self: len(self.asked))
    tokens_asked = property(lambda self: sum(self.asked))

    def cached_tokens(self, tokens, salt=None):
        return max((n for n in range(len(tokens)) if (salt, tuple(tokens[:n])) in self.seen), default=0)

    def take(self, request):
        self.asked.append(len(request.prompt_ids) + request.max_tokens)
        self.seen |= {(request.salt, tuple(request.prompt_ids[:n])) for n in range(len(request.prompt_ids))}


comings = st.lists(
    st.tuples(st.integers(1, 30), st.integers(1, 60), st.integers(0, 3), st.none() | st.integers(0, 50)),
    min_size=1, max_size=60,
)  # fmt: skip


@given(comings, st.integers(2, 5), st.integers(0, 120))
def test_the_bound_on_imbalance_is_never_passed(comings, count, slack):
    """Not by any choice, and where requests only come, not between any two engines."""
    counted, router, ended, largest = [Counted() for _ in range(count)], BoundedPrefixRouter(slack), False, 0
    for prompt, answer, beginning, leaves in comings:
        if leaves is not None and any(engine.asked for engine in counted):
            busy = [engine for engine in counted if engine.asked]
            busy[leaves % len(busy)].asked.pop()
            ended = True
        loads = [engine.tokens_asked for engine in counted]
        request = Request("r", [beginning] * prompt, answer)
        place = router(request, counted)
        assert loads[place] - min(loads) <= slack
        counted[place].take(request)
        largest = max(largest, prompt + answer)
        loads = [engine.tokens_asked for engine in counted]
        assert ended or max(loads) - min(loads) <= slack + largest


def test_the_bound_keeps_cached_text_together_and_the_popular_one_apart():
    """With a bound, a popular beginning spreads; without one, it stays where it was first."""
    trace = shared_prefix(300, 12.0, 4, Lengths(400), popularity=3.0, seed=2)

    def served(router):
        reports = simulate_replicas(trace, engines(4, pages=150), router)
        return max(len(r.outcomes) for r in reports) / len(trace), together(reports).hit_rate

    turns, bounded, free = (
        served(r) for r in (RoundRobinRouter(), BoundedPrefixRouter(1500), BoundedPrefixRouter(10**9))
    )
    assert bounded[0] < free[0]
    assert turns[1] < bounded[1]


def test_routers_by_name():
    assert sorted(NAMED) == sorted(
        ["round-robin", "least-requests", "least-tokens", "two-choices", "prefix", "bounded-prefix"]
    )
    replicas = [replica(3, 90), replica(2, 200), replica(2, 40), replica(5, 40, cached=9)]
    for name in NAMED:
        assert named_router(name)(ASKED, replicas) in range(4)
    assert named_router("round-robin") is not named_router("round-robin")
    with pytest.raises(ValueError, match="unknown router 'lottery'; there are round-robin, least-requests"):
        named_router("lottery")
