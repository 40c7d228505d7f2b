"""Every decoder that the installed `transformers` knows is sized exactly, or refused in a sentence of the course.

All types take two minutes; without `COURSE_EVERY_TYPE=1` the test takes a fifth of them, and those of `ALWAYS`.
"""

import os
import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)

from helpers.estimates import kv_cache_bytes, step_cost
from helpers.model import ModelShape, UnreadableConfig

LAYERS = {"bailing_hybrid": 6, "kimi_linear": 5}
"""Layers of each model, otherwise 4; other sizes are the type's own defaults, which cost nothing on the meta device."""
SHARING = {"num_hidden_layers": 4, "num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2,
           "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0]}  # fmt: skip
FIELDS = {
    "bamba": {"attn_layer_indices": [1]},
    "gemma3n_text": SHARING,
    "hunyuan_v1_dense": {"head_dim": 128}, "hunyuan_v1_moe": {"head_dim": 128}, "ministral": {"head_dim": 128},
    "jamba": {"attn_layer_period": 4, "attn_layer_offset": 1},
    "nemotron": {"num_key_value_heads": 8},
}  # fmt: skip
"""Fields without which a type's default config cannot be built, or has no attention in its first layers."""
DENSE = {"llama4", "llama4_text"}
"""Types whose code lets every expert compute every token, and then multiplies by zero."""
WITHOUT_CONFIG = {"gemma3n", "gemma4_assistant"}
"""Types that have no default config, or whose pictures another package reads."""
REFUSED = {
    r"has an encoder \(is_encoder_decoder\)":
        "bart bigbird_pegasus blenderbot blenderbot-small marian mbart mvp pegasus plbart prophetnet whisper",
    r"is not supported: a pass gives back no cache \(past_key_values\)":
        "bert bert-generation camembert data2vec-text electra ernie openai-gpt recurrent_gemma roberta roberta-prelayernorm "
        "roc_bert rwkv xlm-roberta xlm-roberta-xl",
    "is not supported: its code reads the values of tensors":
        "big_bird jetmoe longcat_flash megatron-bert moshi rembert roformer xlm",
    "is not supported: no layer has attention that keeps keys and values": "granitemoehybrid zamba2",
    r"is not supported: it has no attention heads \(field num_attention_heads\)": "falcon_mamba mamba mamba2",
    r"is not supported: transformers has no model of its text part alone \(field text_config\)": "emu3 mllama",
    r"is not supported: it has several text parts \(field text_config\)": "musicgen musicgen_melody",
    r"is not supported: it is no decoder \(field is_decoder\)": "reformer",
    "a cache of kind MiniMaxCache is not sized here": "minimax",
    "a cache layer of kind DeepseekV4": "deepseek_v4",
    "a token leaves no key, or several, in a layer of the cache": "cpmant",
    "attention in layer 0 computes more for each cached token than scores": "doge",
    "layer 0 holds matrices that compute no token": "trocr",
    "the field num_experts_per_tok must be from 1 to the 64 experts, got None": "deepseek_v2",
    "the cache cannot be built, because the field num_hidden_layers is missing": "blt",
    "the model cannot be built, because the field rope_theta is missing": "dbrx",
    "the model cannot be built, because the field layer_types is missing": "lfm2_moe",
    "because transformers does not accept its fields as given":
        "cohere_compass_text dots1 gemma4_unified_assistant hrm_text qwen4_exp qwen4_exp_text xlnet xlstm xmod zamba",
}  # fmt: skip
"""What each sentence of the course refuses of the types' default configs."""
ALWAYS = {
    "bamba", "deepseek_v3", "diffllama", "doge", "falcon_h1", "gemma3n_text", "gemma4_text", "git", "gpt2", "gpt_oss", "hy_v4",
    "inkling2_text", "inkling_text", "jetmoe", "llama", "llama4_text", "longcat_flash", "modernbert-decoder", "opt",
    "qwen3_next", "recurrent_gemma", "trocr", "zaya",
}  # fmt: skip
TYPES = sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} - WITHOUT_CONFIG)
SAMPLE = sorted({*TYPES[::5], *ALWAYS})


@pytest.fixture(autouse=True)
def _without_values():
    """Gemma 3n makes a distribution, whose own check asks for values."""
    torch.distributions.Distribution.set_default_validate_args(False)
    yield
    torch.distributions.Distribution.set_default_validate_args(True)


def config_of(name):
    """Return a type's default config with few layers: each list that says something of every layer is cut, too."""
    config, layers = AutoConfig.for_model(name, **FIELDS.get(name, {})), LAYERS.get(name, 4)
    text = config if name.startswith("musicgen") else config.get_text_config()
    for field in ("num_hidden_layers", "num_layers", "n_layer", "n_layers"):
        count = vars(text).get(field)
        if isinstance(count, int) and count > layers:
            for own, value in list(vars(text).items()):
                if isinstance(value, list | tuple) and len(value) == count:
                    setattr(text, own, value[:layers])
            setattr(text, field, layers)
    return config


def passed(config):
    """Return what `transformers` keeps of five tokens, in elements, and what it multiplies for the first and the sixth."""
    text = config.get_text_config()
    reader = AutoModelForCausalLM if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModel
    options = dict(attn_implementation="eager", dtype=torch.bfloat16, experts_implementation="batched_mm")
    with torch.device("meta"), torch.no_grad():
        model = reader.from_config(text, **options).eval()
        with FlopCounterMode(display=False) as first:
            cache = model(input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=True).past_key_values
        model(input_ids=torch.zeros(1, 4, dtype=torch.long), past_key_values=cache, use_cache=True)
        tensors = [
            getattr(x, kind, None) for x in cache.layers for kind in ("keys", "values", "indexer_keys")
        ]
        kept = sum(tensor.numel() for tensor in tensors if tensor is not None)
        with FlopCounterMode(display=False) as sixth:
            model(input_ids=torch.zeros(1, 1, dtype=torch.long), past_key_values=cache, use_cache=True)
    return kept, first.get_flop_counts(), sixth.get_flop_counts()


def total(counts, *ops):
    """Return the operations of some operators, in a whole model."""
    return sum(flops for op, flops in counts["Global"].items() if str(op).removeprefix("aten.") in ops)


def of_experts(counts):
    """Return the operations of the experts that are chosen."""
    names = [name for name in counts if re.search(r"(?<!shared)\.experts$", name)]
    return sum(sum(counts[name].values()) for name in names)


def check_sizes(name, shape, kept, first, sixth):
    """Hold a shape to what `transformers` kept and multiplied."""
    assert kv_cache_bytes(shape, 1, 5, "bf16") == 2 * kept
    experts = sum(2 * layer.experts_per_token * layer.expert for layer in shape.layers)
    head = shape.vocab_size * shape.hidden_size
    if any(layer.latent for layer in shape.layers):  # transformers unpacks the history's latents again
        rest = sum(layer.matrices + layer.router + layer.more_products for layer in shape.layers)
        outside = shape.ends.matrices + shape.ends.more_products + head
        assert 2 * (rest + outside) == total(first, "mm", "addmm")
        return
    found, flops = total(sixth, "mm", "addmm", "bmm", "baddbmm"), step_cost(shape, [1], [5]).flops
    if name in DENSE:
        found, flops = found - of_experts(sixth), flops - experts
    states = sum(4 * layer.recurrent_state + 2 * layer.conv_state for layer in shape.layers)
    read = sum(2 * layer.recurrent_state for layer in shape.layers)
    assert found in (flops - states, flops - states + read), (
        "a state is read by a product, or number by number"
    )


@pytest.mark.parametrize("name", TYPES if os.environ.get("COURSE_EVERY_TYPE") == "1" else SAMPLE)
def test_a_type_is_sized_as_transformers_computes_or_refused(name):
    config = config_of(name)
    words = next((words for words, names in REFUSED.items() if name in names.split()), None)
    if words is not None:
        with pytest.raises(UnreadableConfig, match=words) as refusal:
            ModelShape.from_hf(config)
        assert f"model type {name!r}" in str(refusal.value)
        assert len(str(refusal.value)) < 200
        return
    check_sizes(name, ModelShape.from_hf(config), *passed(config))


def test_most_types_are_sized():
    refused = {name for names in REFUSED.values() for name in names.split()}
    assert refused <= {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    assert len({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} - refused) > 100
