"""Our decoder gives the logits of `transformers`, for each architecture, whole and token by token."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import KVCache
from helpers.model import ConcatCache, FlatBatch, NoCache
from helpers.ops import materialised_attention, torch_ops
from tests.tiny import CONFIGS, reference, twin

TOKENS = [[5, 96, 3, 3, 41, 0, 17, 22, 9, 60, 11, 2], [7, 7, 80], [1]]


def expected(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("attention", [None, materialised_attention], ids=["fused", "materialised"])
def test_full_pass_over_a_ragged_batch(name, attention):
    model = reference(name)
    cache = NoCache(attention) if attention else None
    got = twin(model)(FlatBatch.pack(TOKENS), cache, logits="all")
    torch.testing.assert_close(got, torch.cat([expected(model, row) for row in TOKENS]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_weights_change_no_logit(name):
    model = reference(name)
    got = twin(model).pack()(FlatBatch.pack(TOKENS), logits="all")
    torch.testing.assert_close(got, torch.cat([expected(model, row) for row in TOKENS]), atol=1e-4, rtol=0)


def test_weights_stay_as_they_are_where_no_layout_is_known(monkeypatch):
    monkeypatch.setattr(torch_ops, "can_pack", lambda dtype: False)
    model = reference("llama tied")
    ours = twin(model).pack()
    assert not any(parameter.is_mkldnn for parameter in ours.parameters())
    torch.testing.assert_close(
        ours(FlatBatch.pack(TOKENS[:1]))[0], expected(model, TOKENS[0])[-1], atol=1e-4, rtol=0
    )


class Calls(TorchDispatchMode):
    """Count the operators that torch's dispatcher is asked for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def calls_of_a_token(model):
    """Return the operator calls of a pass over one token behind eight."""
    cache = KVCache.for_model(model, 1, 16)
    model(FlatBatch.pack([[1] * 8]), cache)
    batch = FlatBatch.pack([[1]], [8])
    cache.prepare(batch)
    with torch.inference_mode(False), torch.no_grad(), Calls() as calls:
        type(model).compute.__wrapped__(model, batch, cache)
    return calls.count


def test_a_decoded_token_costs_so_many_operator_calls(monkeypatch):
    """46 a layer; torch's RMS norm alone is six calls on a CPU, and every view of a tensor counts."""
    monkeypatch.setenv("COURSE_KERNELS", "packed")
    monkeypatch.setattr("helpers.native.page_attention.serves", lambda *_: False)
    model = twin(reference("llama")).pack()
    two = calls_of_a_token(model)
    model.layers = model.layers[:1]
    assert two - calls_of_a_token(model) <= 46
    assert two <= 2 * 46 + 20


def test_in_a_native_pass_a_token_costs_few_operator_calls_whatever_the_layers(monkeypatch):
    monkeypatch.setenv("COURSE_KERNELS", "native")
    model = twin(reference("llama wide heads")).pack()
    if model.native_passes is None:
        pytest.skip("there is no compiler here")
    assert calls_of_a_token(model) <= 25


@pytest.mark.parametrize("name", CONFIGS)
def test_token_by_token(name):
    model, cache = reference(name), ConcatCache()
    ours = twin(model)
    got = [ours(FlatBatch.pack([[token]], history=[i]), cache) for i, token in enumerate(TOKENS[0])]
    torch.testing.assert_close(torch.cat(got), expected(model, TOKENS[0]), atol=1e-4, rtol=0)


def test_chunks_decodes_and_prefills_in_one_batch():
    model, cache = reference("qwen3"), ConcatCache()
    ours = twin(model)
    ours(FlatBatch.pack([TOKENS[0][:5], TOKENS[1][:2]], seq_ids=["a", "b"]), cache)
    mixed = FlatBatch.pack(
        [TOKENS[0][5:], TOKENS[1][2:], TOKENS[2]], history=[5, 2, 0], seq_ids=["a", "b", "c"]
    )
    want = torch.stack([expected(model, row)[-1] for row in TOKENS])
    torch.testing.assert_close(ours(mixed, cache), want, atol=1e-4, rtol=0)


def test_half_precision_stays_near_fp32():
    model = reference("llama")
    exact = twin(model)(FlatBatch.pack(TOKENS), logits="all")
    rounded = twin(model, torch.bfloat16)(FlatBatch.pack(TOKENS), logits="all")
    assert rounded.dtype == torch.float32, "logits are fp32 whatever the weights are"
    assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()


def test_long_positions_keep_the_rotary_angles_exact():
    model = reference("llama 3 rope")
    tokens = [(7 * i) % 97 for i in range(250)]
    torch.testing.assert_close(
        twin(model)(FlatBatch.pack([tokens]), logits="all"), expected(model, tokens), atol=1e-4, rtol=0
    )
