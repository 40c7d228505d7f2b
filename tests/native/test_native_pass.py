"""What a pass in one native call refuses to compute; what it computes is in tests/model/native_passes."""

import pytest
import torch

from helpers.native import Codes, can_compute, kernels

pytestmark = pytest.mark.skipif(kernels().functions is None, reason=kernels().reason)


def test_what_it_cannot_compute_is_left_to_operators():
    weight = torch.randn(4, 32)
    codes = Codes.pack(torch.zeros(16, 32, dtype=torch.uint8), torch.ones(16, 1), None, 8, 32)
    assert can_compute([weight, weight.bfloat16(), codes], 16)
    assert not can_compute([weight, weight.half()], 16)
    assert not can_compute([weight[:, :31].contiguous()], 16)
    assert not can_compute([weight], 15)
    assert not can_compute([weight], 2048)
    assert not can_compute([weight.to("meta")], 16)
