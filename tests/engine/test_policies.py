"""Policies: the order they promise, whatever joins and leaves; bounds on waiting; the cost of a decision."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.caches import PagePool
from helpers.engine import (
    POLICIES,
    CacheAware,
    FairShare,
    FirstComeFirstServed,
    Policy,
    Priority,
    Request,
    RequestScheduler,
    RequestState,
    RoundRobin,
    ShortestJobFirst,
    capped_length,
    named_policy,
)
from helpers.simulation import PaperPages

ORDERED = {
    "fcfs": (FirstComeFirstServed, lambda s: (s.arrived, s.order)),
    "priority": (Priority, lambda s: (s.request.priority, s.arrived, s.order)),
    "ageing": (lambda: Priority(ageing=2.0), lambda s: (s.arrived + 2.0 * s.request.priority, s.order)),
    "sjf": (ShortestJobFirst, lambda s: (capped_length(s.request), s.arrived, s.order)),
    "sjf ageing": (
        lambda: ShortestJobFirst(ageing=0.5),
        lambda s: (s.arrived + 0.5 * capped_length(s.request), s.order),
    ),
}


def state(name, arrived=0.0, order=None, prompt=(1,), max_tokens=1, **options):
    return RequestState(
        Request(name, list(prompt), max_tokens, **options), arrived, order=name if order is None else order
    )


def drain(policy, now=0.0):
    """Everybody, in the order in which they are admitted."""
    names = []
    while policy:
        first = policy.first(now)
        policy.pop(first)
        names.append(first.name)
    return names


@pytest.mark.parametrize("name", ORDERED)
@settings(max_examples=40, deadline=None)
@given(moves=st.lists(st.tuples(st.sampled_from("+-x="), st.integers(0, 5), st.integers(0, 5)), max_size=60))
def test_the_first_is_the_smallest_whatever_joins_and_leaves(name, moves):
    """Pushes, admissions, cancellations and returns of admitted ones, against a sorted list."""
    make, key = ORDERED[name]
    policy, waiting, gone = make(), [], []
    for number, (move, a, b) in enumerate(moves):
        if move == "+":
            new = state(number, float(number // 3), max_tokens=1 + a, priority=b - 2)
            policy.push(new)
            waiting.append(new)
        elif move == "=" and gone:
            back = gone.pop(a % len(gone))
            policy.push(back)
            waiting.append(back)
        elif waiting:
            first = min(waiting, key=key)
            assert policy.first(float(number)) is first
            leaving = first if move == "-" else waiting[a % len(waiting)]
            (policy.pop if move == "-" else policy.remove)(leaving)
            waiting.remove(leaving)
            if move == "-":
                gone.append(leaving)
        assert len(policy) == len(waiting)
        assert {s.name for s in policy} == {s.name for s in waiting}
    assert drain(policy) == [s.name for s in sorted(waiting, key=key)]


def test_equal_ranks_and_equal_arrivals_go_by_order():
    for make in (FirstComeFirstServed, Priority, ShortestJobFirst):
        policy = make()
        for name in (3, 1, 2):
            policy.push(state(name))
        assert drain(policy) == [1, 2, 3]


def test_the_least_urgent_gives_way():
    running = [state(1, priority=0), state(2, priority=5), state(3, priority=5, arrived=1.0), state(4)]
    assert Priority().victim(running, 0.0).name == 3
    assert FirstComeFirstServed().victim(running, 0.0).name == 3, "the last one that came"


def test_priority_takes_a_place_only_from_the_less_urgent():
    running = [state(1, priority=1), state(2, priority=2)]
    for waiting, loser in ((0, 2), (1, 2), (2, None), (3, None)):
        policy = Priority(preemptive=True)
        policy.push(state(9, arrived=1.0, priority=waiting))
        given_up = policy.displaced(running, 1.0)
        assert (given_up.name if given_up else None) == loser
        assert policy.steady(running) == (math.inf if loser is None else 0)
        assert Priority().displaced(running, 1.0) is None


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 40), st.integers(-3, 3)), min_size=2, max_size=30),
    ageing=st.sampled_from([0.25, 1.0, 4.0]),
)
def test_ageing_bounds_who_overtakes(pairs, ageing):
    """Nobody is served before one of rank p from t who came at t + ageing * (p - q) or later with rank q."""
    policy = Priority(ageing=ageing)
    states = {i: state(i, at / 4, priority=p) for i, (at, p) in enumerate(sorted(pairs))}
    for each in states.values():
        policy.push(each)
    order = drain(policy)
    for place, name in enumerate(order):
        mine = states[name]
        for ahead in (states[other] for other in order[:place]):
            allowed = mine.arrived + ageing * (mine.request.priority - ahead.request.priority)
            assert ahead.arrived < allowed or (ahead.arrived == allowed and ahead.order < mine.order)


def test_a_job_is_as_long_as_its_passes():
    assert capped_length(Request("a", [1] * 512, 1)) == 1
    assert capped_length(Request("a", [1] * 513, 10)) == 11
    assert capped_length(Request("a", [1] * 10, 3), prompt_tokens_per_pass=5) == 4


def test_a_length_is_asked_for_once_and_forgotten_at_the_end():
    asked = []
    policy = ShortestJobFirst(lambda request: asked.append(request.request_id) or 1.0)
    job = state(1)
    policy.push(job)
    policy.pop(job)
    policy.victim([job], 0.0)
    policy.push(job)
    assert asked == [1]
    policy.pop(job)
    policy.leave(job)
    policy.push(job)
    assert asked == [1, 1]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_clients_take_turns(data):
    """Between two admissions of a client, each other client that waited through both is admitted once."""
    policy, waiting, log, present = RoundRobin(), [], [], []
    for number in range(data.draw(st.integers(2, 40))):
        move = data.draw(st.sampled_from("++-x"))
        if move == "+":
            waiting.append(state(number, float(number), client=data.draw(st.sampled_from("abc"))))
            policy.push(waiting[-1])
        elif waiting and move == "x":
            gone = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            policy.remove(gone)
        elif waiting:
            first = policy.first(0.0)
            mine = [s for s in waiting if s.request.client == first.request.client]
            assert first is mine[0], "a client's oldest comes first"
            policy.pop(first)
            waiting.remove(first)
            log.append((number, first.request.client))
        present.append({s.request.client for s in waiting})
        assert len(policy) == len(waiting)
    for place, (begin, client) in enumerate(log):
        end = next((move for move, other in log[place + 1 :] if other == client), None)
        if end is not None:
            between = {other for move, other in log if begin < move < end}
            assert set.intersection(*present[begin:end]) - {client} <= between


def test_a_quantum_gives_the_place_to_who_waits():
    policy = RoundRobin(quantum=3)
    one, two = state(1), state(2)
    policy.push(one)
    policy.pop(one)
    policy.push(two)
    one.token_ids += [0, 0]
    assert policy.displaced([one], 0.0) is None
    assert policy.steady([one]) == 1
    one.token_ids.append(0)
    assert policy.displaced([one], 0.0) is one
    policy.displace(one)
    policy.push(one)
    assert drain(policy) == [2, 1], "it queues up behind"


def test_fair_share_serves_who_was_served_least():
    policy = FairShare({"b": 2.0})
    for i in range(3):
        policy.push(state(10 + i, client="a"))
        policy.push(state(20 + i, client="b"))
    order = []
    while policy:
        first = policy.first(0.0)
        policy.pop(first)
        policy.charge(first, 100)
        order.append(first.request.client)
    assert order == ["a", "b", "b", "a", "b", "a"], "b counts half"


def test_who_pauses_saves_nothing_up():
    policy = FairShare()
    for i in range(8):
        policy.push(state(i, client="a"))
    for _ in range(4):
        first = policy.first(0.0)
        policy.pop(first)
        policy.charge(first, 100)
    for i in range(4):
        policy.push(state(20 + i, client="late"))
    order = []
    for _ in range(6):
        first = policy.first(0.0)
        policy.pop(first)
        policy.charge(first, 100)
        order.append(first.request.client)
    assert order[0] == "late"
    assert order[:4].count("late") == 2, "in turns from now on, not all four at once"


@settings(max_examples=40, deadline=None)
@given(costs=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=4, max_size=40))
def test_shares_of_two_that_always_wait_stay_within_one_request(costs):
    policy = FairShare()
    for i, (a, b) in enumerate(costs):
        policy.push(state(2 * i, client="a", max_tokens=a))
        policy.push(state(2 * i + 1, client="b", max_tokens=b))
    largest = max(max(pair) for pair in costs)
    got = {"a": 0, "b": 0}
    while {s.request.client for s in policy} == {"a", "b"}:
        first = policy.first(0.0)
        policy.pop(first)
        policy.charge(first, first.request.max_tokens)
        got[first.request.client] += first.request.max_tokens
        assert abs(got["a"] - got["b"]) <= largest


def test_a_fair_queue_remembers_each_client_once():
    policy = FairShare()
    for i in range(1000):
        new = state(i, client=i % 3)
        policy.push(new)
        policy.pop(policy.first(0.0))
        policy.leave(new)
    assert len(policy._line) <= 16
    turns = RoundRobin()
    for i in range(1000):
        new = state(i, client=i % 3)
        turns.push(new)
        (turns.remove if i % 2 else turns.pop)(turns.first(0.0))
        turns.leave(new)
    assert not turns._ring
    assert not turns._queues
    assert not turns._numbers
    assert not turns._begun


def cached(*texts, size=4):
    """Look-ups in a pool in which these texts are cached."""
    pool = PagePool(200, size)
    for i, text in enumerate(texts):
        pool.admit(("warm", i), text)
        pool.append(("warm", i), text)
        pool.confirm(("warm", i))
        pool.free(("warm", i))
    return lambda state: pool.cached_tokens(state.text, state.request.salt)


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
def test_nobody_is_overtaken_more_often_than_patience(seed, patience, window, count):
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
    """On tiny pools, where requests are preempted and come back in front of others: a waiting request is overtaken when one
    that came later is admitted before it."""
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
            scheduler.pages.commit()
            for state, tokens in planned:
                state.computed += len(tokens)
                if not state.remaining:
                    scheduler.took(state, 0, 0.0)
    assert max(overtaken.values(), default=0) <= patience


def test_accounts_that_can_change_nothing_are_forgotten():
    policy = FairShare()
    for number in range(500):
        new = state(number, float(number), client=number)
        policy.push(new)
        policy.pop(policy.first(0.0))
        policy.charge(new, 10)
        policy.leave(new)
    assert len(policy.served) < 20, "a client that comes back is lifted to where the others stand"
    policy.push(state(1000, 1000.0, client=3))
    assert policy.served[3] == 5000, "where the client served last ended"


class Counted:
    """A key that counts comparisons."""

    compared = 0

    def __init__(self, key):
        self.key = key

    def __lt__(self, other):
        Counted.compared += 1
        return self.key < other.key

    def __ge__(self, other):
        Counted.compared += 1
        return self.key >= other.key


@pytest.mark.parametrize("make", [*POLICIES.values(), lambda: Priority(ageing=3.0)])
def test_a_decision_among_many_costs_a_logarithm(make, monkeypatch):
    plain = Policy.key
    monkeypatch.setattr(Policy, "key", lambda self, state: Counted(plain(self, state)))
    spent = {}
    for n in (500, 8000):
        rng, policy = random.Random(n), make()
        states = [
            state(
                i,
                float(i),
                max_tokens=rng.randrange(1, 99),
                priority=rng.randrange(5),
                client=rng.randrange(9),
            )
            for i in range(n)
        ]
        for each in states:
            policy.push(each)
        Counted.compared = 0
        for _ in range(100):
            first = policy.first(0.0)
            policy.pop(first)
            policy.charge(first, 5)
            policy.push(first)
        spent[n] = Counted.compared / 100
    assert spent[8000] <= spent[500] + 20, (
        "log2 of 16 is 4, a heap compares about twice per level, for two operations"
    )


def test_cancelling_most_of_a_long_queue_keeps_it_small():
    policy = FirstComeFirstServed()
    states = [state(i, float(i)) for i in range(5000)]
    for each in states:
        policy.push(each)
    for each in states[:4990]:
        policy.remove(each)
    assert len(policy._heap) < 100
    assert drain(policy) == list(range(4990, 5000))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Priority(ageing=0.0), "ageing"),
        (lambda: ShortestJobFirst(ageing=-1.0), "ageing"),
        (lambda: RoundRobin(0), "quantum"),
        (lambda: FairShare({"a": 0.0}), "weights"),
        (lambda: CacheAware(patience=-1), "patience"),
        (lambda: CacheAware(window=0), "window"),
        (lambda: named_policy("lottery"), "unknown policy 'lottery'; known are fcfs, priority"),
    ],
)
def test_nonsense_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
