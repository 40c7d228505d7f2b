"""Operations and bytes of a pass: against a count by torch, against a model's own tensors, and by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from helpers import KVCache
from helpers.estimates import (
    Ceilings,
    compute_bound_batch,
    decode_cost,
    layer_activations,
    layer_weights,
    prefill_cost,
    step_cost,
)
from helpers.model import PUBLISHED, FlatBatch, ModelShape, NoCache
from tests.tiny import CONFIGS, reference, twin


@pytest.mark.parametrize("name", ["llama", "llama tied", "llama wide heads", "qwen3"])
@pytest.mark.parametrize(("new", "history"), [([7], [0]), ([1, 1], [5, 9]), ([4, 1], [0, 3])])
def test_matrix_operations_equal_torchs_count(name, new, history):
    """Torch counts the matrices; attention's own operations are those of the formula, because its kernels skip no pair."""
    model, shape = twin(reference(name)), ModelShape.from_hf(CONFIGS[name])
    cache = KVCache.for_model(model, len(new), 16)
    for row, n in enumerate(history):
        if n:
            model(FlatBatch.pack([[1] * n], seq_ids=[row]), cache)
    with FlopCounterMode(display=False) as counter:
        model(FlatBatch.pack([[2] * n for n in new], history), cache)
    matrices = sum(n for op, n in counter.get_flop_counts()["Global"].items() if "attention" not in str(op))
    seen = sum(n * h + n * (n + 1) // 2 for n, h in zip(new, history, strict=True))
    attention = 4 * shape.num_heads * shape.head_dim * seen * shape.num_layers
    assert step_cost(shape, new, history).flops == matrices + attention


@pytest.mark.parametrize("name", ["llama tied", "qwen3 tied, biases"])
def test_weight_bytes_of_a_decode_step_are_the_models(name):
    model, shape = twin(reference(name)), ModelShape.from_hf(CONFIGS[name])
    biases = sum(p.nbytes for n, p in model.named_parameters() if n.endswith("bias"))
    weights = sum(parameter.nbytes for parameter in model.parameters()) - biases
    got = decode_cost(shape, 5, weight_bytes=4).weight_bytes
    assert got == weights + 4 * shape.hidden_size, "every weight once, and one row of the embedding"


def test_kv_bytes_by_hand():
    shape = PUBLISHED["Llama-3-8B"]
    token = 2 * 32 * 8 * 128 * 2
    assert decode_cost(shape, 1000, 3).kv_bytes == 3 * (1000 + 2) * token
    assert prefill_cost(shape, 100, 2).kv_bytes == 2 * 100 * 2 * token


def test_activations_by_hand():
    """Of SmolLM2, hidden 576, 9 and 3 heads of 64, inner 1536."""
    norms, qkv, out = 8 * 576, 576 + 960, 576 + 576
    rotary, attention = 2 * (576 + 192), 2 * 576
    mlp = (576 + 3072) + (3072 + 1536) + (1536 + 576)
    assert layer_activations(PUBLISHED["SmolLM2-135M"]) == norms + qkv + out + rotary + attention + mlp
    cost = prefill_cost(PUBLISHED["SmolLM2-135M"], 10, element_bytes=4)
    assert cost.activation_bytes == 30 * 10 * 4 * (norms + qkv + out + rotary + attention + mlp)


def test_a_plain_mlp_has_two_matrices():
    shape = PUBLISHED["GPT-3 175B"]
    assert layer_weights(shape) == 4 * 12288**2 + 2 * 12288 * 49152


def test_utilisation_and_time_follow_from_the_ceilings():
    ceilings, cost = Ceilings(bandwidth=1e9, flops=1e12), decode_cost(PUBLISHED["SmolLM2-135M"], 100)
    assert cost.intensity == cost.flops / cost.nbytes
    assert cost.seconds(ceilings) == cost.nbytes / 1e9
    assert cost.bandwidth_utilisation(2 * cost.seconds(ceilings), ceilings) == pytest.approx(0.5)
    assert cost.flops_utilisation(1.0, ceilings) == pytest.approx(cost.flops / 1e12)
    many = decode_cost(PUBLISHED["SmolLM2-135M"], 1, 100_000)
    assert many.seconds(Ceilings(1e15, 1e12)) == many.flops / 1e12


@pytest.mark.parametrize("context", [1, 64, 500])
def test_the_compute_bound_batch_is_the_first(context):
    shape, ceilings = PUBLISHED["SmolLM2-135M"], Ceilings(bandwidth=50e9, flops=450e9)
    batch = compute_bound_batch(shape, context, ceilings, weight_bytes=4, element_bytes=4)
    at, before = (decode_cost(shape, context, n, weight_bytes=4, element_bytes=4) for n in (batch, batch - 1))
    assert at.intensity >= ceilings.ridge > before.intensity


def test_long_contexts_are_never_bound_by_compute():
    assert compute_bound_batch(PUBLISHED["Llama-3-8B"], 4096, Ceilings(1.6e12, 364e12)) is None


@pytest.mark.parametrize(("new", "history"), [([], []), ([1], []), ([0], [3]), ([1], [-1])])
def test_what_is_no_pass_is_refused(new, history):
    with pytest.raises(ValueError, match="1 or more new tokens"):
        step_cost(PUBLISHED["SmolLM2-135M"], new, history)


def test_the_reference_path_costs_the_same():
    """NoCache and a cache compute the same matrices for a whole prompt."""
    model = twin(reference("llama"))
    counts = []
    for cache in (NoCache(), KVCache.for_model(model, 1, 8)):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(FlatBatch.pack([[1, 2, 3, 4]]), cache)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1]
