"""Each layout's reader gives the numbers that the layout's own packing stored."""

import pytest
import torch

from helpers.compression import layouts
from tests.compression.stored import folders


@pytest.mark.parametrize(
    ("read", "packed"),
    [
        (layouts.awq({"bits": 4}), folders.awq),
        (layouts.gptq({"bits": 4}), folders.gptq),
        (layouts.gptq({"bits": 4}), lambda w: folders.gptq(w, shuffled=True)),
        (layouts.fp8({"weight_block_size": [32, 32]}), folders.fp8),
        (layouts.model_slim("W8A16"), lambda w: folders.slim(w, -5.0)),
        (layouts.model_slim("W8A8"), lambda w: folders.slim_static(w)[:2]),
        (layouts.model_slim("W8A8"), lambda w: folders.slim_static(w, half=True)[:2]),
    ],
)
def test_numbers_come_back(read, packed):
    tensors, numbers = packed(torch.randn(40, 64, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(read(tensors).numbers, numbers, atol=1e-6, rtol=1e-5)


def test_zero_points_of_the_second_version_are_stored_as_they_are():
    tensors, numbers = folders.gptq(torch.randn(40, 64))
    shifted = layouts.gptq({"bits": 4, "checkpoint_format": "gptq_v2"})(tensors).numbers
    scale = tensors["scales"].t().float().repeat_interleave(32, 1)
    torch.testing.assert_close(shifted, numbers + scale)


def test_static_w8a8_gives_its_bias_back():
    tensors, _, bias = folders.slim_static(torch.randn(40, 64))
    torch.testing.assert_close(layouts.model_slim("W8A8")(tensors).bias, bias)
