"""Quantised parts: codes, bytes, logits and tokens are those of one process with the same quantised model."""

import time

import pytest
import torch

from helpers.compression import INT4, INT8, Recipe, quantise
from helpers.estimates import NumberFormat
from helpers.model import DecoderConfig, FlatBatch, config_from_file
from helpers.parallel import Collectives, Grid, load_shard, load_stage, plan_shards, quantise_shard
from tests.parallel import toys
from tests.parallel.low_bit import quantised_toys as quantised

CASES = [(*case, recipe) for case in quantised.CASES.items() for recipe in quantised.RECIPES]


@pytest.fixture(scope="module")
def answers(folders, ranks_of):
    """What all ranks answered, by model and number of ranks."""
    return {
        (name, world): ranks_of(world).run(quantised.on_ranks, folders[name], quantised.RECIPES)
        for name, world in quantised.CASES.items()
    }


@pytest.fixture(scope="module")
def alone(folders):
    """For each model and recipe: the quantised model of one process, its logits, and what its engines serve."""
    found = {}
    for name in quantised.CASES:
        whole = toys.whole(folders[name])
        for recipe_name, recipe in quantised.RECIPES.items():
            model = quantise(whole, recipe)
            logits = model(FlatBatch.pack([quantised.TEXT, quantised.TEXT[:5]]), logits="all")
            served = [toys.serve(model, job, time.perf_counter) for job in quantised.work(recipe_name)]
            found[name, recipe_name] = model, logits, served
    return found


def part(matrix, name, shard, cfg):
    """A rank's part of a whole matrix of numbers."""

    def rows(heads, first):
        return range((first + heads.start) * cfg.head_dim, (first + heads.stop) * cfg.head_dim)

    if name == "head":
        return matrix[shard.vocab.start : shard.vocab.stop]
    if name.endswith("down_proj"):
        return matrix[:, shard.columns.start : shard.columns.stop]
    if name.endswith("o_proj"):
        return matrix[:, list(rows(shard.heads, 0))]
    if name.endswith("gate_up_proj"):
        return matrix[[*shard.columns, *(cfg.intermediate_size + column for column in shard.columns)]]
    q, kv = cfg.num_heads, cfg.num_kv_heads
    return matrix[[*rows(shard.heads, 0), *rows(shard.kv_heads, q), *rows(shard.kv_heads, q + kv)]]


@pytest.mark.parametrize(("name", "world", "recipe"), CASES)
def test_a_rank_has_the_codes_and_scales_of_one_process(answers, alone, folders, name, world, recipe):
    cfg = DecoderConfig.from_hf(config_from_file(folders[name]))
    whole = quantised.matrices(alone[name, recipe][0])
    for rank, shard in enumerate(plan_shards(cfg, world)):
        found = answers[name, world][rank][recipe][0]
        assert found.keys() == whole.keys()
        for matrix, numbers in found.items():
            assert torch.equal(numbers, part(whole[matrix], matrix, shard, cfg)), matrix


@pytest.mark.parametrize(("name", "world", "recipe"), CASES)
def test_logits_are_those_of_one_process_and_equal_on_all_ranks(answers, alone, name, world, recipe):
    expected = alone[name, recipe][1]
    first = answers[name, world][0][recipe][2]
    assert (first - expected).abs().max() < 1e-3
    assert expected.abs().max() > 1
    assert all(torch.equal(rank[recipe][2], first) for rank in answers[name, world])


@pytest.mark.parametrize(("name", "world", "recipe"), [case for case in CASES if case[2] in quantised.SERVED])
def test_tokens_are_those_of_one_process_with_both_caches(answers, alone, name, world, recipe):
    served = [rank[recipe][5] for rank in answers[name, world]]
    for *here, one in zip(*served, alone[name, recipe][2], strict=True):
        assert len({str(rank.plans) for rank in here}) == 1
        assert all(rank.tokens == one.tokens for rank in here)


def test_the_jobs_preempt_and_the_two_caches_give_other_numbers(alone):
    served = [jobs for *_, jobs in alone.values() if jobs]
    assert sum(job.preempted for jobs in served for job in jobs) > 3
    assert any(fp32.tokens != int8.tokens for fp32, int8 in served)


@pytest.mark.parametrize(("name", "world", "recipe"), CASES)
def test_calls_and_bytes_are_those_of_the_formula(answers, name, world, recipe):
    tokens, layers, hidden = 13, toys.SIZES["num_hidden_layers"], toys.SIZES["hidden_size"]
    agreed = {"W8A8": 2 * layers * tokens}.get(recipe, 0)  # a scale for each token and sum
    for rank in answers[name, world]:
        _, _, _, calls, nbytes, _ = rank[recipe]
        assert calls["all_reduce"] == 2 * layers + 1
        assert nbytes["all_reduce"] == (2 * layers + 1) * tokens * hidden * 4
        assert (calls.get("all_max", 0), nbytes.get("all_max", 0)) == (agreed and 2 * layers, 4 * agreed)


def test_packed_bytes_are_shared_out(answers, folders):
    cfg = DecoderConfig.from_hf(config_from_file(folders["llama"]))
    recipe, hidden = quantised.RECIPES["int4"], cfg.hidden_size
    for rank, shard in zip(answers["llama", 2], plan_shards(cfg, 2), strict=True):
        width, kv = len(shard.heads) * cfg.head_dim, len(shard.kv_heads) * cfg.head_dim
        shapes = [
            (width + 2 * kv, hidden),
            (hidden, width),
            (2 * len(shard.columns), hidden),
            (hidden, len(shard.columns)),
        ]
        layers = cfg.num_layers * (sum(recipe.weights.nbytes(*shape) for shape in shapes) + 2 * 4 * hidden)
        assert rank["int4"][1] == layers + recipe.head.nbytes(len(shard.vocab), hidden) + 4 * hidden


@pytest.mark.parametrize("world", [2, 3])
def test_a_cache_of_8_bits_has_a_ranks_heads(folders, ranks_of, world):
    cfg = DecoderConfig.from_hf(config_from_file(folders["llama"]))
    for shard, found in zip(
        plan_shards(cfg, world), ranks_of(world).run(quantised.cache_bytes, folders["llama"]), strict=True
    ):
        tokens = 2 * cfg.num_layers * 16 * 4 * len(shard.kv_heads)
        assert found == [tokens * 4 * cfg.head_dim, tokens * (cfg.head_dim + 2)]


def test_a_group_that_a_cut_would_break_is_refused_on_all_ranks(folders, ranks_of):
    message = "rank 1 of 2 begins at column 24 of o_proj, within a group of 32 weights"
    assert ranks_of(2).run(quantised.error_of, folders["llama"], Recipe(INT4)) == [message] * 2
    message = "rank 1 of 2 begins at column 16 of down_proj, within a group of 12 weights"
    recipe = Recipe(NumberFormat(4, 12))
    assert ranks_of(2).run(quantised.error_of, folders["llama"], recipe) == [message] * 2
    assert quantised.error_of(folders["llama"], Recipe(INT4)) == ""  # one rank cuts nothing


def test_other_refusals_are_those_of_quantise(folders):
    model = load_shard(folders["llama"], Collectives())
    with pytest.raises(ValueError, match="layers 0 to 2, the recipe names 3"):
        quantise_shard(model, Recipe(INT8, layers=[3]))
    with pytest.raises(ValueError, match="int8 activations need"):
        quantise_shard(model, Recipe(NumberFormat(8, 4), activations="token"))


@pytest.mark.parametrize("name", toys.CONFIGS)
@pytest.mark.parametrize("recipe", quantised.RECIPES)
def test_quantised_stages_in_a_row_are_the_quantised_model(folders, name, recipe):
    batch, hidden = FlatBatch.pack([[5, 96, 2, 0], [8]]), None
    expected = quantise(toys.whole(folders[name]), quantised.RECIPES[recipe])(batch)
    for stage in range(3):
        model = load_stage(Grid(3, stage, Collectives()), folders[name])
        part = quantise_shard(model, quantised.RECIPES[recipe])
        hidden = part.run(batch, toys.PagedKVCache.for_model(part, 4), hidden)
        assert (part.lm_head is None) or stage == 2
    assert torch.allclose(hidden, expected, atol=1e-3)


def test_the_part_in_floats_stays_as_it_is(folders):
    model = load_shard(folders["biases"], Collectives())
    batch = FlatBatch.pack([quantised.TEXT])
    before = model(batch)
    quantise_shard(model, quantised.RECIPES["W8A8"])
    assert torch.equal(model(batch), before)


def test_16_bits_are_computed_in_where_a_recipe_says_so(folders):
    recipe = Recipe(NumberFormat(4, 4), layers=[1], computes_in=torch.bfloat16)
    model = quantise_shard(load_shard(folders["biases"], Collectives()), recipe)
    expected = quantise(toys.whole(folders["biases"]), recipe)(FlatBatch.pack([quantised.TEXT]))
    assert model.dtype == torch.bfloat16
    assert torch.allclose(model(FlatBatch.pack([quantised.TEXT])), expected, atol=0.1, rtol=0.05)
