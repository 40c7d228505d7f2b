"""Bytes of a cache by hand: heads, windows, states of fixed size, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.estimates import kv_cache_bytes, state_bytes
from helpers.model import PUBLISHED, ModelShape
from tests.families import FAMILIES

LLAMA = PUBLISHED["Llama-3-8B"]


def test_a_token_of_llama_3_8b_takes_128_kib():
    """32 layers of keys and values, 8 heads of 128 elements, two bytes each."""
    assert kv_cache_bytes(LLAMA, 1, 1) == 32 * 2 * 8 * 128 * 2 == 128 * 1024
    assert kv_cache_bytes(LLAMA, 1, 1, "fp32") == 2 * kv_cache_bytes(LLAMA, 1, 1, "fp16")
    assert state_bytes(LLAMA, 7) == 0


@given(batch=st.integers(0, 50), tokens=st.integers(0, 5000))
def test_without_windows_a_cache_grows_with_each_token(batch, tokens):
    assert kv_cache_bytes(LLAMA, batch, tokens) == batch * tokens * kv_cache_bytes(LLAMA, 1, 1)


def test_a_layer_with_a_window_stops_growing():
    config = FAMILIES["gemma3"]()
    shape = ModelShape.from_hf(config)
    window = max(layer.window for layer in shape.layers if layer.window)
    full = sum(layer.token_elements for layer in shape.layers if layer.window is None)
    far = [kv_cache_bytes(shape, 1, 10 * window + more, "fp32") for more in (0, 1)]
    assert far[1] - far[0] == 4 * full
    assert kv_cache_bytes(shape, 1, 2, "fp32") - kv_cache_bytes(shape, 1, 1, "fp32") > 4 * full


def test_states_grow_with_sequences_alone():
    shape = ModelShape.from_hf(FAMILIES["jamba"]())
    assert state_bytes(shape, 5) == 5 * state_bytes(shape, 1) > 0
    assert state_bytes(shape, 0) == 0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="batch_size must be 0 or more"):
        kv_cache_bytes(LLAMA, -1, 5)
    with pytest.raises(ValueError, match="seq_len must be 0 or more"):
        kv_cache_bytes(LLAMA, 1, -5)
    with pytest.raises(ValueError, match="batch_size must be 0 or more"):
        state_bytes(LLAMA, -1)
    with pytest.raises(ValueError, match="unknown dtype 'fp12'"):
        kv_cache_bytes(LLAMA, 1, 5, "fp12")
