"""Codes in 32-bit words."""

import pytest
import torch

from helpers.compression import codes_of_words
from tests.compression.stored.folders import AWQ_ORDER, words


@pytest.mark.parametrize(("bits", "order"), [(2, None), (4, None), (8, None), (4, AWQ_ORDER)])
def test_codes_come_back(bits, order):
    codes = torch.randint(0, 2**bits, (3, 32))
    assert torch.equal(codes_of_words(words(codes, bits, order), bits, order), codes)


def test_the_first_code_is_lowest_and_the_sign_bit_belongs_to_the_last():
    assert codes_of_words(torch.tensor([[-0x7FFFFFFF]], dtype=torch.int32), 4).tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 8]
    ]
    assert codes_of_words(torch.tensor([[0x76543210]], dtype=torch.int32), 4, AWQ_ORDER).tolist() == [
        [0, 4, 1, 5, 2, 6, 3, 7]
    ]


def test_other_tensors_are_refused():
    for tensor, bits in (
        (torch.zeros(2, 2), 4),
        (torch.zeros(2, dtype=torch.int32), 4),
        (torch.zeros(2, 2).int(), 3),
    ):
        with pytest.raises(ValueError, match="int32 words of two dimensions"):
            codes_of_words(tensor, bits)
