"""The bytes of a model's cache, layer by layer: what grows with the text, and states of fixed size."""

from __future__ import annotations

from helpers.estimates.quantisation.number_format import NumberFormat
from helpers.estimates.units import bytes_per_element, require_not_negative
from helpers.model.shapes import ModelShape


def kv_cache_bytes(
    shape: ModelShape, batch_size: int, seq_len: int, dtype: str | NumberFormat = "bf16"
) -> int:
    """Return the bytes of keys and values (or latents) of `batch_size` sequences of `seq_len` tokens, layer
    by layer.

    Layers with a window keep that many tokens less one, as `transformers` does. States of fixed size are
    `state_bytes`.
    """
    require_not_negative(batch_size=batch_size, seq_len=seq_len)
    each = (n * layer.cached_tokens(seq_len) * layer.token_elements for layer, n in shape.groups.items())
    return round(batch_size * sum(each) * bytes_per_element(dtype))


def state_bytes(shape: ModelShape, batch_size: int, dtype: str = "bf16") -> int:
    """Return the bytes of the states of fixed size that linear attention and state spaces keep of
    `batch_size` sequences.
    """
    require_not_negative(batch_size=batch_size)
    one = sum(n * layer.state_bytes(bytes_per_element(dtype)) for layer, n in shape.groups.items())
    return round(batch_size * one)
