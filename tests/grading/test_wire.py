"""What two processes say to each other: plain values arrive, no class of the other side does."""

import math
import os
import pickle
import socket

import numpy as np
import pytest
import torch

from helpers.grading import wire


def keep(value):
    return ("object", 0, callable(value), False, False)


def sent(value):
    """A value as the judge receives it."""
    return wire.whole(wire.read_plain(pickle.dumps(wire.parts_of(value, keep))), lambda *parts: parts)


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -3, 7**200, 1.5, math.inf, "text", b"bytes", ..., [], [1, [2, (3,)]], (1, "a"), {1, 2}, frozenset({3}), {"a": [1], (1, 2): None}],
    ids=repr,
)  # fmt: skip
def test_plain_values_arrive_as_they_are(value):
    assert sent(value) == value
    assert type(sent(value)) is type(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 4), (2, 3)])
def test_tensors_arrive_with_type_and_shape(dtype, shape):
    tensor = (torch.arange(math.prod(shape)).reshape(shape) % 3).to(dtype)
    got = sent(tensor)
    assert (got.dtype, got.shape) == (dtype, torch.Size(shape))
    assert torch.equal(got, tensor)
    assert torch.equal(sent(torch.arange(6).reshape(2, 3).T), torch.arange(6).reshape(2, 3).T)


def test_numbers_of_other_libraries_become_pythons():
    assert (sent(np.int64(5)), type(sent(np.int64(5)))) == (5, int)
    assert sent(np.array([1.5, 2.0])) == [1.5, 2.0]
    assert sent(range(3)) == [0, 1, 2]
    assert math.copysign(1, sent(-0.0)) == -1


class Always(int):
    """A number that says it is equal to all others."""

    __hash__ = int.__hash__

    def __eq__(self, other):
        return True


class Liar(list):
    def __eq__(self, other):
        return True


class Many(dict):
    def items(self):
        return [("x", 1)]


def test_no_class_of_the_other_side_arrives():
    assert type(sent(Always(3))) is int
    assert sent(Always(3)) != 4
    assert (type(sent(Liar([1]))), sent(Liar([1])) == [2]) == (list, False)
    assert sent(Many(a=2)) == {"a": 2}
    assert sent(object()) == ("object", 0, False, False, False)


@pytest.mark.parametrize(
    "message",
    [b"", b"nonsense", pickle.dumps(os.system), pickle.dumps(torch.ones(2)), pickle.dumps(Always(1)), pickle.dumps([])[:-1]],
)  # fmt: skip
def test_what_is_no_plain_value_is_refused(message):
    with pytest.raises(wire.Gone):
        wire.read_plain(message)


@pytest.mark.parametrize(
    "parts", [None, 5, (), ("plain",), ("plain", [1]), ("tensor", "float", (1,), b""), ("tensor", "torch.float32", (9,), b"1234"), ("list", 3), ("dict", [1])]
)  # fmt: skip
def test_forged_parts_are_refused(parts):
    def kept(*_):
        raise ValueError("no object")

    with pytest.raises(wire.Gone):
        wire.whole(parts, kept)


def test_messages_have_an_end_and_a_limit():
    here, there = socket.socketpair()
    one, other = wire.Line(here), wire.Line(there)
    one.send(b"first")
    one.send(b"x" * 100_000)
    assert other.receive(1) == b"first"
    assert len(other.receive(1)) == 100_000
    with pytest.raises(wire.Slow):
        other.receive(0.05)
    here.sendall((wire.MOST_BYTES + 1).to_bytes(8, "big"))
    with pytest.raises(wire.Gone, match="too long"):
        other.receive(1)
    here.close()
    with pytest.raises(wire.Gone, match="has ended"):
        other.receive(1)
    there.close()
