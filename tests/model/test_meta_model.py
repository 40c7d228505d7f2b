"""Configs that cannot be sized are refused in one sentence, with the model type and the field; damaged ones never surprise."""

import json
import random

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, LlamaConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from helpers.estimates import kv_cache_bytes
from helpers.model import ModelShape, UnreadableConfig, config_from_dict, config_from_file
from tests.families import FAMILIES, SIZES, family


def test_a_file_or_its_folder_gives_the_config(tmp_path):
    FAMILIES["deepseek-v3"]().save_pretrained(tmp_path)
    from_folder = ModelShape.from_file(tmp_path)
    assert from_folder.layers == ModelShape.from_file(tmp_path / "config.json").layers
    assert from_folder.layers == ModelShape.from_hf(FAMILIES["deepseek-v3"]()).layers


def test_code_beside_a_config_is_not_run(tmp_path):
    mark = tmp_path / "ran"
    fields = {
        **FAMILIES["llama"]().to_dict(),
        "auto_map": {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "m.M"},
    }
    (tmp_path / "config.json").write_text(json.dumps(fields))
    (tmp_path / "configuration_x.py").write_text(f"open({str(mark)!r}, 'w')")
    assert ModelShape.from_file(tmp_path).num_layers == 4
    (tmp_path / "config.json").write_text(json.dumps({**fields, "model_type": "its_own"}))
    with pytest.raises(UnreadableConfig, match=r"model type 'its_own' \(field model_type\) is not known"):
        config_from_file(tmp_path)
    assert not mark.exists()


def test_a_type_published_with_code_of_its_own_is_read_as_its_twin():
    fields = FAMILIES["deepseek-v3"]().to_dict()
    kimi = ModelShape.from_hf(config_from_dict({**fields, "model_type": "kimi_k2"}))
    assert kimi.layers == ModelShape.from_hf(FAMILIES["deepseek-v3"]()).layers


@pytest.mark.parametrize("name", ["mixtral", "kimi-k2.5"])
def test_a_config_may_name_any_implementation_of_experts(name):
    config = FAMILIES[name]()
    config._experts_implementation = "eager"
    assert ModelShape.from_hf(config).layers == ModelShape.from_hf(FAMILIES[name]()).layers
    assert config._experts_implementation == "eager", "the config is left as it was"


def shared_weights():
    """Return a config whose layers 1 and 3 are one block of attention and MLP with adapters of their own."""
    kinds = ["mamba", "hybrid"] * 2
    return family(
        "zamba2",
        layers_block_type=kinds,
        num_mem_blocks=1,
        n_mamba_heads=8,
        mamba_headdim=16,
        mamba_ngroups=1,
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (lambda: AutoConfig.for_model("t5"), r"'t5' has an encoder \(is_encoder_decoder\)"),
        (lambda: LlamaConfig(num_hidden_layers=10**9), "'llama': the field num_hidden_layers must be a whole number from 1"),
        (lambda: LlamaConfig(**{**SIZES, "num_key_value_heads": -2}), "'llama': the field num_key_value_heads"),
        (lambda: LlamaConfig(**{**SIZES, "vocab_size": 0}), "'llama': the field vocab_size"),
        (lambda: family("mixtral", num_local_experts=4, num_experts_per_tok=9), "field num_experts_per_tok"),
        (lambda: family("mistral", sliding_window=1), "'mistral': the field sliding_window must be 2 or more, got 1"),
        (lambda: AutoConfig.for_model("deepseek_v4"), "'deepseek_v4': a cache layer of kind DeepseekV4"),
        (shared_weights, "'zamba2': layers 1 and 3 share weights, which is not sized here"),
        (lambda: {"model_type": "llama"}, "is no transformers config: the field model_type is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_sized_is_refused_with_type_and_field(config, words):
    with pytest.raises(UnreadableConfig, match=words) as refusal:
        ModelShape.from_hf(config())
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("text", ["", "[]", "{", '{"hidden_size": 3}', '{"model_type": 7}', "\x00"])
def test_a_file_that_is_no_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnreadableConfig, match=r"^config\.json "):
        ModelShape.from_file(tmp_path)


WRONG = [None, -1, 0, 3, 7.5, float("nan"), "many", [], {}, True, 10**12]


def damaged(rng):
    """The fields of a family's config, one to three of them missing or of another kind; of a part of it, too."""
    fields = FAMILIES[rng.choice(sorted(FAMILIES))]().to_dict()
    part = rng.choice([value for value in fields.values() if isinstance(value, dict) and value] or [fields])
    for _ in range(rng.randint(1, 3)):
        at = rng.choice([fields, fields, part])
        name = rng.choice(sorted(at.keys() - {"model_type"}) or ["model_type"])
        if rng.random() < 0.3:
            at.pop(name)
        else:
            at[name] = rng.choice(WRONG)
    return fields


def sized(fields):
    """The config with its shape, or the refusal; any other error ends the test."""
    try:
        config = config_from_dict(fields)
        return config, ModelShape.from_hf(config)
    except UnreadableConfig as error:
        return str(error)


def kept(config, tokens):
    """Elements of the keys and values that `transformers` keeps on the meta device, of its text part."""
    text = config.get_text_config()
    reader = AutoModelForCausalLM if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModel
    with torch.device("meta"), torch.no_grad():
        model = reader.from_config(text, attn_implementation="eager", dtype=torch.bfloat16).eval()
        layers = model(
            input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=True
        ).past_key_values.layers
    found = [getattr(layer, kind, None) for layer in layers for kind in ("keys", "values", "indexer_keys")]
    return sum(tensor.numel() for tensor in found if tensor is not None)


@pytest.mark.parametrize("seed", range(5))
def test_damaged_configs_are_sized_or_refused(seed):
    rng = random.Random(seed)
    found = [sized(damaged(rng)) for _ in range(50)]
    refusals = [answer for answer in found if isinstance(answer, str)]
    assert 10 < len(refusals) < 50
    assert [
        words for words in refusals if len(words) >= 200 or "\n" in words or "model type" not in words
    ] == []
    shapes = [answer for answer in found if not isinstance(answer, str)]
    assert all(shape.num_params > 0 and len(shape.layers) == shape.num_layers for _, shape in shapes)
    for config, shape in shapes[:8]:
        assert kv_cache_bytes(shape, 1, 3, "fp32") == 4 * kept(config, 3)
