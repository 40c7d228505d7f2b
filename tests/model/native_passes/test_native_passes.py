"""A pass in one native call against the decoder's own operators: every architecture, cache and mixture of sequences."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import KVCache, PagedKVCache
from helpers.engine import PaddedBatch
from helpers.model import FlatBatch, NativePasses, build, checkpoint, config_from_file, read_tensors
from helpers.native import kernels
from tests.tiny import CONFIGS, reference, twin

pytestmark = pytest.mark.skipif(kernels().functions is None, reason=kernels().reason)
TOLERANCE = {torch.float32: dict(atol=2e-5, rtol=1e-4), torch.bfloat16: dict(atol=0.3, rtol=0.1)}


def model_of(name, dtype=torch.float32, most=64):
    """Return a tiny model whose passes are native up to `most` tokens."""
    model = twin(reference(name), dtype)
    if not NativePasses.serves(model):
        pytest.skip("this processor's vectors are wider than the model's heads")
    model.native_passes = NativePasses(model, most)
    return model


def plainly(model, batches, cache):
    """Return the logits of passes by operators."""
    passes, model.native_passes = model.native_passes, None
    logits = [model(batch, cache, logits="all") for batch in batches]
    model.native_passes = passes
    return logits


def caches(model):
    return {
        "rows": KVCache.for_model(model, 4, 64),
        "pages": PagedKVCache.for_model(model, 60, 5),
    }


def batches_of(seed, steps=3):
    """Return passes over sequences of the names 0 to 3 that mix prompts, chunks and single tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths, batches = [0] * 4, []
    for _ in range(steps):
        names = torch.randperm(4, generator=generator)[: int(torch.randint(1, 5, (1,), generator=generator))]
        new = [
            [int(torch.randint(97, (1,), generator=generator))]
            * int(torch.randint(1, 9, (1,), generator=generator))
            for _ in names
        ]
        names = names.tolist()
        batches.append(FlatBatch.pack(new, [lengths[n] for n in names], names))
        for n, tokens in zip(names, new, strict=True):
            lengths[n] += len(tokens)
    return batches


@pytest.mark.parametrize("kind", ["rows", "pages"])
@pytest.mark.parametrize("name", CONFIGS)
def test_it_gives_the_decoders_logits_and_leaves_the_same_cache(name, kind):
    model = model_of(name)
    for seed in range(4):
        batches, one, other = batches_of(seed), caches(model)[kind], caches(model)[kind]
        want = plainly(model, batches, one)
        got = [model(batch, other, logits="all") for batch in batches]
        torch.testing.assert_close(got, want, **TOLERANCE[torch.float32])
        torch.testing.assert_close([other.k, other.v], [one.k, one.v], **TOLERANCE[torch.float32])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["rows", "pages"]))
def test_any_mixture_of_sequences(seed, kind):
    model = model_of("llama tied")
    batches = batches_of(seed, 6)
    want = plainly(model, batches, caches(model)[kind])
    cache = caches(model)[kind]
    torch.testing.assert_close(
        [model(b, cache, logits="all") for b in batches], want, **TOLERANCE[torch.float32]
    )


@pytest.mark.parametrize("lengths", [(129,), (64, 1, 65), (7, 200, 13)])
def test_prompts_and_chunks_of_any_length(lengths):
    model = model_of("llama", most=1000)
    generator = torch.Generator().manual_seed(sum(lengths))
    texts = [torch.randint(97, (n + 40,), generator=generator).tolist() for n in lengths]
    batches = [
        FlatBatch.pack([text[:n] for text, n in zip(texts, lengths, strict=True)]),
        FlatBatch.pack([text[n:] for text, n in zip(texts, lengths, strict=True)], lengths),
    ]
    want = plainly(model, batches, PagedKVCache.for_model(model, 80, 5))
    for cache in (PagedKVCache.for_model(model, 80, 5), KVCache.for_model(model, 3, 256)):
        got = [model(batch, cache, logits="all") for batch in batches]
        torch.testing.assert_close(got, want, **TOLERANCE[torch.float32])


def test_bf16_is_near():
    model = model_of("llama wide heads", torch.bfloat16)
    batches = batches_of(1)
    want = plainly(model, batches, caches(model)["pages"])
    cache = caches(model)["pages"]
    torch.testing.assert_close(
        [model(b, cache, logits="all") for b in batches], want, **TOLERANCE[torch.bfloat16]
    )


def test_a_sequence_has_the_same_bits_alone_and_beside_others():
    model = model_of("llama")
    tokens = [[5, 6, 7], [8], [9, 10, 11, 12]]
    together = model(FlatBatch.pack(tokens), caches(model)["pages"], logits="all")
    alone = [model(FlatBatch.pack([row]), caches(model)["rows"], logits="all") for row in tokens]
    assert torch.equal(torch.cat(alone), together)


def test_last_logits_are_those_of_each_sequences_last_token():
    model = model_of("llama")
    batch = FlatBatch.pack([[5, 6, 7], [8], [9, 10]])
    every = model(batch, caches(model)["rows"], logits="all")
    assert torch.equal(model(batch, caches(model)["rows"]), every[[2, 3, 5]])


def test_last_logits_are_those_of_the_tokens_that_the_batch_names():
    model = model_of("llama")
    padded = PaddedBatch(**vars(FlatBatch.pack([[5, 6, 7], [8, 0, 0], [9, 10, 0]])), real_lens=(3, 1, 2))
    every = model(padded, caches(model)["rows"], logits="all")
    assert torch.equal(model(padded, caches(model)["rows"]), every[[2, 3, 7]])


def calls(model, monkeypatch):
    """Return the list in which each native pass is noted."""
    noted, native = [], model.native_passes._native
    monkeypatch.setattr(model.native_passes, "_native", lambda *a: noted.append(1) or native(*a))
    return noted


def test_larger_passes_other_caches_and_profiles_are_left_to_operators(monkeypatch):
    model = model_of("llama", most=3)
    noted = calls(model, monkeypatch)
    model(FlatBatch.pack([[1, 2, 3, 4]]), caches(model)["rows"])
    model(FlatBatch.pack([[1, 2, 3]]))

    class Other(KVCache):
        def attend(self, *arguments):
            return super().attend(*arguments)

    model(FlatBatch.pack([[1, 2, 3]]), Other.for_model(model, 1, 9))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        model(FlatBatch.pack([[1, 2, 3]]), caches(model)["rows"])
    assert not noted
    model(FlatBatch.pack([[1, 2, 3]]), caches(model)["rows"])
    assert noted == [1]


TOUCHES = {
    "a weight": lambda m: setattr(
        m.layers[1].mlp.down_proj, "weight", torch.nn.Parameter(torch.zeros(32, 48))
    ),
    "a norm": lambda m: setattr(m.layers[0], "post_norm", torch.nn.Parameter(torch.ones(32))),
    "a part": lambda m: setattr(m.layers[1].attn, "o_proj", torch.nn.Identity()),
    "a hook": lambda m: m.layers[1].mlp.register_forward_hook(lambda *_: None),
    "a hook before": lambda m: m.layers[1].attn.o_proj.register_forward_pre_hook(lambda *_: None),
    "a forward": lambda m: setattr(m.layers[0], "forward", m.layers[0].forward),
}


@pytest.mark.parametrize("touch", TOUCHES)
def test_a_model_that_was_touched_is_computed_by_its_own_parts(monkeypatch, touch):
    model = model_of("llama")
    noted = calls(model, monkeypatch)
    TOUCHES[touch](model)
    model(FlatBatch.pack([[1, 2, 3]]), caches(model)["rows"])
    assert not noted


def test_a_scale_of_the_rotated_heads_counts():
    model = model_of("llama")
    model.cfg = replace(model.cfg, rope_scale=1.3)
    for layer in model.layers:
        layer.attn.rope_scale = 1.3
    batches = batches_of(2)
    want = plainly(model, batches, caches(model)["pages"])
    cache = caches(model)["pages"]
    torch.testing.assert_close(
        [model(b, cache, logits="all") for b in batches], want, **TOLERANCE[torch.float32]
    )


PROMPTS = (
    "The sea",
    "Once upon a time",
    "def add(a, b):",
    "Water boils at",
    "Paris is",
    "1 2 3",
    "My name",
    "In 1969",
)


def test_the_real_model_says_the_same():
    """64 tokens after each of 8 prompts, decoded together: logits to 1e-4 of the largest, and clear choices equal."""
    model, tokenizer = checkpoint.load(device="cpu")
    other = build_like(model)
    if not NativePasses.serves(other):
        pytest.skip("this model's passes are not native here")
    other.native_passes = NativePasses(other, 64)
    texts = [list(tokenizer(text)["input_ids"]) for text in PROMPTS]
    lengths = [len(text) for text in texts]
    cache, found, new = PagedKVCache.for_model(model, 100), [], texts
    for _ in range(64):
        history = [len(text) - len(tokens) for text, tokens in zip(texts, new, strict=True)]
        found.append(other(FlatBatch.pack(new, history), cache))
        new = [[token] for token in found[-1].argmax(-1).tolist()]
        texts = [text + token for text, token in zip(texts, new, strict=True)]
    native = torch.stack(found, 1)
    model.native_passes = None
    for text, length, got in zip(texts, lengths, native, strict=True):
        want = model(FlatBatch.pack([text[:-1]]), logits="all")[length - 1 :]
        torch.testing.assert_close(got, want, atol=1e-4 * float(want.abs().max()), rtol=0)
        best = want.topk(2).values
        clear = best[:, 0] - best[:, 1] > 1e-3
        assert torch.equal(got.argmax(-1)[clear], want.argmax(-1)[clear])
        assert clear.sum() > 60


def build_like(model):
    """Return the course's model again, not packed."""
    folder = checkpoint.locate()
    return build(config_from_file(folder), read_tensors(folder), model.dtype)
