"""A folder's tensors: what is missing or damaged is named exactly, and one file goes before an index."""

import json
import random

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from helpers.model import FlatBatch, build, config_from_dict, read_tensors, stored_bytes
from tests.tiny import reference

INDEX = "model.safetensors.index.json"


@pytest.fixture
def sharded(tmp_path):
    reference("llama").save_pretrained(tmp_path, max_shard_size="10KB")
    return tmp_path


def test_missing_files_are_named_and_no_others(sharded):
    files = sorted(path.name for path in sharded.glob("model-*"))
    for name in (files[1], files[3]):
        (sharded / name).unlink()
    with pytest.raises(
        ValueError, match=rf"lacks {files[1]}, {files[3]}, of the {len(files)} files"
    ) as refusal:
        read_tensors(sharded)
    assert not any(path.name in str(refusal.value) for path in sharded.glob("model-*"))


def test_a_tensor_that_the_index_promises_is_missed(sharded):
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"]["model.layers.9.mlp.up_proj.weight"] = next(iter(index["weight_map"].values()))
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"lacks the tensor 'model\.layers\.9\.mlp\.up_proj\.weight', which"):
        read_tensors(sharded)


def test_one_file_goes_before_an_index(sharded):
    save_file({"alone": torch.ones(1)}, sharded / "model.safetensors")
    assert list(read_tensors(sharded)) == ["alone"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"weight_map": {}}', "names no file"),
        ('{"weight_map": 3}', "names no file"),
        ('{"weight_map": {"a": "../b.safetensors"}}', "which is no file of that folder"),
        ('{"weight_map": {"a": 1}}', "no file of that"),
    ],
)
def test_a_damaged_index_is_named(sharded, text, words):
    (sharded / INDEX).write_text(text)
    with pytest.raises(ValueError, match=words):
        read_tensors(sharded)


@pytest.mark.parametrize("cut", [0, 5, 100, 2000])
def test_a_file_cut_short_is_named(tmp_path, cut):
    reference("llama").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        read_tensors(tmp_path)


def test_names_of_the_base_class_get_their_prefix(tmp_path):
    save_file(
        {"embed_tokens.weight": torch.ones(1), "norm.weight": torch.ones(1), "lm_head.weight": torch.ones(1)},
        tmp_path / "model.safetensors",
    )
    assert set(read_tensors(tmp_path)) == {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}


@pytest.mark.parametrize("size", ["1GB", "10KB"], ids=["one file", "sharded"])
def test_stored_bytes_are_those_of_the_tensors(tmp_path, size):
    reference("llama").to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size=size)
    assert stored_bytes(tmp_path) == sum(tensor.nbytes for tensor in read_tensors(tmp_path).values())
    next(iter(tmp_path.glob("*.safetensors"))).write_bytes(b"\xff\x00")
    with pytest.raises(ValueError, match="is damaged"):
        stored_bytes(tmp_path)


def damaged(rng, config, tensors):
    """A config and its tensors with one to three faults."""
    fields, tensors = dict(config), dict(tensors)
    for _ in range(rng.randint(1, 3)):
        name, field = rng.choice(sorted(tensors)), rng.choice(sorted(fields))
        fault = rng.randrange(5)
        if fault == 0:
            del tensors[name]
        elif fault == 1:
            tensors[name] = tensors[name][:-1]
        elif fault == 2:
            tensors[name] = tensors[name].to(rng.choice([torch.int8, torch.bool, torch.float8_e5m2]))
        elif fault == 3:
            tensors[f"{name[:-6]}bias"] = torch.ones(3)
        else:
            fields[field] = rng.choice([None, -1, 0, 7, 2.5, "many", [], {}, True, 10**12, float("nan")])
    return fields, tensors


def built(fields, tensors):
    """A model, or the refusal; any other error ends the test."""
    try:
        return build(config_from_dict(fields), tensors)
    except ValueError as error:
        return str(error)


def expected(fields, tensors, ids):
    """Logits of `transformers`' own model with the same tensors; None where a field that only it reads stops it."""
    try:
        right = AutoModelForCausalLM.from_config(config_from_dict(fields), attn_implementation="eager").eval()
        right.load_state_dict(tensors, strict=False)
        with torch.no_grad():
            return right(torch.tensor([ids])).logits[0].float()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None


def agreement(model, fields, tensors):
    """Whether a built model gives the logits of `transformers`; None where that gives none."""
    ids = [3, 1, 4, 1, 5, 9]
    right = expected(fields, tensors, ids)
    if right is None:
        return None
    return torch.allclose(model(FlatBatch.pack([ids]), logits="all"), right, atol=1e-3, equal_nan=True)


@pytest.mark.filterwarnings("ignore:the checkpoint has")
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "llama yarn rope"])
def test_damaged_checkpoints_are_built_right_or_refused(name):
    model, rng = reference(name), random.Random(name)
    config, tensors = model.config.to_dict(), model.state_dict()
    damages = [damaged(rng, config, tensors) for _ in range(80)]
    found = [built(*damage) for damage in damages]
    refusals = [answer for answer in found if isinstance(answer, str)]
    assert 30 < len(refusals) < 80
    assert [words for words in refusals if len(words) >= 200 or "\n" in words] == []
    pairs = zip(found, damages, strict=True)
    agreed = [agreement(answer, *damage) for answer, damage in pairs if not isinstance(answer, str)]
    assert False not in agreed
    assert agreed.count(True) > len(agreed) / 2
