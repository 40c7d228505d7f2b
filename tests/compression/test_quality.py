"""Quality: nothing lost by the reference itself; the formulas, in fp64, for another model."""

import pytest
import torch

from helpers.compression import Quality, Yardstick
from helpers.model import FlatBatch
from tests.tiny import reference, twin

TEXTS = [[5, 96, 3, 3, 41], [7, 80, 2]]
MODEL, OTHER = twin(reference("llama")), twin(reference("llama", seed=1))


def test_the_reference_has_lost_nothing():
    found = Yardstick(MODEL, TEXTS).measure(MODEL)
    assert (found.divergence, found.agreement) == (0.0, 1.0)


def test_the_formulas():
    p, q = ([m(FlatBatch.pack([t]), logits="all").double() for t in TEXTS] for m in (MODEL, OTHER))
    divergence = [
        (a.softmax(-1) * (a.log_softmax(-1) - b.log_softmax(-1))).sum(-1) for a, b in zip(p, q, strict=True)
    ]
    agreement = [a.argmax(-1) == b.argmax(-1) for a, b in zip(p, q, strict=True)]
    likelihood = [b.log_softmax(-1)[range(len(t) - 1), t[1:]] for b, t in zip(q, TEXTS, strict=True)]
    yardstick = Yardstick(MODEL, TEXTS)
    found = yardstick.measure(OTHER)
    assert yardstick.num_tokens == 8
    assert found.divergence == pytest.approx(float(torch.cat(divergence).mean()), rel=1e-4)
    assert found.agreement == pytest.approx(float(torch.cat(agreement).double().mean()))
    assert found.perplexity == pytest.approx(float((-torch.cat(likelihood).mean()).exp()), rel=1e-4)


def test_how_it_is_printed():
    assert str(Quality(0.04567, 0.956, 44.61)) == "KL 0.046, top-1 96%, perplexity 44.6"
    assert str(Quality(1e-6, 1.0, 5e6)) == "KL 0, top-1 100%, perplexity over 1000"
    assert Quality(0.04567, 1, 1).shown(1) == "0.05"


@pytest.mark.parametrize("texts", [[], [[1]]])
def test_a_text_without_a_next_token_is_refused(texts):
    with pytest.raises(ValueError, match="two tokens or more"):
        Yardstick(MODEL, texts)
