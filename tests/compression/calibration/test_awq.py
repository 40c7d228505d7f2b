"""AWQ's scales: never worse than none on the calibration, better where few channels are loud."""

import pytest
import torch

from helpers.compression import activation_aware_scales, output_error, rescaled, rounded
from helpers.estimates import NumberFormat
from helpers.model import FlatBatch
from tests.tiny import reference, twin

FMT = NumberFormat(3, 16, "minimum")


def moved(weight, scale, gram):
    return output_error(rounded(weight * scale, FMT) / scale - weight, gram)


def test_loud_channels_are_rounded_more_finely():
    draw = torch.Generator().manual_seed(0)
    weight, loudness = torch.randn(24, 64, generator=draw), torch.ones(64)
    loudness[[3, 40]] = 20.0
    x = torch.randn(200, 64, generator=draw) * loudness
    scale = activation_aware_scales(weight, x.t() @ x, FMT)
    assert scale[3] > 2 * scale[4]
    assert moved(weight, scale, x.t() @ x) < 0.7 * moved(weight, torch.ones(64), x.t() @ x)


def test_no_scale_is_among_the_candidates():
    weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(activation_aware_scales(weight, torch.eye(16), FMT, [0.0]), torch.ones(16))


def test_scales_go_into_a_model_without_changing_it():
    model, batch = twin(reference("llama")), FlatBatch.pack([[5, 96, 3]])
    scale = torch.linspace(0.5, 4, 48)
    scaled = rescaled(model, {"layers.1.mlp.down_proj": scale})
    torch.testing.assert_close(scaled(batch), model(batch), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="cannot be scaled"):
        rescaled(model, {"layers.1.attn.o_proj": scale})
