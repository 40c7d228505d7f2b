"""The contract of a policy: the order that it promises, whatever joins and leaves, and the cost of a decision."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.engine import (
    POLICIES,
    FirstComeFirstServed,
    Policy,
    Priority,
    ShortestJobFirst,
    capped_length,
)
from tests.engine.support import drain, size, state

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


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 40), st.integers(-3, 3)), min_size=2, max_size=30),
    ageing=st.sampled_from([0.25, 1.0, 4.0]),
)
def test_ageing_bounds_which_requests_overtake(pairs, ageing):
    """No request of rank q that comes at t + ageing * (p - q) or later is served before one of rank p from t."""
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


class Counted:
    """Count the comparisons of keys."""

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


def test_removing_most_of_a_long_queue_keeps_it_small():
    policy, short = FirstComeFirstServed(), FirstComeFirstServed()
    states = [state(i, float(i)) for i in range(5000)]
    for each in states:
        policy.push(each)
    for each in states[:4990]:
        policy.remove(each)
    for each in states[4990:]:
        short.push(each)
    assert size(policy) < 4 * size(short), "of 4,990 removed entries at most 18 are kept"
    assert drain(policy) == list(range(4990, 5000))
