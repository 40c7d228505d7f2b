"""A layer's operations and traffic: windows, latents, sparse layers and experts, by hand and by counting pairs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.estimates import (
    Ceilings,
    attended_pairs,
    compute_bound_batch,
    decode_cost,
    layer_cache_bytes,
    layer_flops,
    layer_weights_read,
)
from helpers.model import LayerShape, ModelShape
from tests.families import FAMILIES

LATENT = LayerShape(kv_heads=1, key_dim=512, value_dim=64, latent=True, num_heads=128)
WINDOWED = LayerShape(kv_heads=2, key_dim=16, value_dim=16, num_heads=4, window=8)
SPARSE = LayerShape(
    kv_heads=1, key_dim=16, value_dim=8, latent=True, num_heads=4, index_dim=8, index_heads=2, index_topk=6
)


@given(new=st.integers(1, 30), old=st.integers(0, 30), most=st.none() | st.integers(1, 20))
def test_pairs_are_those_of_a_count(new, old, most):
    counted = sum(min(old + j, most or 10**9) for j in range(1, new + 1))
    assert attended_pairs([new, 1], [old, 0], most) == counted + 1


def test_a_latent_is_read_once_for_all_heads():
    """Scores against 512 + 64 elements, weights against 512: DeepSeek-V3, a token after 999."""
    assert layer_flops(LATENT, [1], [999]) == 2 * 128 * (512 + 64 + 512) * 1000
    assert layer_cache_bytes(LATENT, [1], [999], 2) == (999 + 2) * 576 * 2


def test_a_windowed_layer_stops_growing():
    assert layer_flops(WINDOWED, [1], [7]) == layer_flops(WINDOWED, [1], [5000]) == 4 * 4 * 16 * 8
    assert layer_cache_bytes(WINDOWED, [1], [5000], 2) == (7 + 2) * 64 * 2


def test_a_sparse_layer_scores_all_and_reads_a_few():
    assert layer_flops(SPARSE, [1], [99]) == 2 * (4 * (16 + 8 + 16) * 6 + 2 * 8 * 100)
    assert layer_cache_bytes(SPARSE, [1], [99], 1) == (6 + 2) * 24 + (99 + 2) * 8


def test_a_layer_that_shares_a_cache_reads_and_writes_nothing():
    alone, shared = (
        LayerShape(kv_heads=2, key_dim=16, value_dim=8, num_heads=4, shared=s) for s in (False, True)
    )
    assert layer_flops(shared, [1, 3], [9, 0]) == layer_flops(alone, [1, 3], [9, 0]) > 0
    assert layer_cache_bytes(shared, [1, 3], [9, 0], 2) == (9 + 4) * 2 * (16 + 8) * 2
    assert layer_cache_bytes(alone, [1, 3], [9, 0], 2) == (9 + 8) * 2 * (16 + 8) * 2


def test_a_state_costs_the_same_at_any_length():
    layer = LayerShape(conv_state=10, recurrent_state=100)
    assert layer_flops(layer, [1, 3], [0, 9000]) == 4 * (4 * 100 + 2 * 10)
    assert layer_cache_bytes(layer, [1, 3], [0, 9000], 2) == 2 * 2 * (10 * 2 + 100 * 4)


def test_a_batch_reads_more_experts_and_no_more_than_there_are():
    layer = LayerShape(
        matrices=100, router=8, vectors=7, biases=3, expert=50, num_experts=8, experts_per_token=2
    )
    assert layer_weights_read(layer, 1) == pytest.approx(115 + 2 * 50)
    assert layer_weights_read(layer, 2) == pytest.approx(115 + 8 * (1 - 0.75**2) * 50)
    assert layer_weights_read(layer, 1000) == pytest.approx(115 + 8 * 50)


def test_the_compute_bound_batch_of_experts_is_the_first():
    shape, ceilings = ModelShape.from_hf(FAMILIES["mixtral"]()), Ceilings(bandwidth=1e9, flops=5e9)
    batch = compute_bound_batch(shape, 4, ceilings)
    at, before = (decode_cost(shape, 4, n) for n in (batch, batch - 1))
    assert at.intensity >= ceilings.ridge > before.intensity
    assert compute_bound_batch(shape, 4000, Ceilings(1e9, 1e15)) is None
