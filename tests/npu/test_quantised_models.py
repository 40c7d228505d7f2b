"""Models of few bits on the NPU: packed weights and an int8 cache give what their dequantised numbers give."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from helpers import emulated_npu
from helpers.caches import Int8KVCache, Int8PagedKVCache
from helpers.compression import INT4, INT8, Recipe, load_quantised, quantise
from helpers.engine import ContinuousBatcher, Request
from helpers.estimates import NumberFormat
from helpers.model import Cache, DecoderLM, FlatBatch, NoCache, build, generate
from tests.compression.stored.folders import write
from tests.tiny import reference, twin

BF16 = torch.bfloat16
TEXT = [5, 96, 3, 3, 41, 12, 17, 60, 22, 9]


def small_model() -> DecoderLM:
    """Two layers in bf16 on the CPU: 4 heads of 32 on 2 KV heads."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=97, hidden_size=128, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    return build(config, AutoModelForCausalLM.from_config(config).state_dict(), BF16)


@pytest.fixture(scope="module")
def model() -> DecoderLM:
    """The small model, made once."""
    return small_model()


def there(model: DecoderLM) -> DecoderLM:
    """The same weights on the device."""
    twin = build_like(model)
    twin.load_state_dict(model.state_dict())
    return twin.to("npu")


def build_like(model: DecoderLM) -> DecoderLM:
    """An empty model of the same shape and type."""
    return DecoderLM(model.cfg).to(model.dtype).requires_grad_(False).eval()


def logits(model: DecoderLM, cache: Cache | None = None) -> torch.Tensor:
    """What a model says of every token of a text."""
    return model(FlatBatch.pack([TEXT]), cache, logits="all").cpu()


def distance(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest difference, as a share of the largest logit."""
    return float((got - want).abs().max() / want.abs().max())


@pytest.mark.parametrize(
    "fmt",
    [
        INT4,
        NumberFormat(4, 64, "zero", "bf16"),
        NumberFormat(4, "row", "none", "fp32"),
        INT8,
        NumberFormat(8, 32),
    ],
    ids=str,
)
def test_packed_weights_give_the_logits_of_their_numbers(model: DecoderLM, fmt: NumberFormat):
    """Within 2 %: scales and offsets are rounded to bf16, as each product's result is."""
    recipe = Recipe(fmt)
    want = logits(quantise(model, recipe))
    packed = quantise(there(model), recipe)
    with emulated_npu.trace() as names:
        got = logits(packed)
    assert names.count("aclnnWeightQuantBatchMatmulV2") == 8
    assert distance(got, want) < 0.02
    assert distance(got, logits(model)) > 0, "few bits do change the logits"


@pytest.mark.parametrize("per", ["token", "tensor"])
def test_int8_weights_and_activations(model: DecoderLM, per: str):
    """Within 3 %: a bf16 rounding may move an activation over the border between two codes."""
    recipe = Recipe(INT8, activations=per)
    want = logits(quantise(model, recipe))
    with emulated_npu.trace() as names:
        got = logits(quantise(there(model), recipe))
    assert names.count("aclnnQuantMatmulV5") == 8
    assert names.count("aclnnDynamicQuantV2") == (8 if per == "token" else 0)
    assert distance(got, want) < 0.03


def test_a_quantised_model_moves_to_the_device(model: DecoderLM):
    small = quantise(model, Recipe(INT8, activations="token"))
    want = logits(small)
    moved = copy.deepcopy(small).to("npu")  # a copy: `small` shares its norms with `model`
    assert distance(logits(moved), want) < 0.03


def test_fp32_activations_are_refused(model: DecoderLM):
    small = quantise(there(model).float(), Recipe(INT8, activations="token"))
    with pytest.raises(ValueError, match="16-bit activations only"):
        logits(small)


@pytest.mark.parametrize(("page_size", "calls"), [(32, 1), (16, 0), (128, 1)])
def test_an_int8_cache_in_pages_is_read_as_codes(model: DecoderLM, page_size: int, calls: int):
    """A decode step is one call of FIA over int8 where its pages allow; logits are the CPU's within 2 %."""
    ours, theirs = (Int8PagedKVCache.for_model(m, 4, page_size) for m in (model, there(model)))
    device = there(model)
    for part, history in ((TEXT, 0), ([8], 10), ([9], 11)):
        batch = FlatBatch.pack([part, part], [history] * 2, ["a", "b"])
        want = model(batch, ours)
        with emulated_npu.trace() as names:
            got = device(batch, theirs).cpu()
        assert distance(got, want) < 0.02
    assert names.count("aclnnDynamicQuantV2") == 4
    gathered = sum("Index" in name for name in names)
    assert (gathered == 0) == bool(calls), names


def test_an_int8_cache_in_rows(model: DecoderLM):
    ours, theirs = Int8KVCache.for_model(model, 2, 40), Int8KVCache.for_model(there(model), 2, 40)
    device = there(model)
    for parts, histories in (([TEXT, TEXT[:4]], [0, 0]), ([[8], [7]], [10, 4])):
        batch = FlatBatch.pack(parts, histories, [0, 1])
        assert distance(device(batch, theirs).cpu(), model(batch, ours)) < 0.02


def test_int8_pages_serve_the_engine_with_sharing_and_preemption():
    """In fp32, where the CPU's codes are the device's: tokens are those of a plain loop on the CPU."""
    ours, device = twin(reference("llama wide heads")), twin(reference("llama wide heads")).to("npu")
    engine = ContinuousBatcher(device, Int8PagedKVCache.for_model(device, 6, 8), 8, 32, 8)
    requests = [Request(i, [*range(20, 20 + 9 * (i % 2)), i, 3], 5) for i in range(4)]
    for request in requests:
        engine.add_request(request)
    engine.run()
    for request in requests:
        plain = generate(ours, request.prompt_ids, 5, Int8KVCache.for_model(ours, 1, 40)).token_ids
        assert engine.finished[request.request_id].token_ids == plain
    assert engine.cache.pool.stats().hit_tokens > 0


def test_codes_written_by_the_device_are_the_cpus(model: DecoderLM):
    """The two caches differ by single steps at borders only."""
    ours, theirs = (Int8PagedKVCache.for_model(m, 2, 32) for m in (model, there(model)))
    logits(model, ours), logits(there(model), theirs)
    assert ((ours.k[0].int() - theirs.k[0].cpu().int()).abs() <= 2).all()
    torch.testing.assert_close(ours.k_scale[0], theirs.k_scale[0].cpu(), rtol=0.02, atol=0)
    assert distance(logits(model, ours.__class__.for_model(model, 2, 32)), logits(model, NoCache())) < 0.05


@pytest.mark.parametrize(
    ("layout", "kernel"),
    [
        ("slim W8A8", "aclnnQuantMatmulV5"),
        ("slim W8A16", "aclnnWeightQuantBatchMatmulV2"),
        ("awq", "aclnnWeightQuantBatchMatmulV2"),
    ],
)
def test_a_stored_checkpoint_runs_packed(layout: str, kernel: str, tmp_path: Path):
    """Logits are those of the numbers behind the codes, on the CPU in fp32, within 5 %: bf16, int8 activations."""
    write(tmp_path, layout)
    want = logits(load_quantised(tmp_path, packed=False))
    model = load_quantised(tmp_path, BF16, "npu")
    with emulated_npu.trace() as names:
        got = logits(model)
    assert names.count(kernel) == 8
    assert distance(got, want) < 0.05
