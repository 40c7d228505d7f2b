"""Loading: a rank reads its slices and nothing else; what cannot be loaded is refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.model import DecoderConfig, config_from_file
from helpers.parallel import Collectives, SlicedTensors, load_shard, plan_shards, read_parts
from tests.parallel import toys


@pytest.mark.parametrize("name", toys.CONFIGS)
@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_rank_reads_its_weights_once_and_no_others(tmp_path, name, world):
    folder = toys.save(name, tmp_path)
    cfg = DecoderConfig.from_hf(config_from_file(folder))
    hidden, d = cfg.hidden_size, cfg.head_dim
    for shard in plan_shards(cfg, world):
        tensors = SlicedTensors(folder)
        state = read_parts(cfg, shard, tensors)
        heads, kv, columns = len(shard.heads), len(shard.kv_heads), len(shard.columns)
        layer = 2 * hidden + hidden * d * (2 * heads + 2 * kv) + 3 * hidden * columns
        layer += cfg.qkv_bias * d * (heads + 2 * kv) + cfg.o_bias * hidden
        layer += cfg.mlp_bias * (2 * columns + hidden)
        rows = len(shard.vocab) * hidden * (1 if cfg.tied else 2)
        expected = 4 * (cfg.num_layers * layer + rows + hidden)
        assert sum(tensor.nbytes for tensor in state.values()) == expected == tensors.bytes_read


def test_one_rank_holds_the_whole_model(tmp_path):
    folder = toys.save("biases", tmp_path)
    mine, one = load_shard(folder, Collectives()), toys.whole(folder)
    assert sum(p.numel() for p in mine.parameters()) == sum(p.numel() for p in one.parameters())


def test_what_cannot_be_loaded_is_refused(tmp_path):
    folder = toys.save("llama", tmp_path)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    cases = {
        "no tensor 'model.norm.weight'": {k: v for k, v in tensors.items() if k != "model.norm.weight"},
        "does not use": tensors | {"model.layers.0.self_attn.q_proj.bias": torch.ones(36)},
        "stored as int8": tensors | {"model.norm.weight": torch.ones(36, dtype=torch.int8)},
    }
    for message, changed in cases.items():
        save_file(changed, file)
        with pytest.raises(ValueError, match=message):
            load_shard(folder, Collectives())
    file.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is damaged"):
        load_shard(folder, Collectives())
