"""Outcomes and reports, worked out by hand; tables and figures of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.display import plots
from helpers.engine import Request, RequestState
from helpers.figures import COLUMNS, comparison, draw_curves, draw_percentiles, draw_predictions, seconds_text
from helpers.traffic import Objective, Outcome, Report, jain, max_min


def outcome(name, arrived=0.0, times=(1.0, 2.0), reason="length", **rest):
    first, last = (times[0], times[-1]) if times else (None, None)
    options = dict(client=None, priority=0, prompt_tokens=10, admitted=arrived + 0.5) | rest
    return Outcome(
        name=name, new_tokens=len(times), arrived=arrived, ended=last if times else arrived + 3,
        reason=reason, first_token=first, last_token=last, **options,
    )  # fmt: skip


def report(*outcomes):
    return Report.summed(outcomes, busy=4.0, passes=5, computed=60, row_seconds=12.0)


def test_an_outcome_of_a_request():
    state = RequestState(Request("a", [1, 2, 3], 9, priority=2, client="c"), 1.0)
    with pytest.raises(ValueError, match="not done"):
        Outcome.of(state)
    state.token_ids, state.token_times = [5, 6, 7], [2.0, 5.0, 6.0]
    state.first_scheduled, state.ended, state.finish_reason = 1.5, 6.0, "stop"
    found = Outcome.of(state)
    assert (found.ttft, found.tpot, found.latency, found.wait, found.largest_gap) == (1.0, 2.0, 5.0, 0.5, 3.0)
    assert (found.client, found.priority, found.prompt_tokens, found.new_tokens) == ("c", 2, 3, 3)
    assert [found.tokens_by(t) for t in (1.9, 2.0, 4.0, 6.0, 9.0)] == [0.0, 1.0, 2.0, 3.0, 3.0]


def test_who_got_nothing_has_no_times():
    gone = outcome("x", 2.0, (), "cancelled", admitted=None)
    assert (gone.ttft, gone.tpot, gone.wait, gone.served, gone.tokens_by(9.0)) == (
        None,
        None,
        3.0,
        False,
        0.0,
    )
    assert outcome("y", times=(1.0,)).tpot is None


def test_a_report():
    found = report(outcome("b", 2.0, (4.0, 6.0, 8.0), preemptions=2, cached_tokens=5), outcome("a"))
    assert [o.name for o in found.outcomes] == ["a", "b"]
    assert found.seconds == 8.0
    assert found.throughput == 5 / 8
    assert found.utilisation == 0.5
    assert found.mean_batch == 3.0
    assert found.preemptions == 2
    assert found.hit_rate == 0.25
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
    assert found.attainment(Objective()) == 4 / 5, "who was cancelled was not served"
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
            "who has less than asked has as much as anybody"
        )


@given(st.lists(st.floats(0.01, 100), min_size=1), st.floats(0.1, 10))
def test_jain_knows_no_scale_and_its_bounds(values, factor):
    assert 1 / len(values) - 1e-9 <= jain(values) <= 1 + 1e-9
    assert jain([factor * value for value in values]) == pytest.approx(jain(values))


def test_tables():
    reports = {"one": report(outcome("a"), outcome("b", 0.0, (500.0, 1000.0))), "two": report(outcome("a"))}
    shown = repr(comparison(reports, Objective(ttft=1.0)))
    assert "TTFT p50" in shown
    assert "50%" in shown
    assert "250 s" in shown
    assert "in objective" not in repr(comparison(reports))
    real = repr(comparison(reports, columns=("tok/s", "TTFT p50", "preempted"), real=True))
    assert "measured 250 s" in real
    assert "TPOT" not in real
    assert len(comparison(reports, Objective()).headers) == len(COLUMNS) + 1
    assert [seconds_text(s) for s in (0.00123, 0.0456, 0.9, 3.14159, 1234.5)] == [
        "1.23 ms", "45.6 ms", "900 ms", "3.14 s", "1,234 s",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="unknown columns"):
        comparison(reports, columns=("speed",))


def test_figures():
    reports = {"one": report(outcome("a"), outcome("b", 0.0, (500.0, 1000.0))), "two": report(outcome("a"))}
    fig = draw_percentiles("Policies", reports)
    assert [ax.get_xlabel() for ax in fig.axes] == ["time to first token, s", "time per output token, s"]
    points = {tuple(line.get_xdata()) for line in fig.axes[0].lines}
    assert tuple(r.percentile("ttft", 90) for r in reports.values()) in points
    assert fig.axes[0].get_xscale() == "log"
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["one", "two"]
    curves = draw_curves("Load", "load", "goodput", {"a": ([1, 2], [3, 4]), "b": ([1, 2], [5, 6])})
    assert [list(line.get_ydata()) for line in curves.axes[0].lines] == [[3, 4], [5, 6]]
    pairs = draw_predictions("Held to account", "tok/s", {"x": (10.0, 11.0)})
    assert ([11.0], [10.0]) in [(list(li.get_xdata()), list(li.get_ydata())) for li in pairs.axes[0].lines]
    for made in (fig, curves, pairs):
        assert plots.png(made)[:4] == b"\x89PNG"
    for wrong in (
        lambda: draw_percentiles("x", {}), lambda: draw_predictions("x", "s", {"a": (0.0, 1.0)}),
        lambda: draw_curves("x", "x", "y", {str(i): ([1], [1]) for i in range(8)}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"expected|colours"):
            wrong()
