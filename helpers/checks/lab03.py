"""Checks of lab 3, KV cache."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from helpers.checks.machinery.core import (
    CheckFailed,
    describe,
    exercise,
    require_callable,
    require_number,
    require_tensor,
)
from helpers.checks.machinery.limit import attempt

LAB = "03_kv_cache"
Function = Callable[..., Any]
_PER_LAYER = "Positions were advanced once per layer; expected once per token."


@exercise(LAB, 1, "predict what concatenation copies")
def check_copied(answer: Any) -> None:
    """`answer`: tokens that a concatenating cache writes in one layer, for a prompt of 100 and 50 decode steps."""
    prompt, steps = 100, 50
    right = prompt + sum(prompt + i for i in range(1, steps + 1))
    mistakes: dict[str, float | tuple[float, ...]] = {
        "That is written in place. What does each concatenation write besides the new token?": prompt + steps,
        "Is the prompt's own first write counted?": right - prompt,
        "How long is the fresh tensor, with the new token in it?": (right - steps, right - steps - prompt),
        "Tokens were asked for. Are keys and values counted apart?": 2 * right,
        "That is the length at the end, times the steps. How long was it before?": (
            steps * (prompt + steps), prompt + steps * (prompt + steps),
        ),
    }  # fmt: skip
    require_number(answer, right, mistakes=mistakes, reveal=False)


@exercise(LAB, 2, "mend the cache")
def check_cache(answer: Function) -> None:
    """`answer(num_layers, capacity, kv_heads, head_dim)` makes a cache with `update(layer_idx, k, v)` and `length`."""
    require_callable(answer)
    for layers, capacity, chunks in ((3, 12, (5, 1, 1)), (1, 8, (8,)), (4, 20, (2, 3, 1, 1))):
        sizes = dict(num_layers=layers, capacity=capacity, kv_heads=2, head_dim=4)
        cache = attempt(answer, **sizes)
        if cache is None:
            raise CheckFailed(
                "there is no cache", sizes, hint="Was a class given, or a function that returns one?"
            )
        kept: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(layers)]
        before = 0
        for n in chunks:
            _step(cache, kept, n, before, layers, capacity)
            before += n
        _check_full(cache, kept, before, layers, capacity)


def _step(
    cache: Any, kept: list[list[tuple[Tensor, Tensor]]], n: int, before: int, layers: int, capacity: int
) -> None:
    """One pass of `n` tokens through all layers, checked layer by layer."""
    for layer in range(layers):
        shown = {"layer": layer, "of": layers, "new tokens": n, "tokens before": before}
        k, v = _tokens(n, seed=1000 * before + 10 * layer), _tokens(n, seed=1000 * before + 10 * layer + 5)
        got = _update(cache, layer, k, v)
        kept[layer].append((k.clone(), v.clone()))
        k.fill_(float("nan")), v.fill_(float("nan"))  # what the caller does with its own tensors afterwards
        _check_returned(got, kept, layer, capacity, shown)
        if before or layer == layers - 1:  # in the first step, several mistakes look alike before its end
            _check_length(cache, before + n if layer == layers - 1 else before, n, shown)


def _update(cache: Any, layer: int, k: Tensor, v: Tensor) -> Any:
    """What the learner's `update` returns; it gets these very tensors, not copies."""
    if not callable(getattr(cache, "update", None)):
        raise CheckFailed("the cache has no method update", got=describe(cache))
    return attempt(lambda layer_idx: cache.update(layer_idx, k, v), layer_idx=layer)


def _check_returned(
    got: Any, kept: list[list[tuple[Tensor, Tensor]]], layer: int, capacity: int, shown: dict[str, Any]
) -> None:
    """CheckFailed unless update returned this layer's keys and values so far."""
    if not isinstance(got, tuple | list) or len(got) != 2:
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed("update returns two tensors, keys and values", shown, got=describe(got), hint=hint)
    for i, name in enumerate(("keys", "values")):
        want = torch.cat([pair[i] for pair in kept[layer]])
        hints = {
            "Is that the whole buffer? Its unused places would take part in the attention.": (
                isinstance(got[i], Tensor) and got[i].shape[:1] == (capacity,) != want.shape[:1]
            ),
            "Is that the new tokens alone? Attention looks at the earlier ones, too.": _same(got[i], kept[layer][-1][i]),
            "Are keys and values kept apart?": _same(got[i], torch.cat([pair[1 - i] for pair in kept[layer]])),
            _PER_LAYER: (
                layer > 0 and isinstance(got[i], Tensor) and len(got[i]) > len(want)
            ),
            "Does the cache keep the caller's own tensors? The caller has changed them since.": (
                isinstance(got[i], Tensor) and bool(got[i].isnan().any())
            ),
            "Do all layers share one buffer? Each needs its own.": layer > 0 and _holds_other_layer(got[i], kept, layer, i),
        }  # fmt: skip
        hint = next(
            (question for question, true in hints.items() if true), "Where does each token's place lie?"
        )
        require_tensor(got[i], want, shown, what=name, hint=hint)


def _check_length(cache: Any, right: int, n: int, shown: dict[str, Any]) -> None:
    """CheckFailed unless `length` counts the tokens that every layer has."""
    length = attempt(lambda: cache.length)
    length = attempt(length) if callable(length) else length
    layers = shown["of"]
    mistakes: dict[str, float | tuple[float, ...]] = {
        _PER_LAYER: tuple(
            shown["tokens before"] * layers + n * i for i in range(2, layers + 1)
        ),
        "Not every layer has the new tokens yet. When do they count?": shown["tokens before"] + n,
        "Every layer has the new tokens now. Do they count?": shown["tokens before"],
    }  # fmt: skip
    require_number(length, right, {"value": "length", **shown}, mistakes=mistakes)


def _check_full(
    cache: Any, kept: list[list[tuple[Tensor, Tensor]]], before: int, layers: int, capacity: int
) -> None:
    """CheckFailed unless a token too many is refused with ValueError, and refusing changes nothing."""
    n = capacity - before + 1
    shown = {"capacity": capacity, "tokens before": before, "new tokens": n}
    try:
        got = _update(cache, 0, _tokens(n, 1), _tokens(n, 2))
    except CheckFailed as failure:
        if "it raised ValueError" not in str(failure):
            hint = "Whose error is it? Test before writing, and raise ValueError."
            raise CheckFailed(
                "too many tokens must be refused with ValueError", shown, got=failure.broken, hint=hint
            ) from None
    else:
        hint = "A slice beyond the end is cut silently. Who checks the capacity?"
        raise CheckFailed("too many tokens were not refused", shown, got=describe(got), hint=hint)
    if before < capacity:
        try:
            _step(cache, kept, 1, before, layers, capacity)
        except CheckFailed as failure:
            raise CheckFailed(
                "after a refusal the cache is not as it was before", shown, got=failure.broken,
                hint="Was something written, or the length changed, before the error was raised?",
            ) from None  # fmt: skip


@exercise(LAB, 3, "a mask for a ragged batch")
def check_mask(answer: Function) -> None:
    """`answer(lengths, new, capacity)` -> bool `[B, new, capacity]`, True where a query may look."""
    require_callable(answer)
    for lengths, new, capacity in (([4, 0, 2], 1, 8), ([0, 0], 3, 4), ([5, 1, 3, 0], 2, 7), ([6], 2, 8)):
        given = {"lengths": lengths, "new": new, "capacity": capacity}
        got, right = attempt(answer, **given), _mask(lengths, new, capacity)
        ends = torch.tensor(lengths)[:, None, None] + new
        places = torch.arange(capacity).expand(len(lengths), new, capacity)
        queries = torch.arange(new)[:, None]
        mistakes = {
            "True where a query may look. Is it the other way round?": ~right,
            "May the new tokens look at those that come after them?": places < ends,
            "May a token look at itself?": _mask([n - 1 for n in lengths], new, capacity),
            "The first new token stands behind the row's history. Is its place 0?": (
                places <= queries
            ).expand_as(right),
            "Does every new token see what the first of them sees?": (places < ends - new + 1),
            "Has every row its own length?": _mask([max(lengths)] * len(lengths), new, capacity),
            "Is the row's history visible, and not the new tokens alone?": right & (places >= ends - new),
            "Places behind the row's end hold nothing. Are they hidden?": torch.ones_like(right),
        }
        hint = next(
            (words for words, wrong in mistakes.items() if _same(got, wrong) and not _same(right, wrong)), ""
        )
        require_tensor(got, right, given, what="the mask", hint=hint)


def _mask(lengths: Sequence[int], new: int, capacity: int) -> Tensor:
    """The reference: query `i` of a row sees the row's history, and the new tokens up to itself."""
    last = torch.tensor(lengths)[:, None] + torch.arange(new)
    return torch.arange(capacity) <= last[..., None]


@exercise(LAB, 4, "when a cache does not pay")
def check_times(answer: Function) -> None:
    """`answer(num_params, kv_bytes, prompt, new_tokens, peak, bandwidth)` -> seconds (without a cache, with one)."""
    require_callable(answer)
    cases = ((2000, 30, 3e14), (20, 10, 3e14), (500, 1, 3e12), (300, 5, 3e12), (180, 20, 3e14), (50, 5, 1e12))
    # In the last but one a text grows over the ridge; in the last a decode step is bound by compute.
    for prompt, new, peak in cases:
        given: dict[str, Any] = dict(
            num_params=7_000_000_000,
            kv_bytes=131_072,
            prompt=prompt,
            new_tokens=new,
            peak=peak,
            bandwidth=1.6e12,
        )
        got = attempt(answer, **given)
        if not isinstance(got, tuple | list) or len(got) != 2:
            hint = "Is a return missing?" if got is None else ""
            raise CheckFailed(
                "expected two numbers, without and with a cache", given, got=describe(got), hint=hint
            )
        without, with_cache = _times(**given)
        require_number(got[0], without, {"value": "without", **given}, mistakes={
            "Are the two in order? Without a cache comes first.": with_cache,
            "The last token is chosen and never sent in. How many passes are there?": (
                _times(**given | {"new_tokens": new + 1})[0], _times(**given | {"new_tokens": new - 1})[0],
            ),
            "Reading and computing happen at the same time. Do their times add up?": _times(**given, combine=sum)[0],
            "A multiply-add is two operations. Are both counted?": _times(**given | {"peak": 2 * peak})[0],
            "Is the longer side chosen for each pass, or once for all?": max(
                _times(**given, combine=operator.itemgetter(side))[0] for side in (0, 1)
            ),
            "How many bytes has a 16-bit weight?": _times(**given, size=1)[0],
            "The longer of two times, or the shorter?": _times(**given, combine=min)[0],
            "Without a cache each pass computes the whole text. Does it grow?": new * _pass(prompt, 0, **_of(given)),
        })  # fmt: skip
        require_number(got[1], with_cache, {"value": "with", **given}, mistakes={
            "The first pass computes the prompt. How many tokens do the others compute?": without,
            "The last token is chosen and never sent in. How many passes are there?": (
                _times(**given | {"new_tokens": new + 1})[1], _times(**given | {"new_tokens": new - 1})[1],
            ),
            "A decode step reads the cached tokens, too. Are they counted?": _times(**given | {"kv_bytes": 0})[1],
            "Does each step read one cached token more than the one before?": (
                _pass(prompt, 0, **_of(given)) + (new - 1) * _pass(1, prompt, **_of(given))
            ),
            "How many bytes has a 16-bit weight?": _times(**given, size=1)[1],
            "Can a single token be bound by computing?": (
                _pass(prompt, 0, **_of(given))
                + sum(_pass(1, prompt + i, **_of(given), combine=operator.itemgetter(1)) for i in range(new - 1))
            ),
            "Somebody must compute the prompt. Is the first pass in it?": with_cache - _pass(prompt, 0, **_of(given)),
        })  # fmt: skip


def _of(given: dict[str, Any]) -> dict[str, Any]:
    """What a pass needs to know of an exercise's arguments."""
    return {name: given[name] for name in ("num_params", "kv_bytes", "peak", "bandwidth")}


def _pass(
    tokens: int, cached: int, num_params: float, kv_bytes: float, peak: float, bandwidth: float,
    combine: Callable[[list[float]], float] = max, size: int = 2,
) -> float:  # fmt: skip
    """Seconds of one pass."""
    return combine([2 * num_params * tokens / peak, (size * num_params + kv_bytes * cached) / bandwidth])


def _times(prompt: int, new_tokens: int, **device: Any) -> tuple[float, float]:
    """The reference: every pass by its longer side, without and with a cache."""
    without = sum(_pass(prompt + i, 0, **device) for i in range(new_tokens))
    steps = sum(_pass(1, prompt + i, **device) for i in range(new_tokens - 1))
    return without, (_pass(prompt, 0, **device) if new_tokens else 0.0) + steps


def _tokens(n: int, seed: int) -> Tensor:
    """Keys or values of `n` tokens."""
    return torch.randn(n, 2, 4, generator=torch.Generator().manual_seed(seed))


def _same(got: Any, other: Tensor) -> bool:
    """Whether it is such a tensor."""
    return isinstance(got, Tensor) and got.shape == other.shape and bool((got == other).all())


def _holds_other_layer(got: Any, kept: list[list[tuple[Tensor, Tensor]]], layer: int, which: int) -> bool:
    """Whether it begins with another layer's tokens."""
    return any(
        isinstance(got, Tensor) and _same(got[: len(pairs[0][which])], pairs[0][which])
        for i, pairs in enumerate(kept)
        if i != layer and pairs
    )
