"""The simple policies: first come, priority and shortest job; and the table of all policies by name."""

import math

import pytest

from helpers.engine import (
    POLICIES,
    FirstComeFirstServed,
    Policy,
    Priority,
    Request,
    ShortestJobFirst,
    capped_length,
    named_policy,
)
from tests.engine.support import state


def test_the_least_urgent_is_preempted():
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


def test_a_job_is_as_long_as_its_passes():
    assert capped_length(Request("a", [1] * 512, 1)) == 1
    assert capped_length(Request("a", [1] * 513, 10)) == 11
    assert capped_length(Request("a", [1] * 10, 3), prompt_tokens_per_pass=5) == 4
    assert capped_length(Request("a", [1] * 510, 10, answered=[1, 2, 3])) == 2 + 10 - 3 - 1


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


@pytest.mark.parametrize("name", POLICIES)
def test_each_name_makes_a_new_policy(name):
    one, other = named_policy(name), named_policy(name)
    assert isinstance(one, Policy)
    assert one is not other
    one.push(state(1))
    assert (len(one), len(other)) == (1, 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Priority(ageing=0.0), "ageing"),
        (lambda: ShortestJobFirst(ageing=-1.0), "ageing"),
        (lambda: named_policy("lottery"), "unknown policy 'lottery'; known are fcfs, priority"),
    ],
)
def test_ageing_and_names_are_checked(make, words):
    with pytest.raises(ValueError, match=words):
        make()
