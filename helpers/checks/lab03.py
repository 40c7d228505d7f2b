"""Checks of lab 3, KV cache."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from helpers.checks.families.lab03.mask import MASK
from helpers.checks.families.lab03.stories import stories
from helpers.checks.families.lab03.times import TIMES
from helpers.checks.machinery.core import (
    CheckFailed,
    describe,
    exercise,
    require_callable,
    require_number,
    require_tensor,
)
from helpers.checks.machinery.family import check_family, seed
from helpers.checks.machinery.limit import attempt
from helpers.checks.machinery.values import unchanged

LAB = "03_kv_cache"
Function = Callable[..., Any]
Kept = list[list[tuple[Tensor, Tensor]]]
_PER_LAYER = "Positions were advanced once per layer; expected once per token."
_STORIES = 40


@exercise(LAB, 1, "predict what concatenation copies")
def check_copied(answer: Any) -> None:
    """Check `answer`: tokens that a concatenating cache writes in one layer, for a prompt of 100 and 50
    decode steps.
    """
    prompt, steps = 100, 50
    right = prompt + sum(prompt + i for i in range(1, steps + 1))
    mistakes: dict[str, float | tuple[float, ...]] = {
        "That is written in place. What does each concatenation write besides the new token?": prompt + steps,
        "Is the prompt's own first write counted?": right - prompt,
        "How long is the fresh tensor, with the new token in it?": (right - steps, right - steps - prompt),
        "50 steps: how long is the fresh tensor of the last one?": right + prompt + steps + 1,
        "The prompt comes in one piece, and is written once. Is each of its tokens a step here?": sum(range(prompt + steps + 1)),
        "Tokens were asked for. Are keys and values counted apart?": 2 * right,
        "That is the length at the end, times the steps. How long was it before?": (
            steps * (prompt + steps), prompt + steps * (prompt + steps),
        ),
    }  # fmt: skip
    require_number(answer, right, mistakes=mistakes, reveal=False)


@exercise(LAB, 2, "mend the cache")
def check_cache(answer: Function) -> None:
    """Check that `answer(num_layers, capacity, kv_heads, head_dim)` makes a cache with `update(layer_idx, k,
    v)` and `length`.
    """
    require_callable(answer)
    for sizes, chunks in itertools.islice(stories(random.Random(seed())), _STORIES):
        layers, capacity, shape = (
            sizes["num_layers"],
            sizes["capacity"],
            (sizes["kv_heads"], sizes["head_dim"]),
        )
        cache = attempt(answer, **sizes)
        if cache is None:
            raise CheckFailed(
                "there is no cache", sizes, hint="Was a class given, or a function that returns one?"
            )
        kept: Kept = [[] for _ in range(layers)]
        before = 0
        for n in chunks:
            _step(cache, kept, n, before, layers, capacity, shape)
            before += n
        _check_full(cache, kept, before, layers, capacity, shape)
    _check_apart(answer)


def _check_apart(answer: Function) -> None:
    """Raise CheckFailed unless two caches of the same sizes have nothing to do with each other."""
    shape, kept = (2, 4), [[list[tuple[Tensor, Tensor]](), list[tuple[Tensor, Tensor]]()] for _ in "ab"]
    caches = [attempt(answer, num_layers=2, capacity=6, kv_heads=2, head_dim=4) for _ in "ab"]
    try:
        for which, n, before in ((0, 2, 0), (1, 3, 0), (0, 1, 2), (1, 1, 3)):
            _step(caches[which], kept[which], n, before, 2, 6, shape, seed_of=100_000 * (which + 1))
    except CheckFailed as failure:
        hint = "Each cache needs buffers and a length of its own. Do two caches share one of them?"
        raise CheckFailed(
            "two caches at the same time disturb each other", got=failure.broken, hint=hint
        ) from None


def _step(
    cache: Any, kept: Kept, n: int, before: int, layers: int, capacity: int, shape: tuple[int, int],
    seed_of: int = 0,
) -> None:  # fmt: skip
    """Make one pass of `n` tokens through all layers, checked layer by layer."""
    returned = list[Any]()
    for layer in range(layers):
        shown = {"layer": layer, "of": layers, "new tokens": n, "tokens before": before}
        k, v = (
            _tokens(n, seed_of + 1000 * before + 10 * layer, shape),
            _tokens(n, seed_of + 1000 * before + 10 * layer + 5, shape),
        )
        kept[layer].append((k.clone(), v.clone()))
        got = _update_that_fits(cache, layer, (k, v), {**shown, "capacity": capacity})
        returned.append(got)
        _check_untouched(k, v, kept[layer][-1], shown)
        k.fill_(float("nan")), v.fill_(float("nan"))  # what the caller does with its own tensors afterwards
        _check_returned(got, kept, layer, capacity, shown)
        if (
            before or layer == layers - 1 or not n
        ):  # in the first step, several mistakes look alike before its end
            _check_length(cache, before + n if layer == layers - 1 else before, n, shown)
    _check_still(returned, kept, n, before)


def _update_that_fits(cache: Any, layer: int, new: tuple[Tensor, Tensor], shown: dict[str, Any]) -> Any:
    """Return what `update` returns. Raises CheckFailed, with the sizes, when it refuses what fits."""
    try:
        return _update(cache, layer, *new)
    except CheckFailed as failure:
        if not isinstance(failure.error, ValueError):
            raise
        hint = "The last free position may be used, too. How is the end compared with the capacity?"
        hint = hint if shown["new tokens"] else "A pass of no tokens needs no room. When is there an error?"
        broken = "it refused tokens for which there is room"
        raise CheckFailed(broken, shown, got=failure.broken, hint=hint) from None


def _check_still(returned: list[Any], kept: Kept, n: int, before: int) -> None:
    """Raise CheckFailed when later layers have changed what was returned for an earlier one."""
    for layer, got in enumerate(returned):
        for i, name in enumerate(("keys", "values")):
            if not _same(got[i], torch.cat([pair[i] for pair in kept[layer]])):
                raise CheckFailed(
                    f"the {name} that update returned for layer {layer} have changed since",
                    {"new tokens": n, "tokens before": before},
                    hint="Are results copied into one buffer that all layers share?",
                )


def _check_untouched(k: Tensor, v: Tensor, before: tuple[Tensor, Tensor], shown: dict[str, Any]) -> None:
    """Raise CheckFailed unless the caller's keys and values are what they were."""
    for name, now, then in zip(("k", "v"), (k, v), before, strict=True):
        if not unchanged(now, then):
            at = int((now != then).flatten().nonzero()[0])
            raise CheckFailed(
                "it changed its input", shown, expected=f"{name}, first number that differs: {then.flatten()[at]:.4f}",
                got=f"{now.flatten()[at]:.4f}", hint="The caller still needs its keys. Is something written into them?",
            )  # fmt: skip


def _update(cache: Any, layer: int, k: Tensor, v: Tensor) -> Any:
    """Return what the learner's `update` returns; `update` gets these very tensors, not copies."""
    if not callable(getattr(cache, "update", None)):
        raise CheckFailed("the cache has no method update", got=describe(cache))
    return attempt(lambda layer_idx: cache.update(layer_idx, k, v), layer_idx=layer)


def _check_returned(got: Any, kept: Kept, layer: int, capacity: int, shown: dict[str, Any]) -> None:
    """Raise CheckFailed unless update returned this layer's keys and values so far."""
    if not isinstance(got, tuple | list) or len(got) != 2:
        hint = "Is a return missing?" if got is None else ""
        raise CheckFailed("update returns two tensors, keys and values", shown, got=describe(got), hint=hint)
    for i, name in enumerate(("keys", "values")):
        want = torch.cat([pair[i] for pair in kept[layer]])
        hints = {
            "Is that the whole buffer? Its unused positions would take part in the attention.": (
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
            (question for question, true in hints.items() if true),
            "At which position of the buffer does each token lie?",
        )
        if (
            isinstance(got[i], Tensor)
            and got[i].shape == want.shape
            and torch.allclose(got[i].float(), want, rtol=1e-2, atol=1e-2)
        ):
            hint = "Nearly right. In which type are keys and values kept? They come in fp32."
        require_tensor(got[i], want, shown, what=name, hint=hint)


def _check_length(cache: Any, right: int, n: int, shown: dict[str, Any]) -> None:
    """Raise CheckFailed unless `length` counts the tokens that every layer has."""
    length = attempt(lambda: cache.length)
    length = attempt(length) if callable(length) else length
    layers = shown["of"]
    mistakes: dict[str, float | tuple[float, ...]] = {
        _PER_LAYER: tuple(
            shown["tokens before"] * layers + n * i for i in range(2, layers + 1)
        ),
        "Not every layer has the new tokens yet. When do they count?": shown["tokens before"] + n,
        "A pass of no tokens adds none. Is one counted?": shown["tokens before"] + 1 if not n else (),
        "Every layer has the new tokens now. Do they count?": shown["tokens before"],
    }  # fmt: skip
    require_number(length, right, {"value": "length", **shown}, mistakes=mistakes)


def _check_full(
    cache: Any, kept: Kept, before: int, layers: int, capacity: int, shape: tuple[int, int]
) -> None:  # fmt: skip
    """Raise CheckFailed unless a token too many is refused with ValueError, and refusing changes nothing."""
    n = capacity - before + (1 if before % 2 else 1 + layers)
    shown = {"capacity": capacity, "tokens before": before, "new tokens": n}
    buffers = {name: buffer.clone() for name, buffer in _buffers(cache).items()}
    try:
        got = _update(cache, 0, _tokens(n, 1, shape), _tokens(n, 2, shape))
    except CheckFailed as failure:
        if not isinstance(failure.error, ValueError):
            hint = "Whose error is it? Test before writing, and raise ValueError."
            raise CheckFailed(
                "too many tokens must be refused with ValueError", shown, got=failure.broken, hint=hint
            ) from None
    else:
        hint = "A slice beyond the end is cut silently. Who checks the capacity?"
        raise CheckFailed("too many tokens were not refused", shown, got=describe(got), hint=hint)
    written = [name for name, buffer in _buffers(cache).items() if not unchanged(buffer, buffers.get(name))]
    if written:
        raise CheckFailed(
            f"it refused the tokens, and had written into `{written[0]}` before", shown,
            hint="Nothing may change when there is an error. Is the capacity tested before the first write?",
        )  # fmt: skip
    if before < capacity:
        try:
            _step(cache, kept, 1, before, layers, capacity, shape)
        except CheckFailed as failure:
            raise CheckFailed(
                "after a refusal the cache is not as it was before", shown, got=failure.broken,
                hint="Was something written, or the length changed, before the error was raised?",
            ) from None  # fmt: skip


def _buffers(cache: Any) -> dict[str, Tensor]:
    """Return the buffers of a cache that keeps them under the exercise's names."""
    found = {name: getattr(cache, name, None) for name in ("k", "v")}
    return {name: buffer for name, buffer in found.items() if isinstance(buffer, Tensor)}


@exercise(LAB, 3, "a mask for a ragged batch")
def check_mask(answer: Any) -> None:
    """Check that `answer(lengths, new, capacity)` returns bool `[B, new, capacity]`, True where a query may
    look.
    """
    check_family(answer, MASK)


@exercise(LAB, 4, "when a cache does not pay")
def check_times(answer: Any) -> None:
    """Check that `answer(num_params, kv_bytes, prompt, new_tokens, peak, bandwidth)` returns two times in seconds (without
    a cache, with one).
    """
    check_family(answer, TIMES)


def _tokens(n: int, seed: int, shape: tuple[int, int]) -> Tensor:
    """Return keys or values of `n` tokens."""
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def _same(got: Any, other: Tensor) -> bool:
    """Return whether it is such a tensor."""
    return isinstance(got, Tensor) and got.shape == other.shape and bool((got == other).all())


def _holds_other_layer(got: Any, kept: Kept, layer: int, which: int) -> bool:
    """Return whether it begins with another layer's tokens."""
    return any(
        isinstance(got, Tensor)
        and len(pairs[0][which]) > 0
        and _same(got[: len(pairs[0][which])], pairs[0][which])
        for i, pairs in enumerate(kept)
        if i != layer and pairs
    )
