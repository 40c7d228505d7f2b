"""A rank's process: whose fault an error is."""

import pytest

from helpers.parallel.rank_process import _in_collective


@pytest.mark.parametrize(
    ("where", "kind", "echo"),
    [
        ("lib/torch/distributed/distributed_c10d.py", RuntimeError, True),
        ("lib/torch/distributed/distributed_c10d.py", ValueError, False),
        ("helpers/model/decoder.py", RuntimeError, False),
    ],
)
def test_an_error_of_a_collective_is_the_echo_of_another_fault(where, kind, echo):
    with pytest.raises(kind) as caught:
        exec(compile("raise kind('here')", where, "exec"), {"kind": kind})
    assert _in_collective(caught.value) is echo
    assert _in_collective(kind("never raised")) is False
