"""What one device holds, against a model's published number of weights and against counts by hand."""

from dataclasses import replace

import pytest

from helpers.estimates import held_cache, held_weights, is_tied
from helpers.model import PUBLISHED, LayerShape

SMOL, LLAMA = PUBLISHED["SmolLM2-135M"], PUBLISHED["Llama-3-8B"]
TABLE = 49152 * 576
MATRICES = 576 * 64 * 2 * (9 + 3) + 3 * 576 * 1536


def test_one_device_holds_the_whole_model():
    for shape in PUBLISHED.values():
        if (
            "GPT" not in shape.name and "Qwen2.5" not in shape.name
        ):  # whose rows leave biases or positions out
            assert held_weights(shape, [shape.num_layers]) == [shape.num_params], shape.name
    assert [is_tied(PUBLISHED[name]) for name in ("SmolLM2-135M", "Qwen3-0.6B", "Llama-3-8B", "Qwen2.5-7B")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_matrices_are_cut_and_norms_are_not():
    assert held_weights(SMOL, [30], 3) == [30 * (MATRICES // 3 + 2 * 576) + 576 + TABLE // 3]
    assert held_weights(SMOL, [30], 7)[0] == 30 * (-(-MATRICES // 7) + 2 * 576) + 576 + 7022 * 576


def test_the_last_stage_of_a_tied_model_has_the_table_again():
    first, last = held_weights(SMOL, [19, 11])
    assert first == 19 * (MATRICES + 2 * 576) + TABLE
    assert last == 11 * (MATRICES + 2 * 576) + 576 + TABLE
    assert first + last == SMOL.num_params + TABLE
    assert sum(held_weights(LLAMA, [8] * 4)) == LLAMA.num_params


def test_experts_are_cut_and_the_router_is_not():
    layer = LayerShape(
        kv_heads=1, key_dim=4, value_dim=4, matrices=80, router=5, vectors=3, expert=20, num_experts=4
    )
    shape = replace(
        SMOL, num_layers=2, layers=(layer, layer), vocab_size=10, hidden_size=6, num_params=2 * 168 + 66
    )
    assert held_weights(shape, [2]) == [shape.num_params]
    assert held_weights(shape, [2], 2) == [2 * (80 + 5 + 3) + 30 + 6]


def test_a_kv_head_is_kept_several_times_where_devices_exceed_heads():
    assert held_cache(LLAMA, [20, 12], 4) == [20 * 2 * 256, 12 * 2 * 256]
    assert held_cache(PUBLISHED["Qwen2.5-7B"], [28], 8) == [28 * 256]
    assert sum(held_cache(LLAMA, [20, 12])) == LLAMA.kv_elements_per_token


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="1 device or more, got 0"):
        held_weights(SMOL, [30], 0)
    for layers in ([], [10, 10], [31, -1]):
        with pytest.raises(ValueError, match="share 30 layers"):
            held_cache(SMOL, layers)
    other = (LayerShape(matrices=1), LayerShape(matrices=2))
    with pytest.raises(ValueError, match="layers of SmolLM2-135M differ"):
        held_weights(replace(SMOL, num_layers=2, layers=other), [2])
