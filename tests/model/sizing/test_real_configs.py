"""Published `config.json` files whose fields differ from a type's defaults: sized as their checkpoints are, or refused."""

import json

import pytest

from helpers.estimates import SizedModel, UnknownScheme
from helpers.model import ModelShape, UnreadableConfig, config_from_dict, config_from_file, count_params

TEXT = dict(vocab_size=96, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16)  # fmt: skip
PIXTRAL = dict(model_type="pixtral", hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
               image_size=28, patch_size=14)  # fmt: skip
MISTRAL3 = {
    "model_type": "mistral3",
    "text_config": {"model_type": "mistral", **TEXT},
    "vision_config": PIXTRAL,
}


def test_a_text_part_alone_decides_on_a_tied_output_matrix_where_the_file_says_nothing():
    """Mistral-Small-3.1's file has no tie_word_embeddings, and its checkpoint of 24.01 billion weights has lm_head."""
    silent, untied, tied = (
        count_params(config_from_dict({**MISTRAL3, **said}))
        for said in ({}, {"tie_word_embeddings": False}, {"tie_word_embeddings": True})
    )
    assert silent == untied == tied + 96 * 64
    text = {**MISTRAL3["text_config"], "tie_word_embeddings": True}
    assert count_params(config_from_dict({**MISTRAL3, "text_config": text})) == tied


def test_sizes_of_a_flat_file_are_not_replaced_by_a_default():
    """The first files of LLaVA 1.5 have the sizes of the text part beside those of the pictures."""
    flat = {"model_type": "llava", "hidden_size": 5120, "num_hidden_layers": 40, "mm_hidden_size": 1024}
    with pytest.raises(
        UnreadableConfig, match=r"'llava': the field hidden_size is 5120 .* text_config"
    ) as told:
        config_from_dict(flat)
    assert len(str(told.value)) < 200


def test_sizes_of_a_flat_file_that_transformers_moves_are_taken():
    """Qwen2-VL's files are flat, and `transformers` reads them so."""
    config = config_from_dict(
        {"model_type": "qwen2_vl", **TEXT, "vision_config": {"depth": 2, "embed_dim": 32}}
    )
    assert config.get_text_config().hidden_size == 64


def test_copies_of_a_shared_key_are_not_counted_as_heads():
    """Falcon-40B has 8 key heads; `transformers` caches one for each of 128 queries, and no engine does."""
    falcon = {
        "model_type": "falcon",
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "vocab_size": 96,
    }
    with pytest.raises(UnreadableConfig, match=r"'falcon': transformers caches 4 heads .* num_kv_heads is 2"):
        ModelShape.from_hf(config_from_dict({**falcon, "num_kv_heads": 2, "new_decoder_architecture": True}))
    layers = ModelShape.from_hf(config_from_dict({**falcon, "multi_query": True})).layers
    assert [layer.kv_heads for layer in layers] == [1, 1]


def test_a_model_that_hears_is_sized_with_its_encoder():
    """Voxtral: a Llama behind an encoder of sounds."""
    sounds = dict(model_type="voxtral_encoder", hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                  num_attention_heads=2, num_mel_bins=8, max_source_positions=8)  # fmt: skip
    fields = {"model_type": "voxtral", "audio_config": sounds, "text_config": {"model_type": "llama", **TEXT}}
    shape = ModelShape.from_hf(config_from_dict(fields))
    alone = ModelShape.from_hf(config_from_dict({"model_type": "llama", **TEXT}))
    assert shape.layers == alone.layers
    assert shape.num_params > alone.num_params


def test_a_checkpoint_that_another_file_calls_quantised_is_not_sized_in_16_bits(tmp_path):
    """Llama-3.1-70B-Instruct-FP8 of ModelOpt: config.json says nothing, hf_quant_config.json says FP8."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **TEXT}))
    assert SizedModel.of(config_from_file(tmp_path)).weights > 0
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}')
    assert ModelShape.from_file(tmp_path).num_layers == 2
    with pytest.raises(UnknownScheme, match="quantised as 'modelopt'"):
        SizedModel.of(config_from_file(tmp_path))


def test_a_text_part_that_is_quantised_alone_is_not_sized_in_16_bits():
    """Kimi-K2.5 has its quantization_config inside of text_config: 595 GB, and not 2,054."""
    fp8 = {
        "quant_method": "fp8"
    }  # packs every linear layer, those of a tower too where the whole model says so
    text = {**MISTRAL3["text_config"], "quantization_config": fp8}
    inside = SizedModel.of(config_from_dict({**MISTRAL3, "text_config": text}))
    plain = SizedModel.of(config_from_dict({**MISTRAL3, "dtype": "bfloat16"}))
    layers = SizedModel.of(config_from_dict({"model_type": "mistral", **TEXT, "dtype": "bfloat16"}))
    packed = SizedModel.of(config_from_dict({"model_type": "mistral", **TEXT, "quantization_config": fp8}))
    whole = SizedModel.of(config_from_dict({**MISTRAL3, "quantization_config": fp8}))
    assert plain.weights - inside.weights == layers.weights - packed.weights > 0
    assert whole.weights < inside.weights
