"""What the chapter serves on two ranks: tokens of one process, and the traffic of the formula, to the byte."""

from dataclasses import replace

import pytest
import torch

from helpers.caches import PagedKVCache
from helpers.engine import ContinuousBatcher
from helpers.estimates import TensorTraffic
from helpers.model import PUBLISHED, FlatBatch
from helpers.parallel import plan_shards, tensor_engine
from tests.parallel import toys

TEXT = [5, 9, 2, 77, 96, 31, 0, 8]
SHAPE = replace(PUBLISHED["SmolLM2-135M"], num_layers=3, hidden_size=36, vocab_size=97)


@pytest.fixture(scope="module")
def model(folders):
    return toys.whole(folders["llama"])


def test_tokens_are_those_of_one_process(folders, ranks_of, model):
    engine = ContinuousBatcher(model, PagedKVCache.for_model(model, 256))
    for request in toys.requests():
        engine.add_request(request)
    alone = {name: state.token_ids for name, state in engine.run().items()}
    for served in ranks_of(2).run(tensor_engine.serve, toys.requests(), folders["llama"]):
        assert served.tokens == alone
        assert len(served.loads) == len(served.seconds) > 3
        assert all(seconds > 0 for seconds in served.seconds)


def test_calls_and_bytes_are_the_formula(folders, ranks_of):
    for served in ranks_of(2).run(tensor_engine.serve, toys.requests(), folders["llama"]):
        said = [TensorTraffic.of(SHAPE, 2, *load, element_bytes=4) for load in served.loads]
        assert served.calls["all_reduce"] == sum(one.sums for one in said) == 7 * len(said)
        assert served.calls["all_gather"] == len(said)
        assert served.nbytes["all_reduce"] == sum(one.sums * one.sum_bytes for one in said)
        assert served.nbytes["all_gather"] == sum(one.gather_bytes for one in said)


def test_weights_are_those_of_the_parts(folders, ranks_of, model):
    cfg, found = model.cfg, ranks_of(2).run(tensor_engine.weight_bytes, folders["llama"])
    for part, nbytes in zip(plan_shards(cfg, 2), found, strict=True):
        attention = 2 * 36 * 4 * (len(part.heads) + len(part.kv_heads))
        layer = attention + 3 * 36 * len(part.columns) + 2 * 36
        assert nbytes == 4 * (3 * layer + 36 + len(part.vocab) * 36)


def test_logits_are_equal_on_both_ranks_and_those_of_one_process(folders, ranks_of, model):
    first, second = ranks_of(2).run(tensor_engine.all_logits, TEXT, folders["llama"])
    assert torch.equal(first, second)
    assert (first - model(FlatBatch.pack([TEXT]), logits="all")).abs().max() < 1e-3


def test_ranks_with_seeds_of_their_own_drift_apart(folders, ranks_of):
    drawn = [replace(request, temperature=1.0) for request in toys.requests()]
    own = ranks_of(2).run(tensor_engine.serve_apart, drawn, folders["llama"])
    assert own[0].tokens != own[1].tokens
    same = ranks_of(2).run(tensor_engine.serve, drawn, folders["llama"])
    assert same[0].tokens == same[1].tokens
