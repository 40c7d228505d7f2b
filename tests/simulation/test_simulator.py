"""SimulatedEngine: the engine's own schedule, times and page counts, with and without leaps; replicas; calibrated times."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.caches import PagedKVCache
from helpers.engine import POLICIES, CacheAware, ContinuousBatcher, Priority, Request, RoundRobin
from helpers.estimates import Ceilings
from helpers.model import PUBLISHED
from helpers.simulation import Load, PaperModel, SimulatedEngine, simulate
from helpers.traffic import (
    Arrival,
    KnownLength,
    Lengths,
    Mix,
    PredictedLength,
    Report,
    Trace,
    VirtualClock,
    bursty,
    multi_turn,
    poisson,
    replay_trace,
    shared_prefix,
    with_caps,
)

SMALL = Mix(Lengths(12, 0.7, 1, 40), Lengths(6, 0.8, 1, 30), ("a", "a", "b", "c"), (0, 1, 2))
MADE = {
    **POLICIES,
    "ageing": lambda: Priority(ageing=0.5, preemptive=True),
    "quantum": lambda: RoundRobin(quantum=5),
    "patient": lambda: CacheAware(patience=3, window=4),
}


def pass_time(load):
    """Seconds that tell loads apart, exact in binary."""
    return (64 + 4 * load.tokens + 2 * load.sequences + load.attended / 16) / 4096


class TimedModel(PaperModel):
    """A paper model whose passes take `pass_time`, with any token in its vocabulary."""

    def __init__(self, clock):
        super().__init__(PUBLISHED["SmolLM2-135M"], Ceilings(1.0, 1.0), clock)
        self.cfg = dataclasses.replace(self.cfg, vocab_size=2**31)

    def forward(self, batch, cache=None, logits="last"):
        before = self.clock.now
        chosen = super().forward(batch, cache, logits)
        self.clock.now = before + pass_time(Load.of(zip(batch.query_lens, batch.history_lens, strict=True)))
        return chosen


def on_the_engine(trace, policy, pages, size, seats, budget, chunk, sharing):
    clock = VirtualClock()
    model = TimedModel(clock)
    cache = PagedKVCache.for_model(model, pages, size, sharing)
    batcher = ContinuousBatcher(model, cache, seats, budget, chunk, policy(), clock)
    return Report.of(batcher, replay_trace(trace, batcher, clock, 2**31)), cache.pool


def made_trace(kind, seed, count, rate):
    if kind == "talks":
        return multi_turn(-(-count // 3), rate, 3, 0.3, 8, SMALL, seed)
    if kind == "shared":
        return shared_prefix(count, rate, 3, Lengths(20, 0.5, 4, 40), SMALL, 1.0, seed)
    if kind == "at once":
        return Trace([dataclasses.replace(a, at=0.0) for a in poisson(count, rate, SMALL, seed)])
    return bursty(count, rate, 2.0, SMALL, seed)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(MADE)),
    kind=st.sampled_from(["bursty", "talks", "shared", "at once"]),
    seed=st.integers(0, 10**6),
    rate=st.sampled_from([2.0, 10.0, 50.0]),
    size=st.sampled_from([1, 3, 4, 16]),
    seats=st.integers(1, 6),
    budget=st.integers(1, 40),
    chunk=st.sampled_from([None, 1, 7]),
    sharing=st.booleans(),
    room=st.integers(170, 400),
)
def test_it_is_the_engine_without_a_model(name, kind, seed, rate, size, seats, budget, chunk, sharing, room):
    """Outcomes, passes and totals equal `ContinuousBatcher`'s to the last bit, with leaps and without."""
    trace, pages, kept = made_trace(kind, seed, 15, rate), -(-room // size), []
    expected, pool = on_the_engine(trace, MADE[name], pages, size, seats, budget, chunk, sharing)
    for leap in (True, False):
        engine = SimulatedEngine(pass_time, pages, size, seats, budget, chunk, MADE[name], sharing, leap)
        found = simulate(trace, engine)
        assert found.outcomes == expected.outcomes
        assert (found.passes, found.computed) == (expected.passes, expected.computed)
        assert found.seconds == expected.seconds
        assert found.busy == pytest.approx(expected.busy)
        assert found.row_seconds == pytest.approx(expected.row_seconds)
        ours, theirs = engine.pages.pool.stats(), pool.stats()
        assert ours.used == theirs.used == 0
        assert ours.hit_tokens == theirs.hit_tokens
        assert ours.evictions == theirs.evictions
        assert engine.tokens_asked == engine.num_requests == 0
        kept.append(engine.pages.pool.cached_pages())
    assert kept[0] == kept[1], "pages are taken pass by pass in leaps, too"


def test_no_leap_passes_a_change_of_turn():
    """The first of the queue finds no pages. While two of its client run, another client's turn comes, and that one fits."""
    asked = (("a", 10), ("b", 3), ("b", 3), ("b", 30), ("a", 2))
    trace = Trace([Arrival(0.0, prompt, 8, client=client) for client, prompt in asked])
    found = [
        simulate(trace, SimulatedEngine(pass_time, 40, 1, 8, policy="fair_share", leap=leap))
        for leap in (True, False)
    ]
    assert found[0].outcomes == found[1].outcomes
    admitted = {outcome.name: outcome.admitted for outcome in found[0].outcomes}
    assert 0 < admitted[4] < admitted[3]


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ([(9, 12)] * 3, dict(num_pages=9, page_size=4)),
        ([(5, 20), (5, 9)], dict(max_batch_size=1, policy=lambda: RoundRobin(quantum=3))),
        ([(5, 20), (5, 9)], dict(max_batch_size=1, policy=lambda: RoundRobin(quantum=3), page_size=1)),
    ],
    ids=["pages run out", "a quantum is used up", "every token fills a page"],
)
def test_no_leap_passes_a_preemption(asked, options):
    trace = Trace([Arrival(0.0, prompt, answer) for prompt, answer in asked])
    found = [simulate(trace, SimulatedEngine(pass_time, leap=leap, **options)) for leap in (True, False)]
    assert found[0].outcomes == found[1].outcomes
    assert found[0].preemptions > 0


def test_what_fills_a_page_is_found_by_the_next_turn():
    """An answer's last page is full just when the answer ends: the follower finds it."""
    trace = Trace([Arrival(0.0, 5, 12), Arrival(0.0, 18, 2, follows=0)])
    report = simulate(trace, SimulatedEngine(pass_time, page_size=4))
    assert [outcome.cached_tokens for outcome in report.outcomes] == [0, 16]
    expected, _ = on_the_engine(trace, POLICIES["fcfs"], 99, 4, 4, 64, None, True)
    assert report.outcomes == expected.outcomes


def test_leaps_are_taken():
    engine, calls = None, []
    trace = poisson(40, 1.0, SMALL, 3)
    engine = SimulatedEngine(lambda load: calls.append(load) or pass_time(load))
    planned = []
    plan = engine.scheduler.schedule
    engine.scheduler.schedule = lambda: planned.append(1) or plan()
    report = simulate(trace, engine)
    assert report.passes == len(calls) > 2 * len(planned)


def test_an_empty_trace():
    report = simulate(Trace([]), SimulatedEngine(pass_time))
    assert (report.outcomes, report.seconds, report.passes) == ((), 0.0, 0)
    assert report.percentile("ttft", 99) == report.throughput == report.worst_wait == 0.0
    clock = VirtualClock()
    model = TimedModel(clock)
    batcher = ContinuousBatcher(model, model.cache(10), clock=clock)
    assert replay_trace(Trace([]), batcher, clock) == []


def test_a_request_for_no_token_is_answered_at_once_and_takes_no_pass():
    trace = Trace([Arrival(0.0, 5, 2), Arrival(0.5, 1000, 0), Arrival(0.75, 5, 1)])
    report = simulate(trace, SimulatedEngine(pass_time, num_pages=2))
    nothing = report.outcomes[1]
    assert (nothing.new_tokens, nothing.latency, nothing.ttft, nothing.served) == (0, 0.0, None, True)
    assert report.passes == 3
    expected, _ = on_the_engine(trace, POLICIES["fcfs"], 2, 16, 4, 64, None, True)
    assert report.outcomes == expected.outcomes


def test_answers_end_where_the_trace_says_below_their_caps():
    trace = with_caps(poisson(30, 20.0, SMALL, 1), Lengths(60, 0.5, 30, 100))
    report = simulate(trace, SimulatedEngine(pass_time))
    assert [o.new_tokens for o in sorted(report.outcomes, key=lambda o: o.name)] == [
        a.new_tokens for a in trace
    ]
    assert {o.reason for o in report.outcomes} == {"stop"}
    clock = VirtualClock()
    model = TimedModel(clock)
    with pytest.raises(ValueError, match="would not end at its true length"):
        replay_trace(trace, ContinuousBatcher(model, model.cache(99), clock=clock), clock)


def test_shortest_job_first_by_the_truth_by_guesses_and_by_caps():
    """Lengths that are known help most, caps that say nothing not at all."""
    from functools import partial

    from helpers.engine import ShortestJobFirst

    trace = with_caps(poisson(300, 60.0, Mix(Lengths(8), Lengths(12, 1.2, 1, 200)), 5), Lengths(200))
    policies = {
        "fcfs": "fcfs",
        "known": partial(ShortestJobFirst, KnownLength(trace)),
        "guessed": partial(ShortestJobFirst, PredictedLength(trace, 1.0)),
        "capped": "sjf",
    }
    found = {
        name: simulate(trace, SimulatedEngine(pass_time, max_batch_size=4, policy=policy))
        for name, policy in policies.items()
    }
    mean = {name: sum(report.values("wait")) / len(trace) for name, report in found.items()}
    assert mean["known"] < mean["guessed"] < mean["fcfs"]
    assert mean["capped"] == mean["fcfs"], "equal caps leave the order of arrival"
    assert KnownLength(trace)(Request(0, [1] * 8, 200)) == trace[0].new_tokens
    with pytest.raises(ValueError, match="none of the trace's 300"):
        KnownLength(trace)(Request("x", [1], 1))
    with pytest.raises(ValueError, match="spread"):
        PredictedLength(trace, -1.0)


def test_what_cannot_be_is_refused():
    engine = SimulatedEngine(pass_time, num_pages=2, page_size=4)
    with pytest.raises(ValueError, match="an answer of 3 tokens, allowed are 1 to 2"):
        engine.submit(Request("a", [1], 2), 0.0, 3)
    with pytest.raises(ValueError, match="there is room for 8"):
        engine.submit(Request("a", [1] * 8, 2), 0.0, 1)
    assert not engine.busy
    assert engine.tokens_asked == 0
    with pytest.raises(ValueError, match="unknown policy"):
        SimulatedEngine(pass_time, policy="lottery")
