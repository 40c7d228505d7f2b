"""Shards: who holds what, and that nothing is missing."""

import pytest

from helpers.model import DecoderConfig
from helpers.parallel import plan_shards
from tests.parallel import toys

DEFAULT = DecoderConfig(49152, 576, 1536, 30, 9, 3, 64, 8192, 1e-5, True, False, False, False, False, (), 1.0)


def sizes(shards):
    return [(len(s.heads), len(s.kv_heads), len(s.columns), len(s.vocab)) for s in shards]


def test_the_default_model_on_two_and_three_ranks():
    assert sizes(plan_shards(DEFAULT, 1)) == [(9, 3, 1536, 49152)]
    assert sizes(plan_shards(DEFAULT, 2)) == [(6, 2, 640, 24576), (3, 1, 896, 24576)]
    assert sizes(plan_shards(DEFAULT, 3)) == [(3, 1, 512, 16384)] * 3


@pytest.mark.parametrize("name", toys.CONFIGS)
@pytest.mark.parametrize("world", [1, 2, 3, 4, 5, 6])
def test_every_head_column_and_row_is_held_once_and_kv_heads_follow_their_queries(name, world):
    cfg = DecoderConfig.from_hf(toys.CONFIGS[name])
    shards = plan_shards(cfg, world)
    group = cfg.num_heads // cfg.num_kv_heads
    for field, whole in (("heads", cfg.num_heads), ("columns", 48), ("vocab", 97)):
        assert [x for shard in shards for x in getattr(shard, field)] == list(range(whole))
    for shard in shards:
        assert list(shard.kv_heads) == sorted({head // group for head in shard.heads})
        assert len(shard.heads) % len(shard.kv_heads) == 0
        assert min(sizes([shard])[0]) > 0


def test_more_ranks_than_heads_are_refused():
    for world in (0, 10):
        with pytest.raises(ValueError, match="9 heads go to 1 to 9 ranks"):
            plan_shards(DEFAULT, world)
