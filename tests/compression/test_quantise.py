"""Quantised models: the dequantised model's logits, exact bytes, and the whole course on top."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from helpers.caches import PagedKVCache
from helpers.compression import (
    INT4,
    INT8,
    Q8_0,
    CodedProduct,
    Int4Product,
    Recipe,
    matrices,
    plain_weight,
    quantise,
    reweighted,
    rounded,
    weight_nbytes,
)
from helpers.engine import ContinuousBatcher, Request
from helpers.estimates import NumberFormat, weight_table
from helpers.model import (
    FlatBatch,
    NativePasses,
    build,
    checkpoint,
    config_from_file,
    generate,
    read_tensors,
)
from helpers.native import kernels
from tests.tiny import CONFIGS, SIZES, reference, twin

TOKENS = [[5, 96, 3, 3, 41, 0, 17, 22, 9, 60, 11, 2], [7, 7, 80], [1]]
BATCH = FlatBatch.pack(TOKENS)


def wide_model(**options):
    """A model whose matrices torch's int4 kernel serves."""
    sizes = {**SIZES, "hidden_size": 64, "intermediate_size": 128, "vocab_size": 112}
    torch.manual_seed(3)
    theirs = AutoModelForCausalLM.from_config(LlamaConfig(**sizes, **options)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return build(theirs.config, theirs.state_dict())


@pytest.mark.parametrize("name", ["llama", "llama tied", "llama with biases", "qwen3 tied, biases"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_logits_are_those_of_the_dequantised_model(name, packed):
    model = twin(reference(name))
    model = model.pack() if packed else model
    fmt = NumberFormat(4, 8, "minimum")
    got = quantise(model, Recipe(fmt))(BATCH, logits="all")
    plain = reweighted(model, lambda name, w: w if name == "lm_head" else rounded(w, fmt))
    torch.testing.assert_close(got, plain(BATCH, logits="all"), atol=1e-4, rtol=0)
    assert not torch.allclose(got, model(BATCH, logits="all"), atol=0.01)


def test_a_tied_head_and_its_embedding_are_one_matrix():
    model = twin(reference("llama tied"))
    both = quantise(model, Recipe(None, head=NumberFormat(3, 8)))
    assert both.embed_tokens.product is both.lm_head.product
    model.embed_tokens.weight.data.copy_(rounded(model.embed_tokens.weight, NumberFormat(3, 8)))
    torch.testing.assert_close(both(BATCH), model(BATCH), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "llama tied", "qwen3 tied, biases"])
def test_bytes_are_those_of_the_recipe(name):
    config, recipe = CONFIGS[name], Recipe(INT4, head=Q8_0, layers=[1])
    scheme = recipe.scheme(tied=bool(config.tie_word_embeddings))
    predicted = scheme.total(weight_table(config), 4)
    assert weight_nbytes(quantise(twin(reference(name)), recipe)) == predicted


def test_only_the_named_layers_change():
    model = twin(reference("llama"))
    quantised = quantise(model, Recipe(INT4, layers=[1]))
    assert quantised.layers[0].attn.qkv_proj is model.layers[0].attn.qkv_proj
    assert [name for name, _ in matrices(quantised)] == [n for n, _ in matrices(model) if "layers.1" not in n]


@pytest.mark.parametrize("recipe", [Recipe(INT4), Recipe(INT8, head=INT8), Recipe(INT8, activations="token")])
def test_bf16_activations_stay_near_fp32(recipe):
    model = wide_model(tie_word_embeddings=True).pack()
    exact = quantise(model, recipe)(BATCH)
    half = quantise(model, Recipe(**{**vars(recipe), "computes_in": torch.bfloat16}))
    assert half.dtype == torch.bfloat16
    assert half.embed_tokens(torch.tensor([1])).dtype == torch.bfloat16
    assert (half(BATCH) - exact).abs().max() < 0.1 * exact.abs().max()
    if recipe.weights == INT4:
        kinds = {type(m.product) for m in half.modules() if hasattr(m, "product")}
        assert kinds == {CodedProduct if kernels().functions else Int4Product} or (
            torch.backends.cpu.get_cpu_capability() == "DEFAULT"
        )


def test_a_copy_serves_larger_batches_with_the_same_weights():
    model = wide_model().pack()
    small, copy = quantise(model, Recipe(INT4)), quantise(model, Recipe(INT4, most_rows=2))
    for batch in (FlatBatch.pack([[1, 2]]), BATCH):
        torch.testing.assert_close(copy(batch), small(batch), atol=1e-4, rtol=0)
    linears = [linear for name, linear in matrices(model) if name != "lm_head"]
    extra = sum(4 * linear.in_features * linear.out_features for linear in linears)
    assert weight_nbytes(copy) == weight_nbytes(small) + extra


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_engine_gives_the_tokens_of_the_plain_loop_with_the_same_weights(dtype):
    model = quantise(wide_model().pack(), Recipe(INT4, head=Q8_0, computes_in=dtype))
    draw = random.Random(0)
    prompts = [[draw.randrange(112) for _ in range(draw.randrange(1, 9))] for _ in range(60)]
    alone = [generate(model, prompt, 3) for prompt in prompts]
    clear = [
        i for i, answer in enumerate(alone) if answer.min_margin > (0 if dtype == torch.float32 else 0.15)
    ]
    assert len(clear) > 3, "16 bits leave near ties, which another order of sums decides"
    batcher = ContinuousBatcher(model, PagedKVCache.for_model(model, 8, 4), chunk_size=3)
    for i in clear:
        batcher.add_request(Request(i, prompts[i], 3))
    answers = batcher.run()
    assert {i: answers[i].token_ids for i in clear} == {i: list(alone[i].token_ids) for i in clear}


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(layers=[2]), "the model has layers 0 to 1, the recipe names 2"),
        (Recipe(INT4, activations="token"), "int8 activations need"),
        (Recipe(None, activations="token"), "int8 activations need"),
        (Recipe(most_rows=0), "most_rows must be above 0"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(recipe, words):
    with pytest.raises(ValueError, match=words):
        quantise(twin(reference("llama")), recipe)


def test_the_default_model_is_on_its_own_grid():
    """Its file is Q4_1 and Q8_0: int4 gives every weight back, and so the fp32 tokens."""
    model, _ = checkpoint.load()
    packed = quantise(model, Recipe(INT4, head=Q8_0))
    assert weight_nbytes(packed) < 0.18 * 4 * 134_515_008
    for name, linear in list(matrices(model))[::13]:
        assert torch.equal(packed.get_submodule(name).product.quantised.dequantise(), plain_weight(linear))
    prompt = list(range(100, 108))
    assert generate(packed, prompt, 3).token_ids == generate(model, prompt, 3).token_ids
    if not NativePasses.serves(packed):
        pytest.skip("native passes need native kernels")
    plain = build(config_from_file(checkpoint.locate()), read_tensors(checkpoint.locate()))
    logits = []
    for own in (plain, packed):
        own.native_passes = NativePasses(own)
        logits.append(
            [own(batch, cache) for cache in [PagedKVCache.for_model(own, 20)] for batch in own_batches()]
        )
    torch.testing.assert_close(logits[0], logits[1], atol=1e-3, rtol=1e-4)


def own_batches():
    """A prompt, a token after it, and the token beside another sequence."""
    return [
        FlatBatch.pack([list(range(100, 108))]),
        FlatBatch.pack([[7]], [8]),
        FlatBatch.pack([[9], [50, 60, 70]], [9, 0]),
    ]
