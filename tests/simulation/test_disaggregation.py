"""Prefill and decode apart: one request by hand, and what holds for every trace."""

import pytest

from helpers.simulation import DecodeNodeTime, Load, SimulatedEngine, Wire, simulate, simulate_disaggregated
from helpers.traffic import Arrival, Trace, multi_turn, poisson

WIRE = Wire(0.5, 1000.0)


def seconds(load):
    """A pass of 1 s, and a tenth for each token and a thousandth for each cached one."""
    return 1.0 + 0.1 * load.tokens + 0.001 * load.history


DECODE = DecodeNodeTime(seconds, WIRE, token_bytes=100)


def engines(count, time, budget=512):
    return [SimulatedEngine(time, 4096, token_budget=budget) for _ in range(count)]


def test_a_decode_pass_computes_one_token_a_sequence_and_waits_for_what_arrives():
    assert DECODE(Load.of([(1, 30), (1, 50)])) == seconds(Load(2, 2, 80, 82))
    joining = Load.of([(1, 30), (41, 0)])  # 40 tokens arrive, and the 41st is computed after them
    assert DECODE(joining) == max(seconds(Load(2, 2, 70, 72)), WIRE.send(40 * 100)) == 0.5 + 4.0
    quick = DecodeNodeTime(seconds, Wire(0.0, 1e9), 100)
    assert quick(joining) == seconds(Load(2, 2, 70, 72))
    with pytest.raises(ValueError, match="more than 0 bytes"):
        DecodeNodeTime(seconds, WIRE, 0)


def test_one_request_by_hand():
    trace = Trace([Arrival(2.0, 40, 3)])
    (one,) = simulate_disaggregated(trace, engines(1, seconds), engines(1, DECODE)).outcomes
    first = 2.0 + 1.0 + 0.1 * 40
    second = first + DECODE(Load.of([(41, 0)]))
    third = second + seconds(Load(1, 1, 41, 42))
    assert (one.arrived, one.first_token, one.last_token, one.ended) == pytest.approx(
        (2.0, first, third, third)
    )
    assert (one.new_tokens, one.prompt_tokens, one.reason) == (3, 40, "length")
    assert one.largest_gap == pytest.approx(second - first)


@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (1, 3)])
def test_every_request_gets_all_its_tokens_and_prompts_are_served_as_without_answers(sizes):
    trace = poisson(40, 0.2, seed=2)
    prefill, decode = engines(sizes[0], seconds), engines(sizes[1], DECODE, 10**6)
    report = simulate_disaggregated(trace, prefill, decode)
    found = {outcome.name: outcome for outcome in report.outcomes}
    assert {name: o.new_tokens for name, o in found.items()} == {i: a.new_tokens for i, a in enumerate(trace)}
    assert all(
        o.first_token <= o.last_token <= o.ended and o.arrived == trace[n].at for n, o in found.items()
    )
    assert report.engines == sum(sizes)
    if sizes[0] == 1:
        prompts = Trace([Arrival(a.at, a.prompt_tokens, 1) for a in trace])
        alone = {o.name: o.first_token for o in simulate(prompts, *engines(1, seconds)).outcomes}
        assert {name: o.first_token for name, o in found.items()} == alone


def test_short_answers_need_no_decode_device():
    trace = Trace([Arrival(0.0, 8, 1), Arrival(1.0, 8, 0)])
    report = simulate_disaggregated(trace, engines(1, seconds), engines(1, DECODE))
    assert sorted(o.new_tokens for o in report.outcomes) == [0, 1]
    assert report.passes == 1


def test_what_cannot_be_is_refused():
    trace = poisson(2, 1.0)
    for prefill, decode in (([], engines(1, DECODE)), (engines(1, seconds), [])):
        with pytest.raises(ValueError, match="one prefill engine and one decode engine"):
            simulate_disaggregated(trace, prefill, decode)
    with pytest.raises(ValueError, match="follows another one"):
        simulate_disaggregated(multi_turn(2, 1.0), engines(1, seconds), engines(1, DECODE))
