"""A model with the bytes of its weights: from a shape, or from a config as its checkpoint stores them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helpers.estimates.cache_bytes import kv_cache_bytes, state_bytes
from helpers.estimates.quantisation.config_fields import stated_quantisation
from helpers.estimates.quantisation.number_format import NumberFormat
from helpers.estimates.quantisation.quantised import quantised_bytes
from helpers.estimates.units import BITS, bits_of, bytes_per_element
from helpers.model.shapes import ModelShape


@dataclass(frozen=True)
class SizedModel:
    """A shape, its weights and the type that the model computes in."""

    shape: ModelShape
    weights: float
    """Bytes of all weights."""
    computes_in: str
    """The type of activations and cache, such as bf16."""

    @classmethod
    def of(cls, model: SizedModel | ModelShape | Any, dtype: str | None = None) -> SizedModel:
        """Return a shape or a `transformers` config with the bytes of its weights in `dtype`.

        Without `dtype` a shape is in bf16. A config is in its own type, or as its `quantization_config` packs
        the weights. A model with a size is returned as it is, or sized anew in `dtype`.
        """
        if isinstance(model, SizedModel):
            return model if dtype is None else cls.of(model.shape, dtype)
        shape = model if isinstance(model, ModelShape) else ModelShape.from_hf(model)
        own = _dtype_of(model)
        if dtype is None and stated_quantisation(model) is not None:
            return cls(shape, quantised_bytes(model), compute_dtype(own))
        return cls(shape, weight_bytes(shape, dtype or own), compute_dtype(dtype or own))

    @property
    def element_bytes(self) -> int:
        """Return the bytes per element of the activations."""
        return BITS[self.computes_in] // 8

    def cache_bytes(self, batch_size: int, seq_len: int, kv_dtype: str | NumberFormat | None = None) -> int:
        """Return the bytes of cache and fixed states of `batch_size` sequences of `seq_len` tokens."""
        grown = kv_cache_bytes(self.shape, batch_size, seq_len, kv_dtype or self.computes_in)
        return grown + state_bytes(self.shape, batch_size, self.computes_in)


def weight_bytes(shape: ModelShape, dtype: str = "bf16") -> float:
    """Return the bytes of a model's weights in `dtype`.

    A type under 16 bits is that of the layers' linear parts alone. All else stays in 16 bits, as in published
    checkpoints: embedding, output matrix, norms, biases, routers and a vision tower.
    """
    if bits_of(dtype) >= 16:
        return shape.num_params * bytes_per_element(dtype)
    rest = shape.num_params - shape.linear_params
    return shape.linear_params * bytes_per_element(dtype) + 2 * max(0, rest)


def compute_dtype(dtype: str) -> str:
    """Return the type that a model with weights of `dtype` computes in: its own, or bf16 when the weights are
    quantised.
    """
    return dtype if bits_of(dtype) >= 16 else "bf16"


def _dtype_of(model: ModelShape | Any) -> str:
    """Return the name of a config's weight type, fp16 where the config gives none; bf16 for a shape."""
    if isinstance(model, ModelShape):
        return "bf16"
    names = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float8_e4m3fn": "fp8"}
    text = getattr(model, "get_text_config", lambda: model)()
    dtype = getattr(model, "dtype", None) or getattr(text, "dtype", None)
    return names.get(str(dtype).removeprefix("torch."), "fp16")
