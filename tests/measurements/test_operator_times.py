"""The operator breakdown counts what a pass calls."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from helpers import KVCache
from helpers.measurements import profile_operators
from helpers.model import FlatBatch
from tests.tiny import reference, twin

CPU = torch.device("cpu")


@pytest.mark.parametrize("packed", [False, True])
def test_calls_of_a_decode_step(packed):
    model = twin(reference("llama"))
    model = model.pack() if packed else model
    cache, steps = KVCache.for_model(model, 1, 32), iter(range(32))
    found = profile_operators(lambda: model(FlatBatch.pack([[1]], [next(steps)]), cache), CPU, repeats=3)
    assert found.calls["matrix products"] == 2 * 4 + 1
    assert found.calls["attention"] == 2
    assert found.calls["norms"] == 2 * 2 + 1
    assert found.calls["writing keys and values"] == 2 * 2
    assert found.calls["everything else"] > 10
    assert sum(found.seconds.values()) + found.outside == pytest.approx(found.wall)
    assert next(steps) == 4, "three passes and the one that does not count"


def test_time_lies_where_the_work_is(monkeypatch):
    """With a profiler that has seen a pass of 100 µs, of which a product took 60 and a sum 30."""

    def event(name, micros, *children):
        return SimpleNamespace(name=name, cpu_time_total=micros, cpu_children=children)

    seen = event(
        "one pass", 100.0, event("aten::matmul", 60.0, event("aten::mm", 59.0)), event("aten::add", 30.0)
    )
    profiler = SimpleNamespace(events=lambda: [*[seen] * 5, *seen.cpu_children])
    monkeypatch.setattr(torch.profiler, "profile", lambda **_: contextlib.nullcontext(profiler))
    found = profile_operators(lambda: None, CPU)
    assert found.calls["matrix products"] == found.calls["everything else"] == 1
    assert found.seconds["matrix products"] == pytest.approx(60e-6)
    assert found.seconds["everything else"] == pytest.approx(30e-6)
    assert (found.wall, found.outside) == (pytest.approx(100e-6), pytest.approx(10e-6))


def test_it_shows_itself():
    text = repr(profile_operators(lambda: torch.ones(3) + 1, CPU))
    assert "between operators" in text
    assert "measured" in text


def test_no_run_is_refused():
    with pytest.raises(ValueError, match="repeats"):
        profile_operators(lambda: None, CPU, repeats=0)
