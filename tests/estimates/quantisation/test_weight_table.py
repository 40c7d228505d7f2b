"""A model's weights one by one: all of them, stacked experts apart, towers and routers told from the decoder's layers."""

import pytest

from helpers.estimates import weight_table
from helpers.model import ModelShape
from tests.families import FAMILIES


@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_holds_every_weight_once(name):
    table = weight_table(FAMILIES[name]())
    assert sum(weight.elements for weight in table) == ModelShape.from_hf(FAMILIES[name]()).num_params


def test_stacked_experts_stand_apart_in_their_checkpoints_shapes():
    table = {weight.name: weight for weight in weight_table(FAMILIES["qwen3-moe"]())}
    up, down = (table[f"model.layers.2.mlp.experts.7.{part}_proj"] for part in ("up", "down"))
    assert (up.rows, up.columns, up.kind) == (16, 64, "expert")
    assert (down.rows, down.columns, down.kind) == (64, 16, "expert")
    assert table["model.layers.2.mlp.gate"].kind == "other", "a router is never quantised"


def test_experts_stored_the_other_way_round_are_turned():
    table = {weight.name: weight for weight in weight_table(FAMILIES["gpt-oss"]())}
    up, down = (table[f"model.layers.0.mlp.experts.3.{part}_proj"] for part in ("up", "down"))
    assert (up.rows, up.columns) == (48, 64)
    assert (down.rows, down.columns) == (64, 48)


def test_a_tower_is_not_in_the_decoder():
    table = weight_table(FAMILIES["qwen3-vl"]())
    assert {w.in_decoder for w in table if ".visual." in w.name} == {False}
    assert any(w.in_decoder and w.name.endswith("q_proj") for w in table)


def test_a_tied_head_is_no_weight_of_its_own():
    kinds = [weight.kind for weight in weight_table(FAMILIES["qwen3"]())]
    assert "head" not in kinds
    assert [weight.kind for weight in weight_table(FAMILIES["llama"]())].count("head") == 1
