"""Models on the emulated NPU: the tokens of the CPU, through the fused operators, in the memory that chapter 1 predicts."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from helpers import InferenceProfiler, KVCache, PagedKVCache, emulated_npu
from helpers.machine import Lap, choose_device, describe, is_emulated, peak_memory, where_it_ran
from helpers.measurements import profile_operators
from helpers.model import ConcatCache, FlatBatch, ModelShape, build, chat_prompt, checkpoint, generate
from tests.tiny import CONFIGS, reference, twin

PROMPT = [5, 96, 3, 3, 41, 12, 17]


@pytest.fixture(scope="module")
def device():
    return choose_device("emulated-npu")


def test_the_device_says_what_it_is(device, monkeypatch):
    assert device.type == "npu"
    assert is_emulated(device)
    assert not is_emulated(torch.device("cpu"))
    assert "times mean nothing" in where_it_ran(device)
    assert "real torch_npu semantics" in where_it_ran(device)
    assert describe(device) == "emulated NPU as Ascend910B3 (times mean nothing), 64.0 GiB"
    monkeypatch.setenv("COURSE_DEVICE", "emulated-npu")
    assert choose_device() == device
    assert choose_device("npu").type == "npu"


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("make_cache", [lambda model: None, lambda model: ConcatCache(), lambda model: KVCache.for_model(model, 1, 32)])  # fmt: skip
def test_tiny_models_generate_the_cpus_tokens(name, make_cache, device):
    ours = twin(reference(name))
    want = generate(ours, PROMPT, 8, KVCache.for_model(ours, 1, 32))
    there = twin(reference(name)).to(device)
    assert generate(there, PROMPT, 8, make_cache(there)).token_ids == want.token_ids


def test_ragged_rows_and_reuse_on_the_device(device):
    ours = twin(reference("qwen3"))
    there = twin(reference("qwen3")).to(device)
    caches = [KVCache.for_model(model, 3, 24) for model in (ours, there)]
    for rows, new in (([0, 2], [PROMPT, [1, 2]]), ([2, 0, 1], [[3], [4, 5], PROMPT]), ([1], [[8]])):
        logits = [
            model(FlatBatch.pack(new, [cache.seq_lens[r] for r in rows], rows, device=model.device), cache)
            for model, cache in zip((ours, there), caches, strict=True)
        ]
        torch.testing.assert_close(logits[1].cpu(), logits[0], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def smol(device):
    return checkpoint.load(torch.float32, device), checkpoint.load(torch.float32, "cpu").model


def test_smollm2_generates_the_cpus_tokens(smol):
    (there, tokenizer), ours = smol
    prompt = chat_prompt(tokenizer, "What is 2 + 2?")
    got, want = (generate(model, prompt, 10, KVCache.for_model(model, 1, 64)) for model in (there, ours))
    assert got.token_ids == want.token_ids


@pytest.mark.parametrize("page_size", [1, 16, 128])
def test_smollm2_generates_the_cpus_tokens_from_pages(page_size, smol):
    (there, tokenizer), ours = smol
    prompt = chat_prompt(tokenizer, "Name a fruit.")
    cache = PagedKVCache.for_model(there, num_pages=-(-64 // page_size), page_size=page_size)
    cache.k.fill_(math.nan), cache.v.fill_(math.nan)  # slots without a token must not matter
    assert generate(there, prompt, 6, cache).token_ids == generate(ours, prompt, 6).token_ids


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.1), (torch.bfloat16, 0.8)])
def test_smollm2_in_16_bits_stays_near_fp32(dtype, tolerance, smol, device):
    """Logits reach 32; fp16 has 11 bits of precision, bf16 8."""
    (_, tokenizer), ours = smol
    prompt = chat_prompt(tokenizer, "What is the capital of France?")
    there = checkpoint.load(dtype, device).model
    got = there(FlatBatch.pack([prompt], device=device), KVCache.for_model(there, 1, 64)).cpu()
    want = ours(FlatBatch.pack([prompt]))
    assert (got - want).abs().max() < tolerance


def launched(model, cache, batch):
    with emulated_npu.trace() as names:
        model(batch, cache)
    return Counter(names)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_decode_step_goes_through_the_fused_operators(dtype, device):
    model = twin(reference("qwen3"), dtype).to(device)
    cache = KVCache.for_model(model, 1, 16)
    model(FlatBatch.pack([PROMPT], device=device), cache)
    names = launched(model, cache, FlatBatch.pack([[1]], [len(PROMPT)], device=device))
    layers = model.cfg.num_layers
    attention = "FusedInferAttentionScore" if dtype == torch.bfloat16 else "FlashAttentionVarLenScore"
    assert sum(n for name, n in names.items() if attention in name) == layers
    assert names["aclnnAddRmsNorm"] == 2 * layers
    assert names["aclnnSwiGlu"] == layers
    assert names["aclnnScatterNdUpdate"] == 2 * layers
    assert sum(n for name, n in names.items() if "RotaryPositionEmbedding" in name) == layers
    assert names["aclnnRmsNorm"] == 1 + 2 * layers, "the first norm, and Qwen3's of queries and keys"
    assert not [name for name in names if "Softmax" in name or "Silu" in name or "Rsqrt" in name]


def test_weights_and_cache_take_the_predicted_memory(device):
    """To the byte, but for the 32 bytes and the rounding up to 512 that torch_npu adds to each allocation."""
    before = torch.npu.memory_allocated()
    model = twin(reference("llama")).to(device)
    tensors = [p.nbytes for p in model.parameters()]
    padded = sum(-(-(n + 32) // 512) * 512 for n in tensors)
    assert torch.npu.memory_allocated() - before == padded
    shape, before = ModelShape.from_hf(CONFIGS["llama"]), torch.npu.memory_allocated()
    cache = KVCache.for_model(model, 3, 40)
    predicted = 3 * 40 * 4 * shape.kv_elements_per_token
    assert cache.nbytes == predicted
    assert 0 <= torch.npu.memory_allocated() - before - predicted < 2 * (32 + 512)


def test_the_peak_of_a_pass_is_near_the_cpus(device):
    ours, there = twin(reference("llama")), twin(reference("llama")).to(device)
    peaks = []
    for model in (ours, there):
        model(FlatBatch.pack([[1] * 200], device=model.device))
        with peak_memory(model.device) as peak:
            model(FlatBatch.pack([[1] * 200], device=model.device))
        peaks.append(peak.nbytes)
    assert peaks[1] == pytest.approx(peaks[0], rel=0.35)


def test_out_of_memory_is_survived(device):
    model = twin(reference("llama")).to(device)
    want = generate(model, PROMPT, 3).token_ids
    torch.npu.empty_cache()
    emulated_npu.set_capacity(emulated_npu.used() + 4 * 2**20)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            KVCache.for_model(model, 64, 4096)
        assert generate(model, PROMPT, 3, KVCache.for_model(model, 1, 16)).token_ids == want
    finally:
        emulated_npu.set_capacity(64 * 2**30)


def test_the_profiler_takes_the_devices_own_events(device):
    lap = Lap(device)
    lap.mark()
    torch.ones(4, device=device).add_(1)
    lap.mark()
    lap.mark()
    assert all(isinstance(mark, torch.Event) for mark in lap._marks)
    assert len(lap.seconds()) == 2
    assert lap.seconds()[0] > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_operators_are_recognised_on_the_device(dtype, device):
    model = twin(reference("llama wide heads"), dtype).to(device)
    cache, steps = KVCache.for_model(model, 1, 16), iter(range(16))
    found = profile_operators(
        lambda: model(FlatBatch.pack([[1]], [next(steps)], device=device), cache), device, 2
    )
    assert (found.calls["matrix products"], found.calls["attention"]) == (9, 2)
    assert (found.calls["norms"], found.calls["writing keys and values"]) == (5, 4)


def test_the_npus_own_profiler_is_used_and_changes_no_token(smol, tmp_path):
    (there, tokenizer), _ = smol
    profiler = InferenceProfiler(warmup=0)
    plain = profiler.profile_generation(there, tokenizer, [5, 6, 7], 2)
    traced = profiler.profile_generation(there, tokenizer, [5, 6, 7], 2, trace_folder=tmp_path / "trace")
    assert traced.generation.token_ids == plain.generation.token_ids
    assert (tmp_path / "trace").is_dir()


@pytest.mark.parametrize("head_dim", [100, 120, 256])
def test_heads_of_any_even_size_give_the_cpus_tokens(head_dim, device):
    """OpenLLaMA-3B has heads of 100 elements, H2O-Danube of 120: no multiple of what the operators take."""
    ours = sized(head_dim)
    want = generate(ours, PROMPT, 6, KVCache.for_model(ours, 1, 32)).token_ids
    there = sized(head_dim).to(device)
    for cache in (KVCache.for_model(there, 1, 32), PagedKVCache.for_model(there, 8, 16), ConcatCache(), None):
        assert generate(there, PROMPT, 6, cache).token_ids == want


def test_a_model_that_the_operators_do_not_take_is_refused_before_it_moves(device):
    ours = sized(528)
    with pytest.raises(ValueError, match="do not take this model's heads of 528 elements"):
        ours.to(device)
    assert {weight.device.type for weight in ours.parameters()} == {"cpu"}
    assert len(generate(ours, PROMPT, 2).token_ids) == 2


def sized(head_dim):
    """Return a seeded fp16 model of one layer whose heads have so many elements."""
    config = LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=head_dim,
    )  # fmt: skip
    torch.manual_seed(head_dim)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return build(config, model.state_dict(), torch.float16)
