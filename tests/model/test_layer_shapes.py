"""One layer's cache and experts by hand."""

import random

import pytest

from helpers.model import LayerShape

ATTENTION = LayerShape(kv_heads=2, key_dim=16, value_dim=8, matrices=100, vectors=7, biases=3)


def test_a_window_keeps_one_token_less_than_a_query_sees():
    windowed = LayerShape(kv_heads=2, key_dim=16, value_dim=16, window=8)
    assert [windowed.cached_tokens(n) for n in (0, 3, 7, 8, 200)] == [0, 3, 7, 7, 7]
    assert [ATTENTION.cached_tokens(n) for n in (0, 8, 200)] == [0, 8, 200]
    assert LayerShape(conv_state=4).cached_tokens(200) == 0


def test_keys_and_values_may_differ_in_width():
    assert ATTENTION.token_elements == 2 * (16 + 8)
    assert LayerShape(kv_heads=1, key_dim=512, value_dim=64, index_dim=128).token_elements == 704


def test_a_layer_that_shares_a_cache_keeps_nothing():
    shared = LayerShape(kv_heads=2, key_dim=16, value_dim=16, window=8, shared=True)
    assert (shared.token_elements, shared.cached_tokens(200)) == (0, 7)


def test_a_recurrent_state_keeps_its_own_width():
    layer = LayerShape(conv_state=10, recurrent_state=100)
    assert (layer.state_bytes(2), layer.state_bytes(4)) == (420, 440)


def test_experts_are_held_all_and_used_a_few():
    layer = LayerShape(
        matrices=100, router=8, vectors=7, biases=3, expert=50, num_experts=8, experts_per_token=2
    )
    assert layer.linear == 100 + 8 * 50
    assert layer.held == 100 + 8 + 7 + 3 + 8 * 50
    assert layer.active == 100 + 8 + 2 * 50


@pytest.mark.parametrize("tokens", [1, 3, 20])
def test_expected_distinct_experts_are_the_mean_of_many_draws(tokens):
    layer = LayerShape(num_experts=16, experts_per_token=2, expert=1)
    rng = random.Random(tokens)
    draws = [len({e for _ in range(tokens) for e in rng.sample(range(16), 2)}) for _ in range(4000)]
    assert layer.distinct_experts(tokens) == pytest.approx(sum(draws) / len(draws), rel=0.02)
    assert LayerShape().distinct_experts(tokens) == 0
