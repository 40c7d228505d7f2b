"""A replay repeats calls on the memory of the first run, with the numbers of the first run."""

import pytest
import torch

from helpers import KVCache
from helpers.graphs import MaskedRows, RecordedStep, Recording
from helpers.model import FlatBatch
from tests.tiny import reference, twin

PROMPTS = [[5, 96, 3, 3], [41, 12, 17], [1]]


def test_new_content_counts_and_new_tensors_do_not():
    a, b = torch.ones(3), torch.ones(3)
    recording = Recording(lambda: (a + b) * 2)
    b = torch.zeros(3)
    assert recording.replay().tolist() == [4.0] * 3
    a.fill_(10.0)
    assert recording.replay().tolist() == [22.0] * 3
    assert recording.replay() is recording.result


def test_views_are_not_calls_and_keep_their_sizes():
    x, n = torch.arange(6.0), 3
    recording = Recording(lambda: x[:n].sum())
    n = 5
    assert len(recording.calls) == 1
    x.add_(1.0)
    assert recording.replay() == 6.0, "still the first three"


def test_changes_in_place_are_repeated():
    x = torch.zeros(2)
    recording = Recording(lambda: x.add_(1.0))
    assert x.tolist() == [1.0, 1.0]
    recording.replay()
    assert x.tolist() == [2.0, 2.0]


def test_a_number_for_the_host_is_refused():
    x = torch.ones(1)
    with pytest.raises(ValueError, match="gives a number to the host"):
        Recording(lambda: x.item())


def steps(model, cache, count=4):
    """Logits of recorded steps of all three rows, and of plain passes."""
    plain = KVCache.for_model(model, 3, 16)
    for each in (plain, cache):
        model(FlatBatch.pack(PROMPTS), each)
    step = RecordedStep(model, cache, [0, 1, 2])
    for i in range(count):
        tokens = [7 + i, 8, 60 - i]
        want = model(FlatBatch.pack([[t] for t in tokens], plain.seq_lens), plain)
        yield step.step(tokens).clone(), want


@pytest.mark.parametrize("name", ["llama", "qwen3", "llama with biases"])
def test_masked_rows_give_every_steps_logits(name):
    model = twin(reference(name))
    for got, want in steps(model, MaskedRows.for_model(model, 3, 16)):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_rows_with_a_captured_length_are_stale_from_the_second_step_on():
    model = twin(reference("llama"))
    close = [torch.allclose(a, b, atol=1e-4) for a, b in steps(model, KVCache.for_model(model, 3, 16))]
    assert close == [True, False, False, False]


def test_fewer_tokens_leave_the_other_rows_as_they_are():
    model = twin(reference("llama"))
    plain, cache = KVCache.for_model(model, 3, 16), MaskedRows.for_model(model, 3, 16)
    for each in (plain, cache):
        model(FlatBatch.pack(PROMPTS), each)
    step = RecordedStep(model, cache, [0, 1, 2])
    assert step.size == 3
    for tokens in ([7, 8], [9], [1, 2, 3]):
        want = model(FlatBatch.pack([[t] for t in tokens], plain.seq_lens[: len(tokens)]), plain)
        torch.testing.assert_close(step.step(tokens), want, atol=1e-4, rtol=0)
        assert cache.seq_lens == plain.seq_lens
