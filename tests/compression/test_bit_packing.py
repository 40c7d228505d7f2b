"""Codes packed without a gap come back, and stand where a reader of the format expects them."""

import pytest
import torch

from helpers.compression import pack_codes, unpack_codes


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("columns", [1, 7, 32, 33])
def test_codes_come_back(bits, columns):
    codes = torch.randint(0, 2**bits, (3, columns), generator=torch.Generator().manual_seed(bits)).to(
        torch.uint8
    )
    packed = pack_codes(codes, bits)
    assert packed.shape == (3, -(-columns * bits // 8))
    assert packed.dtype == torch.uint8
    assert torch.equal(unpack_codes(packed, bits, columns), codes)


def test_the_first_code_stands_in_the_lowest_bits():
    assert pack_codes(torch.tensor([[1, 15, 2]]), 4).tolist() == [[0xF1, 0x02]]
    assert pack_codes(torch.tensor([[3, 0, 1, 2]]), 2).tolist() == [[0b10_01_00_11]]
    assert pack_codes(torch.tensor([[7, 0, 0b101]]), 3).tolist() == [[0b01_000_111, 0b1]]
