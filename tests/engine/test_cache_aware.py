"""CacheAware: the most cached tokens first, and patience, which bounds how often a request is overtaken."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.engine import CacheAware, Request, RequestScheduler
from helpers.simulation import PaperPages
from tests.engine.support import cached, computed, drain, state


def test_most_cached_goes_first_and_patience_ends_it():
    hot, look_up = list(range(16)), cached(list(range(17)))
    policy = CacheAware(patience=2)
    policy.attach(look_up)
    policy.push(state(0, prompt=[50] * 20))
    for i in range(1, 6):
        policy.push(state(i, prompt=[*hot, 60 + i]))
    assert drain(policy) == [1, 2, 0, 3, 4, 5]
    without = CacheAware()
    for i in range(4):
        without.push(state(i, prompt=[*hot, i]))
    assert drain(without) == [0, 1, 2, 3], "no pool, no difference"


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    patience=st.integers(0, 5),
    window=st.integers(1, 6),
    count=st.integers(1, 30),
)
def test_no_request_is_overtaken_more_often_than_patience(seed, patience, window, count):
    rng = random.Random(seed)
    texts = [[t] * 40 for t in range(3)]
    policy = CacheAware(patience, window)
    policy.attach(cached(*texts))
    waiting, overtaken = [], {}
    for number in range(count):
        prompt = [*rng.choice(texts)[: rng.randrange(1, 40)], 90 + number]
        waiting.append(state(number, float(number // 2), prompt=prompt))
        policy.push(waiting[-1])
        while waiting and rng.random() < 0.4:
            if rng.random() < 0.3:
                gone = waiting.pop(rng.randrange(len(waiting)))
                policy.remove(gone)
                continue
            first = policy.first(0.0)
            policy.pop(first)
            for other in waiting[: waiting.index(first)]:
                overtaken[other.name] = overtaken.get(other.name, 0) + 1
            assert waiting.index(first) < window
            waiting.remove(first)
        assert len(policy) == len(waiting)
        assert {s.name for s in policy} == {s.name for s in waiting}
    assert len(drain(policy)) == len(waiting)
    assert max(overtaken.values(), default=0) <= patience


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), patience=st.integers(0, 3), num_pages=st.integers(6, 14))
def test_patience_holds_with_preemptions_too(seed, patience, num_pages):
    """On tiny pools, where preempted requests come back in front of others.

    A waiting request is overtaken when a request that came later is admitted before it.
    """
    rng = random.Random(seed)
    policy = CacheAware(patience, window=8)
    scheduler = RequestScheduler(3, policy, token_budget=16, chunk_size=8, pages=PaperPages(num_pages, 4))
    overtaken, came = {}, {}
    texts = [[t] * 12 for t in range(2)]
    for number in range(24):
        prompt = [*rng.choice(texts)[: rng.randrange(1, 12)], 90 + number % 7]
        came[number] = scheduler.add_request(Request(number, prompt, rng.randint(1, 8))).order
        for _ in range(rng.randrange(3)):
            before = {state.name for state in scheduler.waiting}
            planned = scheduler.schedule()
            running = {state.name for state in scheduler.running}
            after = {state.name for state in scheduler.waiting}
            for name in before & running:
                for other in after & before:
                    if came[other] < came[name]:
                        overtaken[other] = overtaken.get(other, 0) + 1
            computed(planned, scheduler)
    assert max(overtaken.values(), default=0) <= patience


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CacheAware(patience=-1), "patience"),
        (lambda: CacheAware(window=0), "window"),
    ],
)
def test_patience_and_window_are_checked(make, words):
    with pytest.raises(ValueError, match=words):
        make()
