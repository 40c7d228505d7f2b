"""Model shapes: the few sizes that memory and compute arithmetic needs, published or of any config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from helpers.model.config import head_dim
from helpers.model.layer_reading import check_experts, read_layers
from helpers.model.layer_shapes import LayerShape
from helpers.model.meta_model import MetaModel, config_from_file, on_meta, text_fields
from helpers.model.sizing.mlp_width import mlp_width
from helpers.model.sizing.model_ends import ModelEnds
from helpers.model.sizing.refusal import UnreadableConfig, refusing
from helpers.model.sizing.token_passes import pass_tokens


@dataclass(frozen=True)
class ModelShape:
    """A decoder's sizes, in elements unless said otherwise."""

    name: str
    num_params: int
    """Weights of the whole model; a tied output matrix counts once."""
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    source: str = ""
    qk_norm: bool = False
    """Whether each head's queries and keys are normed (Qwen3)."""
    gated_mlp: bool = True
    """Whether the MLP multiplies two projections (SwiGLU); GPT-3's has one, followed by GELU."""

    layers: tuple[LayerShape, ...] = ()
    """Each layer's cache and weights, where a config was read.

    Without them all layers have the sizes above.
    """
    max_positions: int = 0
    """Tokens that the model was made for; 0 where the table does not say."""
    read_ends: ModelEnds | None = None
    """Weights outside the layers, where a config was read; see `ends`."""

    @cached_property
    def groups(self) -> Mapping[LayerShape, int]:
        """Return the different layers, and how many there are of each."""
        return Counter(self.layers) if self.layers else {self._layer(): self.num_layers}

    @property
    def ends(self) -> ModelEnds:
        """Return the weights outside the layers: without a config the embedding's row and the last norm."""
        return self.read_ends or ModelEnds(matrices=0, vectors=self.hidden_size, row=self.hidden_size)

    @property
    def kv_elements_per_token(self) -> int:
        """Return the elements of keys and values that one token leaves in the cache, over all layers."""
        return sum(count * layer.token_elements for layer, count in self.groups.items())

    @property
    def linear_params(self) -> int:
        """Return the weights of the layers' linear parts: what a quantised checkpoint packs."""
        return sum(count * layer.linear for layer, count in self.groups.items())

    @classmethod
    def from_hf(cls, config: Any) -> ModelShape:
        """Return the shape of a `transformers` config, each layer as `transformers`' own model and cache have
        it.

        Of a config with images, `num_params` counts the tower too, and all else is the text part's. Raises
        UnreadableConfig, a ValueError of one sentence with the model type and the field, where weights or
        cache cannot be told exactly.
        """
        models = on_meta(config)
        text = text_fields(config)
        check_experts(models.text, text)
        passes = pass_tokens(models.text, text)
        layers = read_layers(models.text, text, passes)
        ends = ModelEnds.of(models.text, passes)
        name = getattr(config, "name_or_path", "") or config.model_type
        with refusing(config.model_type, "the shape", text):
            chosen = {i: layer.experts_per_token for i, layer in enumerate(layers)}
            mlp = mlp_width(models.text, text, passes, chosen)
            sizes = {**_sizes(text, layers), "intermediate_size": mlp.inner, "gated_mlp": mlp.gated}
            return cls(name=name, num_params=_parameters(models), layers=layers, read_ends=ends, **sizes)

    @classmethod
    def from_file(cls, path: Path | str) -> ModelShape:
        """Return the shape of a `config.json`, or of the folder that holds one; errors as in `from_hf`.

        Runs no code of the folder.
        """
        return cls.from_hf(config_from_file(path))

    def _layer(self) -> LayerShape:
        """Return the layer that all are like, where no config was read."""
        attention = self.hidden_size * self.head_dim * 2 * (self.num_heads + self.num_kv_heads)
        mlp = (3 if self.gated_mlp else 2) * self.hidden_size * self.intermediate_size
        norms = 2 * self.hidden_size + (2 * self.head_dim if self.qk_norm else 0)
        return LayerShape(
            kv_heads=self.num_kv_heads,
            key_dim=self.head_dim,
            value_dim=self.head_dim,
            num_heads=self.num_heads,
            matrices=attention + mlp,
            vectors=norms,
        )


def count_params(config: Any) -> int:
    """Return the number of weights of the model that a `transformers` config describes, without allocating
    any.
    """
    return _parameters(on_meta(config))


def _parameters(models: MetaModel) -> int:
    """Return the weights of a whole model; a tied output matrix counts once."""
    return sum(parameter.numel() for parameter in models.whole.parameters())


def _sizes(text: Any, layers: tuple[LayerShape, ...]) -> dict[str, Any]:
    """Return the sizes that a config has by name, but for the MLP's; key heads without a name are the cache's."""
    heads = getattr(text, "num_attention_heads", None)
    if heads is None:
        raise UnreadableConfig(
            f"model type {text.model_type!r} is not supported: it has no attention heads (field num_attention_heads)"
        )
    latent = any(layer.latent for layer in layers)
    cached = max((layer.kv_heads for layer in layers if not layer.latent), default=0)
    return {
        "num_layers": text.num_hidden_layers, "hidden_size": text.hidden_size, "num_heads": heads,
        "num_kv_heads": getattr(text, "num_key_value_heads", None) or cached or heads,
        # With a latent, `head_dim` is the rotated part alone; a head of queries and keys has both parts.
        "head_dim": text.qk_nope_head_dim + text.qk_rope_head_dim if latent else head_dim(text),
        "vocab_size": text.vocab_size, "source": "config", "qk_norm": text.model_type == "qwen3",
        "max_positions": int(getattr(text, "max_position_embeddings", None) or 0),
    }  # fmt: skip


def _published(name: str, params: int, sizes: tuple[int, ...], source: str, **switches: Any) -> ModelShape:
    """Return a row of the table below."""
    layers, hidden, heads, kv_heads, dim, intermediate, vocab = sizes
    return ModelShape(
        name, params, layers, hidden, heads, kv_heads, dim, intermediate, vocab, source, **switches
    )


_CONFIG = "config.json of the model's hub page"
# name, weights, (layers, hidden, query heads, KV heads, head_dim, intermediate, vocabulary), source
PUBLISHED = {
    shape.name: shape
    for shape in (
        _published(
            "GPT-3 175B",
            175_000_000_000,
            (96, 12288, 96, 96, 128, 49152, 50257),
            "arXiv:2005.14165, table 2.1",
            gated_mlp=False,
        ),
        _published("SmolLM2-135M", 134_515_008, (30, 576, 9, 3, 64, 1536, 49152), _CONFIG),
        _published("Qwen3-0.6B", 596_049_920, (28, 1024, 16, 8, 128, 3072, 151936), _CONFIG, qk_norm=True),
        _published("Llama-2-7B", 6_738_415_616, (32, 4096, 32, 32, 128, 11008, 32000), _CONFIG),
        _published("Qwen2.5-7B", 7_615_616_512, (28, 3584, 28, 4, 128, 18944, 152064), _CONFIG),
        _published("Llama-3-8B", 8_030_261_248, (32, 4096, 32, 8, 128, 14336, 128256), _CONFIG),
        _published("Qwen3-32B", 32_762_123_264, (64, 5120, 64, 8, 128, 25600, 151936), _CONFIG, qk_norm=True),
        _published("Llama-3-70B", 70_553_706_496, (80, 8192, 64, 8, 128, 28672, 128256), _CONFIG),
    )
}
