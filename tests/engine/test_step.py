"""A pass as planned and as logged: chunks, and records that nothing changes afterwards."""

from dataclasses import FrozenInstanceError

import pytest

from helpers.engine import Chunk, Part, Step
from tests.engine.support import state


def test_a_chunk_is_a_state_and_its_tokens():
    one = state("a", prompt=(5, 6, 7))
    chunk = Chunk(one, [5, 6])
    owner, tokens = chunk
    assert owner is one is chunk.state
    assert tokens == chunk.tokens == [5, 6]
    assert chunk.num_tokens == 2
    assert Chunk(one, ()).num_tokens == 0


def test_a_record_of_a_pass_stays_as_it_was_written():
    part = Part("a", 3, 1, decode=True)
    step = Step(0.5, 0.75, (part,), ("b",), 4)
    with pytest.raises(FrozenInstanceError):
        part.num_tokens = 2
    with pytest.raises(FrozenInstanceError):
        step.end = 1.0
    assert (part.num_tokens, step.end) == (1, 0.75)


def test_equal_records_are_equal_so_that_logs_can_be_compared():
    logs = [Step(0.0, 1.0, (Part("a", 0, n, decode=False),), (), 1) for n in (4, 4, 5)]
    assert logs[0] == logs[1] != logs[2]
    assert len(set(logs)) == 2
