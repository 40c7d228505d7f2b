"""A trace refuses what cannot be, gives its requests their texts, and comes back from a file."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.traffic import (
    Arrival,
    Lengths,
    Mix,
    Trace,
    poisson,
    with_caps,
)

MIX = Mix(Lengths(30, 0.9, 4, 300), Lengths(12, 0.7, 1, 90), ("a", "b", "b"), (0, 3))


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


def test_tokens_are_of_the_vocabulary_and_clear_of_special_ones():
    request = poisson(1, 1.0, MIX).request(0, 500)
    assert all(100 <= token < 500 for token in request.prompt_ids)
    assert set(poisson(1, 1.0, MIX).request(0, 1).prompt_ids) == {0}
    assert poisson(1, 1.0, MIX)[0].new_tokens == request.max_tokens
    assert with_caps(poisson(1, 1.0, MIX), Lengths(300)).request(0).max_tokens == 300


def test_a_file_leaves_out_what_is_usual(tmp_path):
    Trace([Arrival(0.0, 5, 2)]).save(tmp_path / "x.jsonl")
    lines = (tmp_path / "x.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {"at": 0.0, "prompt_tokens": 5, "new_tokens": 2}
