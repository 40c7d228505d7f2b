"""The memory arithmetic: the article's figures, published models, quantised types, and what fits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import MambaConfig

from helpers import MemoryCalculator
from helpers.estimates import BITS, GB, GiB, kv_cache_bytes
from helpers.model import PUBLISHED, ConcatCache, FlatBatch
from tests.tiny import CONFIGS, SIZES, reference, twin

CALC = MemoryCalculator()
GPT3 = {"num_params": 175e9, "hidden_size": 12288, "num_layers": 96, "dtype": "fp16"}


def test_the_articles_example():
    estimate = CALC.estimate_total_memory(GPT3, batch_size=1, seq_len=2048)
    assert {name: round(value, 2 if name == "kv_cache" else 1) for name, value in estimate.items()} == {
        "model": 350.0,
        "kv_cache": 9.66,
        "activation": 19.3,
        "total": 379.0,
    }


def test_an_int8_cache_takes_one_byte_per_element():
    half = CALC.calculate_kv_cache(4, 1000, 4096, 32, "fp16")
    assert CALC.calculate_kv_cache(4, 1000, 4096, 32, "int8") == half / 2
    assert CALC.estimate_total_memory({**GPT3, "dtype": "int8"}, 1, 2048)["kv_cache"] == pytest.approx(
        9.66 / 2, abs=0.01
    )


def test_grouped_query_attention_divides_the_cache():
    all_heads = CALC.calculate_kv_cache(1, 8192, 4096, 32)
    grouped = CALC.calculate_kv_cache(1, 8192, 4096, 32, num_heads=32, num_kv_heads=8)
    assert grouped == all_heads / 4
    assert grouped == CALC.calculate_kv_cache(1, 8192, 4096, 32, num_kv_heads=8, head_dim=128)
    assert grouped == kv_cache_bytes(PUBLISHED["Llama-3-8B"], 1, 8192, "fp16") / GB


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_weights_and_cache_are_predicted_to_the_byte(name, dtype):
    model, short = reference(name), {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
    ours, cache = twin(model, dtype), ConcatCache()
    estimate = CALC.estimate_total_memory(model.config, batch_size=2, seq_len=5, dtype=short)
    ours(FlatBatch.pack([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]), cache)
    assert sum(p.nbytes for p in ours.parameters()) == round(estimate["model"] * GB)
    assert cache.nbytes == round(estimate["kv_cache"] * GB)


@given(
    name=st.sampled_from(sorted(PUBLISHED)),
    seq_len=st.integers(1, 200_000),
    memory=st.floats(1e9, 2e12),
    dtype=st.sampled_from(sorted(BITS)),
    share=st.floats(0.1, 1.0),
)
def test_what_fits_fits_and_one_more_does_not(name, seq_len, memory, dtype, share):
    shape = PUBLISHED[name]
    options = {"utilisation": share, "kv_dtype": "fp16"}
    budget = CALC.kv_budget_bytes(shape, memory, dtype, utilisation=share)
    batch = CALC.max_batch_size(shape, seq_len, memory, dtype, **options)
    assert kv_cache_bytes(shape, batch, seq_len, "fp16") <= budget
    assert kv_cache_bytes(shape, batch + 1, seq_len, "fp16") > budget
    if batch:
        assert CALC.max_seq_len(shape, batch, memory, dtype, **options) >= seq_len
    assert CALC.max_seq_len(shape, batch + 1, memory, dtype, **options) < seq_len


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CALC.calculate_model_memory(0), "num_params must be above 0, got 0"),
        (lambda: CALC.calculate_model_memory(7e9, "fp12"), "unknown dtype 'fp12'; known are fp32"),
        (lambda: CALC.calculate_model_memory(7e9, "int4", group_size=0), "group_size must be above 0"),
        (lambda: CALC.calculate_kv_cache(-1, 10, 64, 2), "batch_size must be 0 or more"),
        (lambda: CALC.calculate_kv_cache(1, 10, 64, 0), "num_layers must be above 0"),
        (lambda: CALC.calculate_kv_cache(1, 10, 64, 2, num_kv_heads=2), "give head_dim or num_heads"),
        (lambda: CALC.estimate_total_memory({"num_params": 1}, 1, 1), "lacks hidden_size, num_layers"),
        (lambda: CALC.max_batch_size(PUBLISHED["Llama-3-8B"], 0, GiB), "seq_len must be above 0"),
        (lambda: CALC.kv_budget_bytes(PUBLISHED["Llama-3-8B"], GiB, utilisation=1.5), "between 0 and 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_config_without_the_needed_sizes_is_named():
    with pytest.raises(
        ValueError, match=r"model type 'mamba' is not supported: .*\(field num_attention_heads\)"
    ):
        CALC.estimate_total_memory(MambaConfig(num_hidden_layers=1, hidden_size=12, vocab_size=5), 1, 1)


def test_the_type_of_a_config_is_taken_and_can_be_overridden():
    config = type(CONFIGS["llama"])(**SIZES, dtype=torch.bfloat16)
    ours, half, full = (CALC.estimate_total_memory(config, 1, 8, dtype) for dtype in (None, "fp16", "fp32"))
    assert ours == half
    assert full["kv_cache"] == 2 * half["kv_cache"]
    quantised = CALC.estimate_total_memory(config, 1, 8, "int8")
    assert quantised["kv_cache"] == half["kv_cache"], "quantised weights leave the cache in 16 bits"
    assert (
        CALC.estimate_total_memory(config, 1, 8, "int8", kv_dtype="int8")["kv_cache"] == half["kv_cache"] / 2
    )
