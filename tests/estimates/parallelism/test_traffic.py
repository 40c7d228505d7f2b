"""What tensor-parallel devices hand to each other, by hand; tests/parallel holds the formula to real ranks."""

import pytest

from helpers.estimates import TensorTraffic
from helpers.model import PUBLISHED

SMOL = PUBLISHED["SmolLM2-135M"]


def test_a_pass_by_hand():
    said = TensorTraffic.of(SMOL, 2, tokens=7, sequences=3, element_bytes=4)
    assert (said.sums, said.sum_bytes, said.gather_bytes) == (61, 7 * 576 * 4, 3 * 24576 * 4)
    assert said.nbytes == 61 * 7 * 576 * 4 + 3 * 24576 * 4
    assert TensorTraffic.of(SMOL, 5, 1, 1).gather_bytes == 9831 * 4  # 49152 / 5, rounded up
    assert TensorTraffic.of(SMOL, 2, 1, 1).sum_bytes == 576 * 2


@pytest.mark.parametrize(("world", "tokens", "sequences"), [(0, 1, 1), (1, 0, 0), (1, 1, 2)])
def test_what_cannot_be_is_refused(world, tokens, sequences):
    with pytest.raises(ValueError, match="1 device or more"):
        TensorTraffic.of(SMOL, world, tokens, sequences)
