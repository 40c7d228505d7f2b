"""Two tokens, one after the other, through a model on the meta device: what ran, what was kept, what was multiplied."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from helpers.model.sizing.counted_products import Products, counted_products
from helpers.model.sizing.refusal import UnreadableConfig, refusing

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)$")
_INSIDE = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)\.")


@dataclass(frozen=True)
class TokenPasses:
    """What two passes of one token each showed."""

    kept: tuple[Any, ...]
    """The cache's layers after the first pass."""
    called: frozenset[str]
    """Names of the modules that the first pass ran."""
    layers: Mapping[str, int]
    """Names of the decoder's layers, and their numbers."""
    products: tuple[Mapping[int, Products], Mapping[int, Products]]
    """Products of each layer, and of what is outside, for the first token and for the second."""

    def layer_of(self, name: str) -> int | None:
        """Return the number of the layer that a module belongs to; None outside the layers."""
        parts = name.split(".")
        prefixes = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        return next((self.layers[prefix] for prefix in prefixes if prefix in self.layers), None)


def pass_tokens(text: Any, config: Any) -> TokenPasses:
    """Return what a model on the meta device shows of two tokens.

    Raises UnreadableConfig, naming the model type, where no token passes, where the cache is of another kind than
    `DynamicCache`, and for layers that run more than once or stand in several stacks.
    """
    kind, numbered = config.model_type, _numbered(text)
    # Some models look for padding in the values of the tokens; a config of theirs may take a number alone.
    vars(text.config)["pad_token_id"] = None
    with refusing(kind, "the cache", config), _unchecked():
        with _calls(text) as called, counted_products(text, numbered) as counter:
            first, cache = counter.of(partial(_one_more, text, None))
        kept, layers = _layers_of(cache, kind), _that_ran(numbered, called, kind)
        with counted_products(text, layers) as counter:
            second, _ = counter.of(partial(_one_more, text, cache))
    return TokenPasses(kept, frozenset(called), layers, (first, second))


def _numbered(text: Any) -> dict[str, int]:
    """Return the modules with a number in a list of layers, by name; those inside of another one left out."""
    names = (name for name, _ in text.named_modules())
    places = ((name, _LAYER.search(name)) for name in names if not _INSIDE.search(name))
    return {name: int(place[1]) for name, place in places if place}


@contextmanager
def _unchecked() -> Iterator[None]:
    """Leave distributions unchecked meanwhile: Gemma 3n makes one, and a check asks for values."""
    kind = torch.distributions.Distribution
    before = kind._validate_args
    kind.set_default_validate_args(False)
    try:
        yield
    finally:
        kind.set_default_validate_args(before)


@contextmanager
def _calls(text: Any) -> Iterator[Counter[str]]:
    """Give a count of the calls of each module by name, which grows while the model runs."""
    counts: Counter[str] = Counter()

    def count(name: str, *_: object) -> None:
        counts[name] += 1

    hooks = [module.register_forward_pre_hook(partial(count, name)) for name, module in text.named_modules()]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def _one_more(text: Any, cache: Any) -> Any:
    """Compute one more token and return the cache."""
    given = {} if cache is None else {"past_key_values": cache}
    with torch.device("meta"), torch.no_grad():
        out = text(input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=True, **given)
    return getattr(out, "past_key_values", None) or getattr(out, "cache_params", None)


def _layers_of(cache: Any, kind: str) -> tuple[Any, ...]:
    """Return the layers of a cache as they are now; raise UnreadableConfig for another kind of cache."""
    from transformers.cache_utils import DynamicCache

    if cache is None:
        raise UnreadableConfig(
            f"model type {kind!r} is not supported: a pass gives back no cache (past_key_values) to be sized"
        )
    if type(cache) is not DynamicCache:
        raise UnreadableConfig(
            f"model type {kind!r}: a cache of kind {type(cache).__name__} is not sized here"
        )
    return tuple(copy.deepcopy(layer) for layer in cache.layers)


def _that_ran(numbered: Mapping[str, int], called: Counter[str], kind: str) -> dict[str, int]:
    """Return the layers that ran; raise UnreadableConfig for several stacks of layers, or several runs."""
    layers = {name: number for name, number in numbered.items() if name in called}
    stacks = {name.rpartition(".")[0] for name in layers}
    if len(stacks) != 1 or any(called[name] > 1 for name in layers):
        how = "runs its layers several times" if len(stacks) == 1 else "has no stack of layers, or several"
        raise UnreadableConfig(f"model type {kind!r} {how} for a token, which is not sized here")
    return layers
