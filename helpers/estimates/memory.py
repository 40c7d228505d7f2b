"""Memory arithmetic: what weights, KV cache and activations take, and what fits on a device.

Sizes that people read are in GB = 1e9 bytes, as papers and the article count. Device memory is in GiB = 2**30
bytes. Functions whose name ends in `_bytes` return bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from functools import partial
from typing import Any

from helpers.estimates.activations import activation_bytes
from helpers.estimates.cache_bytes import kv_cache_bytes, state_bytes
from helpers.estimates.quantisation.number_format import NumberFormat
from helpers.estimates.sized_model import SizedModel
from helpers.estimates.units import GB, bytes_per_element, require_not_negative, require_positive
from helpers.model.shapes import ModelShape

_ENDLESS = 2**40
"""Tokens: longer than any text. A cache that fits at this length does not grow."""


class MemoryCalculator:
    """Memory of a decoder's inference in GB (1e9 bytes), from a handful of sizes."""

    def calculate_model_memory(
        self, num_params: float, dtype: str = "fp16", group_size: int | None = None
    ) -> float:
        """Return the GB that `num_params` weights take; `group_size` as in `bytes_per_element`."""
        require_positive(num_params=num_params)
        return num_params * bytes_per_element(dtype, group_size) / GB

    def calculate_kv_cache(
        self,
        batch_size: int,
        seq_len: int,
        hidden_size: int,
        num_layers: int,
        dtype: str | NumberFormat = "fp16",
        *,
        num_heads: int | None = None,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
    ) -> float:
        """Return the GB of keys and values of `batch_size` sequences of `seq_len` tokens.

        Without head counts every query head is taken to have keys and values of its own, which together are
        as wide as `hidden_size`. With grouped-query attention give `num_kv_heads` and `head_dim` (or
        `num_heads`, when the heads share `hidden_size` evenly).
        """
        require_not_negative(batch_size=batch_size, seq_len=seq_len)
        width = _kv_width(hidden_size, num_heads, num_kv_heads, head_dim)
        require_positive(num_layers=num_layers)
        return 2 * batch_size * seq_len * width * num_layers * bytes_per_element(dtype) / GB

    def estimate_total_memory(
        self,
        model_config: Mapping[str, Any] | ModelShape | Any,
        batch_size: int,
        seq_len: int,
        dtype: str | None = None,
        kv_dtype: str | NumberFormat | None = None,
    ) -> dict[str, float]:
        """Return `{"model", "kv_cache", "activation", "total"}` in GB for prompts of `seq_len` tokens.

        `model_config` is a `ModelShape`, a `SizedModel`, a `transformers` config, or a dict with `num_params`,
        `hidden_size`, `num_layers` and `dtype`. A config that is quantised counts its weights as its checkpoint stores them.
        A model with states of fixed size gets the part `"state"` too. A dict says too little to derive
        activations: its activations are twice the KV cache, the article's rule. Shapes and configs get the
        derived peak of `helpers.estimates.activations`. `dtype` overrides the config's own.

        `kv_dtype` is the cache's type; a `NumberFormat` counts the scales of codes, too. A dict's `dtype` holds for weights and cache, as in the article.
        Otherwise the default is the type that the model computes in: 16-bit beside quantised weights, as in
        engines.
        """
        if isinstance(model_config, Mapping):
            return self._by_article(model_config, batch_size, seq_len, dtype, kv_dtype)
        sized = SizedModel.of(model_config, dtype)
        shape, kv_dtype = sized.shape, kv_dtype or sized.computes_in
        parts = {
            "model": sized.weights / GB,
            "kv_cache": kv_cache_bytes(shape, batch_size, seq_len, kv_dtype) / GB,
            "activation": activation_bytes(shape, batch_size, seq_len, sized.element_bytes) / GB,
        }
        state = state_bytes(shape, batch_size, sized.computes_in)
        return _sum(**parts) if not state else _sum(**parts, state=state / GB)

    def max_batch_size(
        self,
        model: ModelShape | Any,
        seq_len: int,
        device_bytes: float,
        dtype: str | None = None,
        **options: Any,
    ) -> int:
        """Return how many requests of `seq_len` tokens a device of `device_bytes` holds at once.

        `options` as in `kv_budget_bytes`.
        """
        require_positive(seq_len=seq_len)
        sized = SizedModel.of(model, dtype)
        one = sized.cache_bytes(1, seq_len, options.pop("kv_dtype", None))
        return int(_budget(sized, device_bytes, **options) // one)

    def max_seq_len(
        self,
        model: ModelShape | Any,
        batch_size: int,
        device_bytes: float,
        dtype: str | None = None,
        **options: Any,
    ) -> int:
        """Return the longest context, in tokens, that `batch_size` requests can have.

        `options` as in `kv_budget_bytes`.

        Where the cache stops growing and fits, the model's own positions are the limit; ValueError where
        those are not known.
        """
        require_positive(batch_size=batch_size)
        sized, kv_dtype = SizedModel.of(model, dtype), options.pop("kv_dtype", None)
        budget = _budget(sized, device_bytes, **options)
        if sized.cache_bytes(batch_size, _ENDLESS, kv_dtype) > budget:
            needed = partial(sized.cache_bytes, batch_size, kv_dtype=kv_dtype)
            return bisect_right(range(_ENDLESS), budget, lo=1, key=needed) - 1
        positions = sized.shape.max_positions
        if not positions:
            raise ValueError(
                "the cache of this model stops growing and fits at any length, so that no length is the longest"
            )
        return positions

    def kv_budget_bytes(
        self,
        model: ModelShape | Any,
        device_bytes: float,
        dtype: str | None = None,
        *,
        utilisation: float = 0.9,
        step_tokens: int = 2048,
    ) -> float:
        """Return the bytes left for the KV cache; 0 when the weights alone are too large.

        `model` is a `ModelShape`, a `SizedModel` or a `transformers` config; `dtype` is bf16, or the config's own, unless
        told otherwise. A share `utilisation` of the device's memory is used. Weights of `dtype` come off, and
        the activations of a step over `step_tokens` tokens (an engine's token budget). `max_batch_size` and
        `max_seq_len` take `kv_dtype` too.
        """
        return _budget(SizedModel.of(model, dtype), device_bytes, utilisation, step_tokens)

    def _by_article(
        self,
        config: Mapping[str, Any],
        batch_size: int,
        seq_len: int,
        dtype: str | None,
        kv_dtype: str | NumberFormat | None,
    ) -> dict[str, float]:
        """Return the estimate of a plain dict."""
        missing = [key for key in ("num_params", "hidden_size", "num_layers") if key not in config]
        if missing:
            raise ValueError(
                f"model_config lacks {', '.join(missing)}; it has {', '.join(map(str, config)) or 'nothing'}"
            )
        dtype = dtype or str(config.get("dtype", "fp16"))
        heads = {key: config[key] for key in ("num_heads", "num_kv_heads", "head_dim") if key in config}
        kv_cache = self.calculate_kv_cache(
            batch_size, seq_len, config["hidden_size"], config["num_layers"], kv_dtype or dtype, **heads
        )
        return _sum(self.calculate_model_memory(config["num_params"], dtype), kv_cache, 2 * kv_cache)


def _budget(
    sized: SizedModel, device_bytes: float, utilisation: float = 0.9, step_tokens: int = 2048
) -> float:
    """Return the bytes left for the cache; see `kv_budget_bytes`."""
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation is a share between 0 and 1, got {utilisation}")
    activations = activation_bytes(sized.shape, 1, step_tokens, sized.element_bytes)
    return max(0.0, utilisation * device_bytes - sized.weights - activations)


def _kv_width(hidden_size: int, num_heads: int | None, num_kv_heads: int | None, head_dim: int | None) -> int:
    """Return the elements of one token's keys in one layer."""
    require_positive(
        hidden_size=hidden_size,
        num_heads=num_heads or 1,
        num_kv_heads=num_kv_heads or 1,
        head_dim=head_dim or 1,
    )
    if num_kv_heads is None:
        return hidden_size
    if head_dim is None and num_heads is None:
        raise ValueError("num_kv_heads alone does not say how wide a head is; give head_dim or num_heads too")
    return num_kv_heads * (head_dim or hidden_size // (num_heads or 1))


def _sum(model: float, kv_cache: float, activation: float, **more: float) -> dict[str, float]:
    """Return the parts and their total."""
    parts = {"model": model, "kv_cache": kv_cache, "activation": activation, **more}
    return {**parts, "total": sum(parts.values())}
