"""A config's model on the meta device: every tensor has its shape and none has memory."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from helpers.model.sizing.refusal import UnreadableConfig, brief, refusing

MOST_LAYERS, MOST_EXPERTS, LARGEST = 1000, 2**14, 10**8
"""Bounds on what a config may ask for: a damaged file must not keep the reader waiting."""
SAME_AS = {"kimi_k2": "deepseek_v3", "kimi_k25_text": "deepseek_v3", "mimo_v2": "mimo_v2_flash"}
"""Model types that are published with code of their own, and the type of `transformers` that has their
fields.
"""
_QUANTISED_BY = {"hf_quant_config.json": "modelopt", "quant_model_description.json": "modelslim"}
"""Files that say how a checkpoint is quantised where config.json says nothing, and the tool that writes each."""
_ATTENTION = ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size")
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer")
_ZERO_IS_NONE = (
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "n_shared_experts",
    "num_experts_per_tok",
)


class MetaModel(NamedTuple):
    """The two models of a config: all weights, and the part that reads text and fills the cache."""

    whole: Any
    text: Any


def config_from_file(path: Path | str) -> Any:
    """Return the `transformers` config of a `config.json` or of the folder that holds the file.

    Where another file of the folder alone says how the weights are quantised, the config says so, too. No code
    of the folder runs. Raises UnreadableConfig for a file that is no config, or names a model type that
    `transformers` does not know.
    """
    path = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    if not path.exists():
        raise UnreadableConfig(f"{path.parent} holds no {path.name}")
    fields = _read(path)
    if not isinstance(fields.get("model_type"), str):
        raise UnreadableConfig(f"{path.name} is no model's config: the field model_type is missing")
    for file, method in _QUANTISED_BY.items():
        if (path.parent / file).is_file():
            stated = {"quant_method": method, "description": _read(path.parent / file)}
            fields = {"quantization_config": stated, **fields}
    return config_from_dict(fields)


def _read(path: Path) -> dict[str, Any]:
    """Return the table in a file of JSON. Raises UnreadableConfig for any other content."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableConfig(f"{path.name} cannot be read as JSON: {brief(error)}") from error
    if not isinstance(fields, dict):
        raise UnreadableConfig(f"{path.name} is JSON, but no table of fields")
    return fields


def config_from_dict(fields: dict[str, Any]) -> Any:
    """Return the `transformers` config with the fields of a `config.json`.

    Errors as in `config_from_file`.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = fields["model_type"]
    known = SAME_AS.get(kind, kind)
    if known not in CONFIG_MAPPING:
        raise UnreadableConfig(f"model type {kind!r} (field model_type) is not known to transformers")
    text = fields.get("text_config")
    _check_sizes(kind, fields.get)
    _check_sizes(kind, text.get if isinstance(text, dict) else {}.get)
    rest = {name: value for name, value in fields.items() if name not in ("model_type", "auto_map")}
    with refusing(kind, "the config"):
        config = AutoConfig.for_model(known, **rest)
    _check_taken(kind, fields, config)
    if isinstance(text, dict) and "tie_word_embeddings" not in fields:
        _tie_as_the_text_part(config)
    return config


def _check_taken(kind: str, fields: dict[str, Any], config: Any) -> None:
    """Raise UnreadableConfig, naming the field, for a size that the text part of the config does not have.

    Code of its own reads a flat file of LLaVA, where `transformers` looks for text_config, finds none, and takes
    the sizes of a default.
    """
    text = text_fields(config)
    if "text_config" in fields or text.model_type == config.model_type:
        return
    for name in (*_ATTENTION, *_LAYERS):
        asked, found = fields.get(name), getattr(text, name, None)
        if asked is not None and found is not None and asked != found:
            raise UnreadableConfig(
                f"model type {kind!r}: the field {name} is {asked} beside no field text_config, where transformers "
                f"looks for it and would take {found}"
            )


def _tie_as_the_text_part(config: Any) -> None:
    """Tie the output matrix as the text part does, in a file that says nothing of it for the whole model.

    Such files are from transformers 4, where the text part decided; the default of the whole model is a later one.
    """
    tied = getattr(config.get_text_config(), "tie_word_embeddings", None)
    if tied is not None:
        config.tie_word_embeddings = tied


def on_meta(config: Any) -> MetaModel:
    """Return the models that a config describes, in bf16 on the meta device; the config is left as it was."""
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoModelForMultimodalLM,
    )
    from transformers.models.auto import modeling_auto as auto

    kind = checked(config)
    config = copy.deepcopy(config)
    text = config.get_text_config()
    for part in (config, text):
        vars(part).pop("quantization_config", None)  # sizes are those of the weights before they are packed
    # A config may name an implementation of experts that asks for values, and here are none: the default does not.
    options: dict[str, Any] = dict(
        dtype=torch.bfloat16,
        attn_implementation="eager",
        experts_implementation=None,
        trust_remote_code=False,
    )
    causal, seeing = auto.MODEL_FOR_CAUSAL_LM_MAPPING, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    with refusing(kind, "the model", text), torch.device("meta"):
        reader: Any = AutoModelForCausalLM if type(text) in causal else AutoModel
        part = reader.from_config(copy.deepcopy(text), **options)
        if text is config:
            return MetaModel(part.eval(), part.eval())
        hears = type(config) in auto.MODEL_FOR_MULTIMODAL_LM_MAPPING
        hearing = AutoModelForMultimodalLM if hears else AutoModelForCausalLM
        entire: Any = AutoModelForImageTextToText if type(config) in seeing else hearing
        return MetaModel(entire.from_config(config, **options).eval(), part.eval())


def text_fields(config: Any) -> Any:
    """Return a copy of a config's text part, to read sizes from: where layers differ in a size, the common
    one.
    """
    text = copy.deepcopy(config.get_text_config())
    text.allow_global_per_layer_attribute_access = True
    return text


def checked(config: Any) -> str:
    """Return the model type; raise UnreadableConfig, naming the field, for a size that no model has."""
    kind = str(getattr(config, "model_type", "") or type(config).__name__)
    if not hasattr(config, "get_text_config"):
        raise UnreadableConfig(f"{kind!r} is no transformers config: the field model_type is missing")
    with refusing(kind, "the config"):
        text = text_fields(config)
    if getattr(config, "is_encoder_decoder", False) is True:
        raise UnreadableConfig(
            f"model type {kind!r} has an encoder (is_encoder_decoder), decoders alone are sized"
        )
    _check_sizes(kind, lambda name: getattr(text, name, None))
    return kind


def _check_sizes(kind: str, value_of: Callable[[str], Any]) -> None:
    """Raise UnreadableConfig, naming the field, for a size that is there and that no model has."""
    for name in (*_ATTENTION, *_LAYERS, *_ZERO_IS_NONE):
        value = value_of(name)
        if value is None or (name == "num_experts_per_tok" and isinstance(value, list)):
            continue
        least = 0 if name in _ZERO_IS_NONE else 1
        most = MOST_LAYERS if name in _LAYERS else MOST_EXPERTS if name in _ZERO_IS_NONE else LARGEST
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise UnreadableConfig(
                f"model type {kind!r}: the field {name} must be a whole number "
                f"from {least} to {most}, got {str(value)[:40]}"
            )
