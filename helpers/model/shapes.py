"""Model shapes: the few sizes that memory and compute arithmetic needs, of published models or of any config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helpers.model.config import head_dim


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

    @property
    def kv_elements_per_token(self) -> int:
        """Return the elements of keys and values that one token leaves in the cache, over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim

    @classmethod
    def from_hf(cls, config: Any) -> ModelShape:
        """Return the shape of a `transformers` config (of a multimodal one: its text part); raise ValueError for a missing size."""
        config = config.get_text_config()
        try:
            return cls(
                name=getattr(config, "name_or_path", "") or config.model_type,
                num_params=count_params(config),
                num_layers=config.num_hidden_layers,
                hidden_size=config.hidden_size,
                num_heads=config.num_attention_heads,
                num_kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
                head_dim=head_dim(config),
                intermediate_size=config.intermediate_size,
                vocab_size=config.vocab_size,
                source="config",
                qk_norm=config.model_type == "qwen3",
            )
        except AttributeError as error:
            raise ValueError(f"the shape of a {config.model_type!r} model cannot be read: {error}") from error


def count_params(config: Any) -> int:
    """Return the number of weights of the model that a `transformers` config describes, without allocating any."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return sum(parameter.numel() for parameter in model.parameters())


def _published(name: str, params: int, sizes: tuple[int, ...], source: str, **switches: bool) -> ModelShape:
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
