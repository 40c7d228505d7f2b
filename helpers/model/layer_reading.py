"""The layers of any config, read off `transformers`' own model and its own cache after one token on the meta
device.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import Any

from torch import nn

from helpers.model.layer_shapes import LayerShape
from helpers.model.sizing.products import with_products
from helpers.model.sizing.refusal import UnreadableConfig
from helpers.model.sizing.token_passes import TokenPasses

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
_TOP_K = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_top_k", "moe_topk", "moe_k",
)  # fmt: skip
_ROUTERS = ("gate", "router", "shared_expert_gate", "wg")
_OUTPUTS = ("o_proj", "out_proj", "dense", "c_proj", "wo")
_DIFFERENTIAL = "lambda_q1"
"""A weight of differential attention, which computes attention for each half of the values."""


def read_layers(text: Any, config: Any, passes: TokenPasses) -> tuple[LayerShape, ...]:
    """Return a model's layers in order: what each caches after one token, what each holds, and what each multiplies.

    Raises UnreadableConfig, naming the model type, for a cache of a kind that `LayerShape` does not describe,
    for layers that share weights, and for products that the layer's sizes do not explain.
    """
    _refuse_shared_weights(text, config)
    weights = _weights_by_layer(text, config, passes)
    caches = dict(enumerate(_cache_of(layer, config) for layer in passes.kept))
    for i, source in _sources(text).items():
        caches[i] = {**caches.get(source, {}), "shared": True}
    heads = getattr(config, "num_attention_heads", 0) or 0
    layers = []
    for i in range(1 + max((*caches, *weights), default=-1)):
        found = {**caches.get(i, {}), **weights.get(i, {})}
        output = found.pop("output", 0)
        if found.get("kv_heads"):
            own = 0 if found.get("latent") else output // found["value_dim"]
            found["num_heads"] = own or heads
        layers.append(with_products(LayerShape(**found), i, passes, config.model_type))
    return tuple(layers)


def check_experts(text: Any, config: Any) -> None:
    """Raise UnreadableConfig, naming the field, for a number of chosen experts that the layers do not have."""
    experts: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for name, module in text.named_modules():
        place = _LAYER.search(f"{name}.")
        if place is not None and "experts." in f"{name}." and "shared" not in name:
            for _, parameter in module.named_parameters(recurse=False):
                _add_expert(experts[int(place[1])], name, parameter)
    for i, sizes in experts.items():
        _experts(sizes, i, config)


def _sources(text: Any) -> dict[int, int]:
    """Return, for each layer that reads another layer's cache, that layer: the last one before of its kind."""
    last: dict[str, int] = {}
    found: dict[int, int] = {}
    for name, module in text.named_modules():
        place, shared = _LAYER.search(f"{name}."), getattr(module, "is_kv_shared_layer", None)
        if place is None or shared is None:
            continue
        layer, kind = int(place[1]), str(getattr(module, "layer_type", ""))
        if not shared:
            last[kind] = layer
        elif kind in last:
            found[layer] = last[kind]
    return found


def _refuse_shared_weights(text: Any, config: Any) -> None:
    """Raise UnreadableConfig where a weight belongs to two layers (Zamba).

    Each layer would count such a weight as its own, and all layers together would hold more than the model.
    """
    owner: dict[int, str] = {}
    for name, parameter in text.named_parameters(remove_duplicate=False):
        place = _LAYER.search(name)
        if place is not None and owner.setdefault(id(parameter), place[1]) != place[1]:
            raise UnreadableConfig(
                f"model type {config.model_type!r}: layers {owner[id(parameter)]} and {place[1]} share weights, "
                "which is not sized here"
            )


def _cache_of(layer: Any, config: Any) -> dict[str, Any]:
    """Return the fields of a `LayerShape` that describe one layer of `transformers`' cache."""
    from transformers import cache_utils as kinds

    attention = (kinds.DynamicLayer, kinds.DynamicSlidingWindowLayer, kinds.DynamicIndexedLayer)
    states = (kinds.LinearAttentionLayer, kinds.LinearAttentionAndFullAttentionLayer,
              kinds.LinearAttentionAndSlidingWindowAttentionLayer)  # fmt: skip
    if type(layer) is kinds.DummyLayer:
        return {}
    if type(layer) not in (*attention, *states):
        raise UnreadableConfig(
            f"model type {config.model_type!r}: a cache layer of kind {type(layer).__name__} is not sized"
        )
    found: dict[str, Any] = {}
    if type(layer) is not kinds.LinearAttentionLayer:
        found |= _attention(layer, config)
    if type(layer) in states:
        found |= _state(layer, config)
    return found


def _attention(layer: Any, config: Any) -> dict[str, Any]:
    """Return heads and widths of a layer's keys and values."""
    keys, values = layer.keys, layer.values
    if keys is None or keys.shape[-2] != 1:
        raise UnreadableConfig(
            f"model type {config.model_type!r}: a token leaves no key, or several, in a layer of the cache"
        )
    index = getattr(layer, "indexer_keys", None)
    window = layer.sliding_window if layer.is_sliding else None
    if window is not None and window < 2:
        raise UnreadableConfig(
            f"model type {config.model_type!r}: the field sliding_window must be 2 or more, got {window}"
        )
    # Falcon's newer layers give each query head a copy of the key that the head shares, and cache the copies.
    declared = getattr(config, "num_kv_heads", None)
    if isinstance(declared, int) and 0 < declared < keys.shape[1]:
        raise UnreadableConfig(
            f"model type {config.model_type!r}: transformers caches {keys.shape[1]} heads where the field num_kv_heads "
            f"is {declared}, which is not sized here"
        )
    latent = keys.shape[1] == 1 and bool(getattr(config, "kv_lora_rank", None))
    return {
        "kv_heads": keys.shape[1], "key_dim": keys.shape[-1], "value_dim": values.shape[-1], "window": window,
        "latent": latent,
        **({} if index is None else {"index_dim": index.shape[-1], "index_heads": config.index_n_heads,
                                     "index_topk": config.index_topk}),
    }  # fmt: skip


def _state(layer: Any, config: Any) -> dict[str, int]:
    """Return the sizes of a layer's convolution and recurrent states."""
    sizes: dict[int, int] = defaultdict(int)
    for state in (*layer.conv_states.values(), *layer.recurrent_states.values()):
        if state is not None:
            sizes[state.dtype.itemsize] += state.numel()
    return {"conv_state": sizes.pop(2, 0), "recurrent_state": sum(sizes.values())}


def _weights_by_layer(text: Any, config: Any, passes: TokenPasses) -> dict[int, dict[str, Any]]:
    """Return, for each layer, its matrices, other weights and experts, told apart by the modules that hold
    them.
    """
    layers: dict[int, dict[str, Any]] = defaultdict(lambda: defaultdict(int))
    experts: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for name, module in text.named_modules():
        i, last = passes.layer_of(name), name.split(".")[-1]
        if i is None:
            continue
        if last in _OUTPUTS and isinstance(module, nn.Linear) and "attn" in name:
            layers[i]["output"] = module.in_features
        for own, parameter in module.named_parameters(recurse=False):
            if own == _DIFFERENTIAL:
                layers[i]["attentions"] = 2
            if "experts." in f"{name}." and "shared" not in name and not own.endswith("bias"):
                _add_expert(experts[i], name, parameter)
            else:
                layers[i][_role(last, own, parameter)] += parameter.numel()
    for i, sizes in experts.items():
        layers[i] |= _experts(sizes, i, config)
    return {i: dict(found) for i, found in layers.items()}


def _role(module: str, own: str, parameter: Any) -> str:
    """Return which field of `LayerShape` counts a weight, by the last names of its module and of the weight
    itself.
    """
    if own.endswith("bias"):
        return "biases"
    if own != "weight" or parameter.ndim != 2:
        return "vectors"
    return "router" if module in _ROUTERS else "matrices"


def _add_expert(sizes: dict[int, int], name: str, parameter: Any) -> None:
    """Add a weight of a layer's experts: stacked, one row each, or a module of its own for each."""
    single = re.search(r"experts\.(\d+)\.", f"{name}.")
    if single:
        sizes[int(single[1])] += parameter.numel()
    else:
        for expert in range(parameter.shape[0]):
            sizes[expert] += parameter.numel() // parameter.shape[0]


def _experts(sizes: dict[int, int], layer: int, config: Any) -> dict[str, int]:
    """Return the number of experts, the size of one, and how many compute a token."""
    asked = next((value for name in _TOP_K if (value := getattr(config, name, None)) is not None), None)
    top_k = asked[layer] if isinstance(asked, list | tuple) and layer < len(asked) else asked
    if not isinstance(top_k, int) or not 1 <= top_k <= len(sizes):
        raise UnreadableConfig(
            f"model type {config.model_type!r}: the field num_experts_per_tok must be from 1 to the "
            f"{len(sizes)} experts, got {str(top_k)[:30]}"
        )
    return {
        "num_experts": len(sizes),
        "expert": math.ceil(sum(sizes.values()) / len(sizes)),
        "experts_per_token": top_k,
    }
