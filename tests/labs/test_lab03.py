"""Lab 3: every wrong answer is refused with the message meant for it, every right one is accepted."""

import pytest
import torch

from helpers import KVCache
from helpers.checks import lab03
from helpers.checks.machinery import limit
from tests.labs.answers import accepts, refuses, unwritten


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 1.0)


COPIED = 100 + sum(range(101, 151))


def test_1_right(capsys):
    accepts(lab03.check_copied, COPIED, capsys)
    accepts(lab03.check_copied, float(COPIED), capsys)
    accepts(lab03.check_copied, 100 + torch.arange(101, 151).sum(), capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (150, "That is written in place."),
        (COPIED - 100, "Is the prompt's own first write counted?"),
        (100 + sum(range(100, 150)), "with the new token in it?"),
        (2 * COPIED, "Are keys and values counted apart?"),
        (50 * 150, "How long was it before?"),
        (..., "Replace the dots"),
        (torch.zeros(2), "expected a number"),
    ],
)
def test_1_wrong(answer, words):
    refuses(lab03.check_copied, answer, words)


class Right:
    """The right answer; subclasses change one thing."""

    def __init__(self, num_layers, capacity, kv_heads, head_dim):
        self.layers, self.capacity = num_layers, capacity
        self.k, self.v = (torch.zeros(num_layers, capacity, kv_heads, head_dim) for _ in "kv")
        self.length = 0

    def update(self, layer_idx, k, v):
        end = self.length + len(k)
        self.refuse(end)
        self.k[layer_idx, self.length : end], self.v[layer_idx, self.length : end] = k, v
        result = self.k[layer_idx, :end], self.v[layer_idx, :end]
        self.grow(layer_idx, end)
        return result

    def refuse(self, end):
        if end > self.capacity:
            raise ValueError("full")

    def grow(self, layer_idx, end):
        if layer_idx == self.layers - 1:
            self.length = end


class Lists:
    """Written differently: concatenation, lengths from the tensors, `length` a method."""

    def __init__(self, num_layers, capacity, kv_heads, head_dim):
        self.room = capacity
        self.kept = [[torch.zeros(0, kv_heads, head_dim)] * 2 for _ in range(num_layers)]

    def length(self):
        return min(len(k) for k, _ in self.kept)

    def update(self, layer_idx, k, v):
        joined = [torch.cat((old, new)) for old, new in zip(self.kept[layer_idx], (k, v), strict=True)]
        if len(joined[0]) > self.room:
            raise ValueError(f"{len(joined[0])} tokens, room for {self.room}")
        self.kept[layer_idx] = joined
        return joined


def test_2_right(capsys):
    accepts(lab03.check_cache, Right, capsys)
    accepts(lab03.check_cache, Lists, capsys)

    class OfTheLibrary:
        def __init__(self, num_layers, capacity, kv_heads, head_dim):
            self.cache = KVCache(num_layers, 1, capacity, kv_heads, head_dim)

        @property
        def length(self):
            return self.cache.seq_lens[0]

        def update(self, layer_idx, k, v):
            start = len(self.cache.get(layer_idx, 0)[0][0])
            k, v = (t.transpose(0, 1)[None] for t in (k, v))
            if k.shape[2]:
                self.cache.update(layer_idx, k, v, [list(range(start, start + k.shape[2]))])
            return [t.transpose(0, 1) for t in self.cache.get(layer_idx, 0)]

    accepts(lab03.check_cache, OfTheLibrary, capsys)


class EveryLayer(Right):  # the article's
    def __init__(self, num_layers, capacity, kv_heads, head_dim):
        super().__init__(num_layers, 10 * capacity, kv_heads, head_dim)

    def grow(self, layer_idx, end):
        self.length = end


class Padded(Right):  # the article's
    def update(self, layer_idx, k, v):
        super().update(layer_idx, k, v)
        return self.k[layer_idx], self.v[layer_idx]


class NewOnly(Right):
    def update(self, layer_idx, k, v):
        super().update(layer_idx, k, v)
        return k.clone(), v.clone()


class Swapped(Right):
    def update(self, layer_idx, k, v):
        return super().update(layer_idx, k, v)[::-1]


class OneBuffer(Right):
    def update(self, layer_idx, k, v):
        start = self.used = getattr(self, "used", 0)
        self.k[0, start : start + len(k)], self.v[0, start : start + len(k)] = (
            k[: self.capacity - start],
            v[: self.capacity - start],
        )
        self.used += len(k)
        self.grow(layer_idx, self.length + len(k))
        return self.k[0, : self.length + len(k)], self.v[0, : self.length + len(k)]


class KeepsTheCallers(Lists):
    def update(self, layer_idx, k, v):
        if not len(self.kept[layer_idx][0]):
            self.kept[layer_idx] = [k, v]
            return [k.clone(), v.clone()]
        return super().update(layer_idx, k, v)


class Boundless(Right):  # the article's
    def refuse(self, end): ...

    def update(self, layer_idx, k, v):
        fits = self.capacity - self.length
        return super().update(layer_idx, k[:fits], v[:fits])


class OtherError(Right):
    def refuse(self, end):
        assert end <= self.capacity


class TooLate(Right):
    def refuse(self, end):
        if end > self.capacity:
            self.length = self.capacity
            raise ValueError("full")


class Counting(Right):
    """Writes where it should, and tells another length."""

    def __init__(self, num_layers, capacity, kv_heads, head_dim):
        super().__init__(num_layers, capacity, kv_heads, head_dim)
        self.right = Right(num_layers, capacity, kv_heads, head_dim)

    def update(self, layer_idx, k, v):
        result = self.right.update(layer_idx, k, v)
        self.count(layer_idx, len(result[0]))
        return result


class TooEarly(Counting):
    def count(self, layer_idx, end):
        self.length = end


class CountsLate(Counting):
    def count(self, layer_idx, end): ...


class NoLength(Counting):
    def count(self, layer_idx, end):
        self.length = None


class OnlySteps(Right):
    def grow(self, layer_idx, end):
        if layer_idx == self.layers - 1:
            self.length += 1


class Shared(Right):
    """All caches of a size have the same buffers."""

    buffers = {}  # noqa: RUF012

    def __init__(self, num_layers, capacity, kv_heads, head_dim):
        super().__init__(num_layers, capacity, kv_heads, head_dim)
        sizes = num_layers, capacity, kv_heads, head_dim
        self.k, self.v = Shared.buffers.setdefault(sizes, (self.k, self.v))


class Scaling(Right):
    def update(self, layer_idx, k, v):
        k *= 0.5
        return super().update(layer_idx, k, v)


class NoUpdate:
    def __init__(self, **_): ...


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (EveryLayer, "Positions were advanced once per layer; expected once per token."),
        (Padded, "Is that the whole buffer?"),
        (NewOnly, "Is that the new tokens alone?"),
        (Swapped, "Are keys and values kept apart?"),
        (OneBuffer, "Do all layers share one buffer?"),
        (KeepsTheCallers, "Does the cache keep the caller's own tensors?"),
        (Boundless, "A slice beyond the end is cut silently."),
        (OtherError, "Test before writing, and raise ValueError."),
        (TooLate, "before the error was raised?"),
        (TooEarly, "Not every layer has the new tokens yet."),
        (CountsLate, "Every layer has the new tokens now."),
        (OnlySteps, "the value is wrong"),
        (Shared, "Do two caches share one of them?"),
        (Scaling, "The caller still needs its keys."),
        (NoLength, "there is no value yet"),
        (NoUpdate, "the cache has no method update"),
        (unwritten, "not done yet"),
        (lambda **_: None, "there is no cache"),
        (lambda **_: 3, "the cache has no method update"),
        (lambda num_layers: 3, "it raised TypeError"),
        (7, "expected a function"),
    ],
)
def test_2_wrong(answer, words):
    refuses(lab03.check_cache, answer, words)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "Is a return missing?"),
        (torch.zeros(5, 2, 4), "two tensors, keys and values"),
        (
            (torch.zeros(5, 2, 4),) * 5,
            "got:      tuple of a tensor of shape (5, 2, 4), torch.float32; a tensor",
        ),
        ([torch.zeros(1)] * 5, "; and 2 more"),
        ((None, None), "keys: nothing was returned"),
        (("a", "b"), "keys: expected a tensor"),
        ((torch.zeros(5, 2, 4), torch.zeros(5, 2, 4)), "keys: wrong values"),
        ((torch.zeros(5, 2, 4).half(), torch.zeros(5, 2, 4)), "keys: wrong in shape or type"),
        ((torch.full((5, 2, 4), float("nan")),) * 2, "keys: wrong values"),
    ],
)
def test_2_wrong_results_of_update(returned, words):
    class Odd(Right):
        def update(self, layer_idx, k, v):
            return returned

    refuses(lab03.check_cache, Odd, words)


def test_2_an_update_without_end_is_given_up():
    class Endless(Right):
        def update(self, layer_idx, k, v):
            while True:
                pass

    refuses(lab03.check_cache, Endless, "Is there a loop that never ends?")


def mask(
    lengths,
    new,
    capacity,
    *,
    shift=0,
    own=True,
    future=False,
    history=True,
    start=None,
    invert=False,
    rest=False,
    each=True,
):
    """The right answer, and with one of the options changed a wrong one."""
    out = torch.zeros(len(lengths), new, capacity, dtype=torch.bool)
    for b, length in enumerate(lengths):
        begin = (length if own else max(lengths)) if start is None else start
        for i in range(new):
            out[b, i, : begin + (new if future else i * each + 1) + shift] = True
            if not history:
                out[b, i, :length] = False
    out |= rest
    return ~out if invert else out


def test_3_right(capsys):
    accepts(lab03.check_mask, mask, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"invert": True}, "Is it the other way round?"),
        ({"future": True}, "those that come after them?"),
        ({"shift": -1}, "May a token look at itself?"),
        ({"start": 0}, "Is its position 0?"),
        ({"own": False}, "Has every row its own length?"),
        ({"history": False}, "Is the row's history visible"),
        ({"rest": True}, "Are they hidden?"),
        ({"each": False}, "what the first of them sees?"),
    ],
)
def test_3_wrong(options, words):
    def named(lengths, new, capacity):
        return mask(lengths, new, capacity, **options)

    refuses(lab03.check_mask, named, words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda **_: None, "the mask: nothing was returned"),
        (
            lambda lengths, new, capacity: mask(lengths, new, capacity).float(),
            "the mask: wrong in shape or type",
        ),
        (lambda lengths, new, capacity: mask(lengths, new, capacity)[0], "the mask: wrong in shape or type"),
        (lambda lengths, new, capacity: mask(lengths, new, capacity).tolist(), "the mask: expected a tensor"),
        (lambda lengths, new, capacity: lengths.append(1), "it changed its input"),
        ("mask", "expected a function"),
    ],
)
def test_3_wrong_in_kind(answer, words):
    refuses(lab03.check_mask, answer, words)


def times(num_params, kv_bytes, prompt, new_tokens, peak, bandwidth, *, combine=max, passes=0, ops=2, size=2, grow=True,
          cached=1, longer=True, first=True, swap=False, all_again=False, once=False, reading=False):  # fmt: skip
    """The right answer, and with one of the options changed a wrong one."""

    def sides(tokens, history):
        return ops * num_params * tokens / peak, (size * num_params + kv_bytes * history) / bandwidth

    def one(tokens, history):
        return combine(*sides(tokens, history))

    new_tokens += passes
    without = sum(one(prompt + (i if grow else 0), 0) for i in range(new_tokens))
    steps = sum(one(1, cached * (prompt + (i if longer else 0))) for i in range(new_tokens - 1))
    if once:
        without = max(sum(sides(prompt + i, 0)[k] for i in range(new_tokens)) for k in (0, 1))
    if reading:
        steps = sum(sides(1, prompt + i)[1] for i in range(new_tokens - 1))
    with_cache = without if all_again else (one(prompt, 0) if first else 0) + steps
    return (with_cache, without) if swap else (without, with_cache)


def test_4_right(capsys):
    accepts(lab03.check_times, times, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"swap": True}, "Without a cache comes first."),
        ({"passes": 1}, "How many passes are there?"),
        ({"passes": -1}, "How many passes are there?"),
        ({"combine": lambda a, b: a + b}, "Do their times add up?"),
        ({"combine": min}, "or the shorter?"),
        ({"once": True}, "or once for all?"),
        ({"reading": True}, "Can a single token be bound by computing?"),
        ({"ops": 1}, "Are both counted?"),
        ({"size": 1}, "How many bytes has a 16-bit weight?"),
        ({"grow": False}, "Does it grow?"),
        ({"all_again": True}, "How many tokens do the others compute?"),
        ({"cached": 0}, "Are they counted?"),
        ({"longer": False}, "one cached token more than the one before?"),
        ({"first": False}, "Is the first pass in it?"),
    ],
)
def test_4_wrong(options, words):
    def named(num_params, kv_bytes, prompt, new_tokens, peak, bandwidth):
        return times(num_params, kv_bytes, prompt, new_tokens, peak, bandwidth, **options)

    refuses(lab03.check_times, named, words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing?"),
        (lambda **_: 1.0, "expected two numbers"),
        (lambda **_: ("a", 1.0), "expected a number"),
    ],
)
def test_4_wrong_in_kind(answer, words):
    refuses(lab03.check_times, answer, words)
