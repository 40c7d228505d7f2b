"""A rank's process: whose fault an error is, and which device is the rank's."""

import pytest
import torch

from helpers.parallel import Place, own_device
from helpers.parallel.rank_process import _chosen, _in_collective


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


def test_the_echo_of_a_late_collective_is_known_by_the_words_of_its_library():
    with pytest.raises(RuntimeError) as caught:
        exec("raise RuntimeError('emulated NPU: HCCL: rank 0 waits in HcclAllReduce for rank 1')")
    assert _in_collective(caught.value)
    assert not _in_collective(ValueError("HCCL: rank 0"))


def test_a_rank_has_the_device_that_it_is_told():
    assert own_device() == torch.device("cpu")
    assert _chosen(Place(1, 2, 0, 1, 60.0, "")) == torch.device("cpu")
    with pytest.raises(ValueError, match="unknown device 'abacus'"):
        _chosen(Place(1, 2, 0, 1, 60.0, "", "abacus"))
