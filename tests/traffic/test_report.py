"""Reports, objectives and fairness, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.traffic import Objective, jain, max_min
from tests.traffic.runs import outcome, report


def test_a_report():
    found = report(outcome("b", 2.0, (4.0, 6.0, 8.0), preemptions=2, cached_tokens=5), outcome("a"))
    assert [o.name for o in found.outcomes] == ["a", "b"]
    assert found.seconds == 8.0
    assert found.throughput == 5 / 8
    assert found.utilisation == 0.5
    assert found.mean_batch == 3.0
    assert found.preemptions == 2
    assert found.hit_rate == 0.25
    cancelled = report(*found.outcomes, outcome("never admitted", times=()))
    assert cancelled.hit_rate == 0.25, "its prompt was never looked up"
    assert found.values("ttft") == [1.0, 2.0]
    assert [found.percentile("ttft", p) for p in (0, 50, 100)] == [1.0, 1.5, 2.0]
    assert found.percentile("tpot", 90) == pytest.approx(1.9)
    assert found.worst_wait == 0.5


def test_objectives_and_goodput():
    found = report(
        outcome("a"), outcome("b", 0.0, (3.0, 4.0)), outcome("c", 0.0, (1.0, 9.0)),
        outcome("d", 0.0, (1.0,), "cancelled"), outcome("e", 0.0, (1.0,)),
    )  # fmt: skip
    assert found.attainment(Objective(ttft=1.0)) == 3 / 5
    assert found.attainment(Objective(ttft=1.0, tpot=1.0)) == 2 / 5, "one token has no time between tokens"
    assert found.attainment(Objective()) == 4 / 5, "a cancelled request was not served"
    assert found.goodput(Objective(latency=4.0)) == 3 / 9
    assert report().attainment(Objective()) == 1.0


def test_fairness_by_hand():
    assert jain([1, 1, 1]) == 1.0
    assert jain([4, 0, 0, 0]) == 0.25
    assert jain([]) == jain([0, 0]) == 1.0
    assert max_min({"a": 1, "b": 10, "c": 10}, 11) == {"a": 1, "b": 5, "c": 5}
    with pytest.raises(ValueError, match="0 or more"):
        jain([-1.0])


def test_fairness_of_a_run():
    """Until the last arrival at 10 s each of two clients could have had 5 tokens; one has 8 of its 20, the other 2 of its 20."""
    spaced = lambda count: tuple(10.0 if i == count - 1 else float(i) for i in range(count))  # noqa: E731
    late = tuple(range(20, 32))
    greedy = [outcome(1, 0.0, spaced(8), client="g"), outcome(2, 10.0, late, client="g")]
    meek = [outcome(3, 0.0, spaced(2), client="m"), outcome(4, 10.0, tuple(range(20, 38)), client="m")]
    assert report(*greedy, *meek).fairness == pytest.approx(jain([8 / 5, 2 / 5]))
    assert report(*greedy).fairness == report().fairness == 1.0
    assert len(report(*greedy, *meek).of_client("m").outcomes) == 2
    assert report(outcome(1, priority=3), outcome(2)).of_priority(3).outcomes[0].name == 1


@given(st.dictionaries(st.integers(), st.floats(0, 100), min_size=1), st.floats(0, 300))
def test_max_min_division(asked, total):
    shares = max_min(asked, total)
    assert sum(shares.values()) == pytest.approx(min(total, sum(asked.values())), abs=1e-9)
    most = max(shares.values())
    for client, share in shares.items():
        assert share <= asked[client]
        assert share == asked[client] or share >= most - 1e-9, (
            "a client with less than it asked for has as much as any other"
        )


@given(st.lists(st.floats(0.01, 100), min_size=1), st.floats(0.1, 10))
def test_jain_knows_no_scale_and_its_bounds(values, factor):
    assert 1 / len(values) - 1e-9 <= jain(values) <= 1 + 1e-9
    assert jain([factor * value for value in values]) == pytest.approx(jain(values))
