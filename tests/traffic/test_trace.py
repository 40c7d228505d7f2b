"""Traces: what they ask for, saved and read back, made at a rate."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.traffic import (
    Arrival,
    Lengths,
    Mix,
    Trace,
    bursty,
    diurnal,
    multi_turn,
    poisson,
    shared_prefix,
    stream,
    with_caps,
)

MIX = Mix(Lengths(30, 0.9, 4, 300), Lengths(12, 0.7, 1, 90), ("a", "b", "b"), (0, 3))
KINDS = {
    "poisson": lambda seed: poisson(50, 4.0, MIX, seed),
    "bursty": lambda seed: bursty(50, 4.0, 3.0, MIX, seed),
    "diurnal": lambda seed: diurnal(50, 4.0, 10.0, 0.9, MIX, seed),
    "shared": lambda seed: shared_prefix(50, 4.0, 3, Lengths(20), MIX, 1.0, seed),
    "talks": lambda seed: multi_turn(12, 1.0, 4, 2.0, 16, MIX, seed),
    "capped": lambda seed: with_caps(poisson(50, 4.0, MIX, seed), Lengths(100, 0.5, 10, 300), seed),
}


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_traces_and_files_give_them_back(kind, tmp_path):
    trace = KINDS[kind](7)
    assert trace == KINDS[kind](7)
    assert list(trace) != list(KINDS[kind](8))
    assert trace[0].at == 0
    assert all(a.at <= b.at for a, b in pairwise(trace))
    trace.save(tmp_path / "trace.jsonl")
    again = Trace.load(tmp_path / "trace.jsonl")
    assert again == trace
    assert [again.request(i, 500) for i in range(5)] == [trace.request(i, 500) for i in range(5)]


arrivals = st.builds(
    Arrival,
    at=st.floats(0, 1e6),
    prompt_tokens=st.integers(50, 10**5),
    new_tokens=st.integers(0, 99),
    max_tokens=st.none() | st.integers(99, 10**4),
    client=st.none() | st.text(),
    priority=st.integers(-9, 9),
    group=st.text(),
    shared_tokens=st.integers(0, 50),
)


@given(st.lists(arrivals), st.text(), st.integers(0, 2**40))
def test_any_trace_survives_a_file(tmp_path_factory, found, name, seed):
    trace = Trace(sorted(found, key=lambda a: a.at), name, seed)
    path = tmp_path_factory.mktemp("traces") / "x.jsonl"
    trace.save(path)
    assert Trace.load(path) == trace


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1"),
        ("{}\n", "line 1"),
        ('{"format": "other", "name": "x", "seed": 0}\n', "format"),
        ('{"format": "inference-trace-1", "name": "x", "seed": 0}\n{"at": 0, "prompt_tokens": 1, "new_tokens": 1}\nx', "line 3"),
        ('{"format": "inference-trace-1", "name": "x", "seed": 0}\n{"at": 0, "prompt_tokens": 0, "new_tokens": 1}', "line 2"),
        ('{"format": "inference-trace-1", "name": "x", "seed": 0}\n{"at": 0, "size": 0}', "line 2"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, text, words):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(ValueError, match=words):
        Trace.load(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    "wrong",
    [
        dict(at=-1.0), dict(at=math.inf), dict(at=math.nan), dict(prompt_tokens=0), dict(new_tokens=-1),
        dict(max_tokens=2), dict(shared_tokens=11, group="g"), dict(shared_tokens=1),
    ],
)  # fmt: skip
def test_an_arrival_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Arrival(**(dict(at=0.0, prompt_tokens=10, new_tokens=3) | wrong))


def test_a_trace_that_cannot_be_is_refused():
    one, two = Arrival(1.0, 5, 2), Arrival(0.5, 5, 2)
    with pytest.raises(ValueError, match="arrival 1 comes at 0"):
        Trace([one, two])
    for follows in (1, -1, 2):
        with pytest.raises(ValueError, match="must follow an earlier one"):
            Trace([one, Arrival(2.0, 50, 2, follows=follows)])
    with pytest.raises(ValueError, match="longer than the text it follows"):
        Trace([one, Arrival(2.0, 7, 2, follows=0)])
    with pytest.raises(ValueError, match="factor"):
        Trace([one]).faster(0.0)


def test_rates_and_gaps():
    for make, cv in (
        (poisson, 1.0),
        (lambda n, r: bursty(n, r, 3.0), 3.0),
        (lambda n, r: bursty(n, r, 0.2), 0.2),
    ):
        trace = make(20000, 5.0)
        gaps = np.diff([a.at for a in trace])
        assert trace.rate == pytest.approx(5.0, rel=0.1)
        assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.1)
    assert poisson(100, 5.0).faster(2.0).rate == pytest.approx(2 * poisson(100, 5.0).rate)
    assert poisson(0, 5.0).rate == poisson(1, 5.0).duration == 0.0


def test_days_have_their_nights():
    """In the k-th twelfth of the period come as many as the integral of the rate says."""
    period, swing = 100.0, 0.8
    trace = diurnal(40000, 10.0, period, swing)
    assert trace.rate == pytest.approx(10.0, rel=0.05)
    whole = int(trace.duration / period) * period
    phase = np.array([a.at % period for a in trace if a.at < whole]) / period
    counts = np.histogram(phase, 12, (0, 1))[0] / len(phase)
    edges = np.linspace(0, 1, 13)
    passed = edges - swing / (2 * np.pi) * np.sin(2 * np.pi * edges)
    assert counts == pytest.approx(np.diff(passed), abs=0.006)


def test_lengths_do_not_depend_on_arrivals():
    one, two = poisson(50, 1.0, MIX, 3), bursty(50, 9.0, 2.0, MIX, 3)
    assert [(a.prompt_tokens, a.new_tokens, a.client, a.priority) for a in one] == [
        (a.prompt_tokens, a.new_tokens, a.client, a.priority) for a in two
    ]


def test_lengths():
    drawn = Lengths(100, 0.5, 20, 300).draw(20000, stream(0, "x"))
    assert np.median(drawn) == pytest.approx(100, rel=0.03)
    assert np.std(np.log(drawn)) == pytest.approx(0.5, rel=0.05)
    assert (min(drawn), max(drawn)) == (20, 300)
    assert set(Lengths(7).draw(5, stream(0, "x"))) == {7}
    for wrong in (dict(median=5, shortest=6), dict(median=5, longest=4), dict(median=5, spread=-1.0)):
        with pytest.raises(ValueError, match="expected"):
            Lengths(**wrong)
    with pytest.raises(ValueError, match="clients"):
        Mix(clients=())


def test_groups_begin_alike_and_popularity_counts():
    trace = shared_prefix(4000, 4.0, 4, Lengths(20, 0.5, 5, 60), MIX, 1.0, 2)
    for vocab in (None, 500):
        texts = [trace.request(i, vocab).prompt_ids for i in range(40)]
        for i in range(40):
            for j in range(i):
                same = trace[i].group == trace[j].group
                alike = next(
                    (k for k, (x, y) in enumerate(zip(texts[i], texts[j], strict=False)) if x != y), None
                )
                if same:
                    assert texts[i][: trace[i].shared_tokens] == texts[j][: trace[j].shared_tokens]
                else:
                    assert alike is not None
                    assert alike < 5
    shares = [sum(a.group == str(g) for a in trace) / 4000 for g in range(4)]
    assert shares == pytest.approx(
        [k / (1 + 1 / 2 + 1 / 3 + 1 / 4) for k in (1, 1 / 2, 1 / 3, 1 / 4)], abs=0.03
    )


def test_turns_follow_each_other():
    trace = multi_turn(20, 1.0, 3, 2.0, 10, MIX, 4)
    assert len(trace) == 60
    for place, arrival in enumerate(trace):
        assert arrival.shared_tokens == 10
        if arrival.follows is not None:
            before = trace[arrival.follows]
            assert before.client == arrival.client
            assert arrival.at >= before.at
            assert arrival.prompt_tokens > before.prompt_tokens + before.new_tokens
            text = [*trace.request(arrival.follows).prompt_ids, *range(before.new_tokens)]
            request = trace.request(place, before=text)
            assert list(request.prompt_ids[: len(text)]) == text
            assert len(request.prompt_ids) == arrival.prompt_tokens
            assert place in trace.followers[arrival.follows]
    assert len({a.client for a in trace}) == 20


def test_tokens_are_of_the_vocabulary_and_clear_of_special_ones():
    request = poisson(1, 1.0, MIX).request(0, 500)
    assert all(100 <= token < 500 for token in request.prompt_ids)
    assert set(poisson(1, 1.0, MIX).request(0, 1).prompt_ids) == {0}
    assert poisson(1, 1.0, MIX)[0].new_tokens == request.max_tokens
    assert with_caps(poisson(1, 1.0, MIX), Lengths(300)).request(0).max_tokens == 300


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: poisson(3, 0.0), "rate"), (lambda: bursty(3, 1.0, 0.0), "burstiness"),
        (lambda: diurnal(3, 1.0, 0.0), "period"), (lambda: diurnal(3, 1.0, 5.0, 1.5), "swing"),
        (lambda: shared_prefix(3, 1.0, 0), "groups"), (lambda: multi_turn(3, 1.0, 0), "turns"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_file_leaves_out_what_is_usual(tmp_path):
    Trace([Arrival(0.0, 5, 2)]).save(tmp_path / "x.jsonl")
    lines = (tmp_path / "x.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {"at": 0.0, "prompt_tokens": 5, "new_tokens": 2}
