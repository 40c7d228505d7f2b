"""RoundRobin and FairShare: clients take turns or get equal shares, and the accounts stay small."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.engine import FairShare, RoundRobin
from tests.engine.support import drain, size, state


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


def test_a_request_whose_quantum_is_used_up_is_preempted():
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


def test_fair_share_serves_the_client_that_was_served_least():
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


def test_a_client_that_pauses_saves_nothing_up():
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
    policy, sizes = FairShare(), []
    for i in range(1000):
        new = state(i, client=i % 3)
        policy.push(new)
        policy.pop(policy.first(0.0))
        policy.leave(new)
        sizes.append(size(policy))
    assert max(sizes) < max(sizes[:100]) + 50, "some entries of the heap more, never one for each request"
    turns = RoundRobin()
    for i in range(1000):
        new = state(i, client=i % 3)
        turns.push(new)
        (turns.remove if i % 2 else turns.pop)(turns.first(0.0))
        turns.leave(new)
    assert size(turns) <= size(RoundRobin()) + 8, "nothing is left but a larger number"


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


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RoundRobin(0), "quantum"),
        (lambda: FairShare({"a": 0.0}), "weights"),
    ],
)
def test_sizes_and_weights_are_checked(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_client_that_joins_and_leaves_behind_another_leaves_nothing_in_the_line():
    policy = FairShare()
    policy.push(state(0, client="a"))
    for i in range(1, 1000):
        policy.push(state(i, client="b"))
        policy.remove(state(i, client="b"))
        policy.leave(state(i, client="b"))
    assert size(policy) < 2000
    assert drain(policy) == [0]
