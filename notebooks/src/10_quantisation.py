# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,nbgrader,slideshow,-all
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 Quantisation and pruning
#
# **Promise.** You will store the real model's weights in 4 bits without changing one token of an answer. You will destroy
# the model with another format of 4 bits. Then you will measure on a fixed text what each format costs: for weights, for
# activations, and for the KV cache. And you will see what it costs to leave weights out.
#
# **You need** [chapter 1](01_memory_math.ipynb) (bytes of weights) and [chapter 2](02_prefill_decode_profiling.ipynb)
# (decode reads every weight once). About 75 minutes.
#
# **We measure** quality beside fp32, bytes, and the time of products with few bits. A number of *few bits* has 8 bits or
# less; a *wide* one has 16 or 32.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# ## Feel the problem: four bits, and nothing left
#
# A decode step reads all weights once (chapter 2). So weights of a quarter of the size should make it up to four times as
# fast. Here is what one would write first: 15 evenly spaced values around 0, which reach to the largest weight of a
# matrix. Each weight becomes the nearest of these values. How much is lost? We let the changed model read a fixed text,
# the licence of this course. Then we compare the probabilities that it gives to each next token with those of the
# unchanged model.

# %%
from pathlib import Path

import torch

from helpers.compression import Yardstick
from helpers.model import checkpoint

model, tokenizer = checkpoint.load(device="cpu")
licence = tokenizer((Path("..") / "LICENSE").read_text()).input_ids
yardstick = Yardstick(model, [licence[600:696], licence[1200:1296]])
print(f"{yardstick.num_tokens} tokens of the licence; unchanged: {yardstick.measure(model)}")

# %% [markdown]
# Three numbers. The [**KL divergence**](../docs/glossary.md#kl-divergence) (Kullback-Leibler) says how far a model's
# probabilities are from the original's, in nats a token; 0 means equal. (A *nat* is the unit of natural logarithms.)
# *Top-1* is the share of positions at which both models have the same likeliest next token. The
# [**perplexity**](../docs/glossary.md#perplexity) is the exponential of the mean negative log-probability of the text's
# own next tokens. Smaller is better. But a perplexity is not compared with the original, and so it may even fall while
# answers change.

# %%
from helpers.compression import reweighted, rounded
from helpers.estimates import NumberFormat


def with_weights_in(fmt):
    """The model with every matrix of its layers rounded to a format; head and embedding stay."""
    return reweighted(model, lambda name, weight: rounded(weight, fmt))


first_idea = NumberFormat(4, "tensor")
lost = {first_idea: yardstick.measure(with_weights_in(first_idea))}
print(first_idea, "->", lost[first_idea])

# %% [markdown]
# Nearly nothing of the model is left. A *step* is the distance between two neighbouring values. The weights moved by half
# a step at most, as intended. But the values must reach to the largest weight of a whole matrix, so a single large weight
# makes the steps wide. Then most other weights become zero. One matrix shows it:

# %%
from helpers.compression import matrices, plain_weight

names = dict(matrices(model))
weight = plain_weight(names["layers.11.mlp.down_proj"])
zeros = (rounded(weight, first_idea) == 0).float().mean()
print(f"largest weight {weight.abs().max():.2f}, median {weight.abs().median():.3f}")
print(f"weights that became 0: {zeros:.0%}")

# %% [markdown]
# ## The idea in a picture
#
# [**Quantisation**](../docs/glossary.md#quantisation) stores whole numbers in place of weights. Such a *code* stands for
# a value on a *grid*, the list of all values that a weight can have:
#
# $$w \approx (\mathrm{code} - \mathrm{zero}) \cdot \mathrm{scale} + \mathrm{minimum}$$
#
# `scale` is the step. `minimum` is the value of the smallest code, or 0; `zero` is the code that stands for 0, where
# there is no minimum. The smaller the part of a matrix that shares a grid, the finer the grid. A
# [group](../docs/glossary.md#groups) (chapter 1) is some neighbouring weights of a row, inputs of one output. Here are 32
# weights of that matrix on four grids with 4 bits:

# %%
from helpers.compression import quantise_matrix
from helpers.display import plots
from helpers.figures import draw_grids

codes, grids = torch.arange(16.0), {}
for label, fmt in (
    ("matrix", first_idea),
    ("row", NumberFormat(4, "row")),
    ("group", NumberFormat(4, 32)),
    ("group,\nminimum", NumberFormat(4, 32, "minimum")),
):
    grid = quantise_matrix(weight, fmt).grid
    own = grid._replace(scale=grid.scale[0, 0], zero=grid.zero[0, 0], minimum=grid.minimum[0, 0])
    grids[label] = own.values(codes).tolist()
fig = draw_grids(weight[0, :32].tolist(), grids, "32 weights, and the values that 4 bits can have")
plots.show(
    fig, alt="Dots on four lines of ticks; the ticks are few for a matrix, dense for a group"
)

# %% [markdown]
# On the first line only one value, 0, is in the picture: the others lie outside. Three of the grids are **symmetric**:
# they lie around 0, and only a scale is stored beside the codes. The last one begins at the group's own minimum, which is
# stored, too. On this line every weight lies exactly on a value; section "Prove it" says why.
#
# ## Build it
#
# A format is data: bits, group, what is stored beside a scale, and the scale's type. It knows its bytes, and chapter 1's
# calculator takes it:

# %%
from helpers.compression import INT4, INT8
from helpers.display import Table
from helpers.estimates import bytes_per_element

FORMATS = [NumberFormat(2, 32, "minimum"), NumberFormat(3, 32, "minimum"), NumberFormat(4, "row")]
FORMATS += [NumberFormat(4, 64, "minimum"), NumberFormat(4, 32), INT4, INT8]
shapes = [(linear.out_features, linear.in_features) for linear in names.values()]
layer_bytes = {fmt: sum(fmt.nbytes(*shape) for shape in shapes) for fmt in FORMATS}
count = sum(rows * columns for rows, columns in shapes)
rows = [
    (fmt, f"{8 * nbytes / count:.2f}", f"{8 * bytes_per_element(fmt):.2f}", f"{nbytes / 1e6:.1f}")
    for fmt, nbytes in layer_bytes.items()
]
rows += [("fp32", 32, 32, f"{4 * count / 1e6:.1f}")]
Table(("format", "bits a weight", "by chapter 1", "MB of the layers"), rows)

# %% [markdown]
# **"4 bits" are 4.02, 4.5 or 5 bits a weight**, with scales and minima. (One scale a row is so little that chapter 1 does
# not count it. The scales of `INT8` are fp32, all others fp16.)
#
# The definition is short. `Grid.codes` computes `((weights - minimum) / scale + zero).round().clamp(lowest, highest)`,
# and `Grid.values` is the way back. Scale and minimum are mostly stored in 16 bits, so they are rounded, too. Where the
# grid then no longer reaches all its weights, the scale is rounded up and the minimum down:

# %%
from helpers.compression import Grid, pack_codes
from helpers.display import show_source

show_source(Grid.codes)

# %%
show_source(Grid.values)

# %%
from helpers.compression import grid_between

show_source(grid_between)

# %% [markdown]
# In `Grid.codes`, `clamp` comes after `round`. It is for weights outside their grid, which GPTQ (below) can make. Without
# it such a weight might get the code 16, which does not fit into 4 bits: the lowest 4 bits of 16 are all 0. Two codes of
# 4 bits share a byte:

# %%
show_source(pack_codes)

# %%
two = pack_codes(torch.tensor([[1, 15]]), 4)
print(f"codes 1 and 15 in one byte: 0x{two.item():02X}, the first one in the lower half")

# %% [markdown]
# Three points of this code are easy to get wrong, and formats differ in them:
#
# - The sign of the offset: it is `(code - zero) * scale` here, in AWQ and in GPTQ, but Ascend's operators *add* an offset
#   to the code.
# - The axis of the scales: a scale belongs to an output, or to a group of its weights. A scale for each input could not
#   be multiplied after the sum.
# - The half of a byte that comes first. If the reader takes the other half first, neighbouring weights change places.
#
# ## Prove it
#
# **No weight may move by more than half a step.** We check three matrices, in every format:


# %%
def farthest(fmt):
    """The largest error of any weight of three matrices, in steps of its own group."""
    found = 0.0
    for name in ("layers.0.attn.qkv_proj", "layers.11.mlp.down_proj", "layers.29.mlp.gate_up_proj"):
        weight = plain_weight(names[name])
        quantised = quantise_matrix(weight, fmt)
        assert quantised.nbytes == fmt.nbytes(*weight.shape)
        step = quantised.scale.float()
        if isinstance(fmt.group, int):
            step = step.repeat_interleave(fmt.group, dim=1)[:, : weight.shape[1]]
        found = max(found, float(((quantised.dequantise() - weight).abs() / step).max()))
    return found


print("half a step at most, in every format:", all(farthest(fmt) <= 0.5001 for fmt in FORMATS))

# %% [markdown]
# **The kernels must compute the same product as the definition**: dequantise the matrix, then multiply in fp32.
# `product_of` chooses the fastest product that this machine has for a format. (On some machines that is the definition
# itself.)

# %%
from helpers.compression import product_of

torch.manual_seed(0)
x = torch.randn(3, weight.shape[1])
for fmt in (NumberFormat(4, 64, "minimum"), INT4, INT8):
    quantised = quantise_matrix(weight, fmt)
    expected = x @ quantised.dequantise().T
    found = product_of(quantised, x)(x)
    apart = float((found - expected).abs().max() / expected.abs().max())
    print(f"{fmt!s:28} product equal to 1e-5: {apart < 1e-5}")

# %% [markdown]
# And here is a surprise. Take 4 bits in groups of 32, with a minimum:

# %%
from helpers.compression import Q8_0, Recipe, quantise, weight_nbytes
from helpers.model import chat_prompt, generate

packed = quantise(model, Recipe(INT4, head=Q8_0))
same = all(torch.equal(rounded(plain_weight(m), INT4), plain_weight(m)) for m in names.values())
print("every weight of the layers comes back exactly:", same)
prompt = chat_prompt(tokenizer, "Why is the sky blue?")
answers = [generate(m, prompt, 6).token_ids for m in (model, packed)]
print(f"{len(answers[0])} tokens equal to fp32's:", answers[0] == answers[1])
share = weight_nbytes(packed) / (4 * sum(p.numel() for p in (*model.parameters(),)))
print(f"{weight_nbytes(packed) / 1e6:.1f} MB, {share:.3f} of fp32's")

# %% [markdown]
# **Nothing is lost here: it was lost before.** The file of this course's model has this very format: GGUF's Q4_1, which
# is groups of 32 with a scale and a minimum in fp16. (Its embedding is in Q8_0: 8 bits, groups of 32.) The fp32 weights
# that we have computed with since chapter 0 lie on that grid. On its own grid every number comes back. So our codes,
# scales and packing are right to the last bit. But it is a trap, too: **this model cannot show what 4 bits cost a
# 16-bit checkpoint.** A report with these lines alone would say that int4 costs nothing. All other formats below
# quantise weights that were quantised before, and they do cost something.
#
# `quantise` returns a model that works everywhere in this course. Here the packed model runs in the engine of chapter 5,
# on pages (chapter 6). We compare with plain generation, one prompt after the other, with the same weights:

# %%
from helpers.caches import PagedKVCache
from helpers.engine import ContinuousBatcher, Request

questions = ["What is the capital of France?", "Name a colour.", "Why is the sky blue?"]
prompts = [chat_prompt(tokenizer, question) for question in questions]
batcher = ContinuousBatcher(packed, PagedKVCache.for_model(packed, 64, 16), chunk_size=16)
for number, prompt in enumerate(prompts):
    batcher.add_request(Request(number, prompt, 3))
served = batcher.run()
alone = [generate(packed, prompt, 3).token_ids for prompt in prompts]
print("the engine's tokens are the plain loop's:", [served[i].token_ids for i in range(3)] == alone)

# %% [markdown]
# ## Measure it: quality
#
# Here is the measurement of the beginning, for each format. Weights in few bits are the same numbers on every processor,
# so the printed digits are the same everywhere, too:

# %%
for fmt in FORMATS[1:]:
    lost[fmt] = yardstick.measure(with_weights_in(fmt))
Table(("format", "MB", "KL, top-1, perplexity"),
      [(fmt, f"{layer_bytes[fmt] / 1e6:.1f}", lost[fmt]) for fmt in FORMATS[1:]])  # fmt: skip

# %% [markdown]
# On any grid but the file's own, something is lost: with larger groups, with a symmetric grid, with one bit less. On a
# 16-bit checkpoint no grid has such an advantage, and the order of these lines may be another.
#
# In all these lines embedding and output matrix stayed wide. Quantise them only on purpose: the output matrix decides
# between neighbouring tokens, and a tool that quantises "every matrix" takes it along.
#
# ## Activations, too: W8A8
#
# int4 weights save reading, but they become wider numbers before they are multiplied, so the arithmetic is no faster. For
# long prompts and large batches arithmetic is the limit. There 8 bits help: many processors and NPUs multiply int8
# numbers faster, if **both** factors are int8. That is [**W8A8**](../docs/glossary.md#w8a8): weights of 8 bits,
# activations of 8 bits. Activations are not known in advance. So each token's scale is computed when the token comes:

# %%
from helpers.compression import dynamic_int8

show_source(dynamic_int8)

# %% [markdown]
# The sums of int8 products are whole numbers, exact in int32 on every machine. There are two scales, one for the token
# and one for the output. The sum runs over the *input channels*, the positions in the input vector. Neither scale depends
# on the channel. So both can be taken out of the sum and multiplied afterwards. We try one scale for all tokens, then one
# for each token:


# %%
def with_int8(model, per):
    """The quality of int8 weights and int8 activations."""
    return yardstick.measure(quantise(model, Recipe(INT8, activations=per)))


w8a8 = {per: with_int8(model, per) for per in ("tensor", "token")}


def bound(quality):
    """The first of a few round numbers that the divergence stays under."""
    return next(limit for limit in (0.01, 0.03, 0.1, 0.3, 1, 100) if quality.divergence < limit)


for per, quality in w8a8.items():
    print(f"W8A8, one scale per {per}: KL below {bound(quality)}")

# %% [markdown]
# (We print bounds, not digits. Processors add in different orders, and a sum that differs in its last bit may round to
# the next int8 number.) Why is a shared scale so bad? We call a channel *loud* when its activations are large. `calibrate` lets the
# model read sample texts and keeps the largest activation of each channel:

# %%
from helpers.compression import calibrate
from helpers.display import shown_bar

LAYERS = ("layers.11.mlp.down_proj", "layers.29.mlp.gate_up_proj", "layers.11.attn.qkv_proj")
texts = [licence[i : i + 192] for i in (300, 900, 1500)]
seen = calibrate(model, texts, grams=LAYERS, tell=shown_bar(len(names), "matrices seen").step)

# %%
from helpers.figures import draw_channels

fig = draw_channels({name: seen[name].largest for name in LAYERS}, "Inputs of three matrices")
plots.show(fig, alt="Three falling lines; one starts a thousand times above its middle")
for name in LAYERS:
    print(f"{name}: loudest to median channel {seen[name].outlier_ratio:,.0f} to 1")

# %% [markdown]
# An [**outlier**](../docs/glossary.md#outlier) is a channel, or a weight, that is many times as large as its neighbours.
# In `down_proj` of layer 11 the loudest channel is thousands of times as loud as the median one. With a scale that fits
# this channel, nearly all others become zero. A scale for each channel would help, but cannot be taken out of the sum.
# The solution is to *move* the factor into the weights. [**SmoothQuant**](../docs/glossary.md#smoothquant)
# ([arXiv:2211.10438](https://arxiv.org/abs/2211.10438)) divides a channel's activations where they are made, and
# multiplies the weights that read them by the same factor. The product stays the same. The factor is chosen so that
# neither side has very large numbers:

# %%
from helpers.compression import rescaled, smooth

show_source(smooth)

# %%
show_source(rescaled)

# %%
smoothed = smooth(model, seen)
print("smoothed, nothing quantised:", yardstick.measure(smoothed))
w8a8 |= {f"{per}, smoothed": with_int8(smoothed, per) for per in ("tensor", "token")}
for per, quality in w8a8.items():
    print(f"W8A8, one scale per {per}: KL below {bound(quality)}")
kl = {per: quality.divergence for per, quality in w8a8.items()}
print("smoothed < per token < per tensor:", kl["token, smoothed"] < kl["token"] < kl["tensor"])
print("W8A8, smoothed, loses at most 0.03:", kl["token, smoothed"] <= 0.03)

# %% [markdown]
# The usual mistake with smoothing is to multiply the weights and to forget to divide the activations. Then the model has
# changed before anything is quantised, and the first line above would show it.
#
# ## Keys and values, too: a cache of 8 bits
#
# A long context is read from the cache, not from the weights. So the cache is the next thing to store in int8. Each token
# and head has a scale of its own, a bf16 number, computed when the key or the value is written. A head of this model has
# 64 numbers. How many bytes does it take, and what does the model lose when attention reads codes?

# %%
from helpers.caches import Int8KVCache, Int8PagedKVCache, KVCache
from helpers.model import FlatBatch

text, cache_bytes, read = licence[600:696], {}, {}
for kind in (KVCache, Int8KVCache):
    cache = kind.for_model(model, 1, len(text))
    cache_bytes[kind] = cache.nbytes
    read[kind] = model(FlatBatch.pack([text]), cache, logits="all").log_softmax(-1)
wide, small = read.values()
divergence = float((wide.exp() * (wide - small)).sum(-1).mean())
fp32, int8 = 4 * model.cfg.head_dim, model.cfg.head_dim + 2  # codes and a scale
print(f"a head of one token: {int8} bytes, in fp32 {fp32}, in 16 bits {fp32 // 2}")
print(f"tokens in the same memory: {fp32 / int8:.2f} x fp32's, {fp32 / 2 / int8:.2f} x of 16 bits")
print(
    "bytes of the caches as counted:",
    cache_bytes[KVCache] * int8 == cache_bytes[Int8KVCache] * fp32,
)
print("KL below 0.01:", divergence < 0.01)

# %% [markdown]
# The engine needs no change: `Int8PagedKVCache` has the pages of chapter 6, and a page is codes with scales. The proof is
# the usual one, beside plain generation over int8 rows. (The fp32 weights are used here. A quantised model works with it
# in the same way.)

# %%
batcher = ContinuousBatcher(model, Int8PagedKVCache.for_model(model, 64, 16), chunk_size=16)
for number, prompt in enumerate(prompts):
    batcher.add_request(Request(number, prompt, 4))
served = batcher.run()
alone = [generate(model, p, 4, Int8KVCache.for_model(model, 1, 64)).token_ids for p in prompts]
print(
    "tokens on int8 pages are those on int8 rows:", [served[i].token_ids for i in range(3)] == alone
)

# %% [markdown]
# When does it help? More tokens fit in any case. A decode step gets faster where the cache is a large part of what the step
# reads. Predicted by bytes, for Llama-3-8B with weights of 16 bits on an Ascend 910B4:

# %%
from dataclasses import replace

from helpers.estimates import accelerator_ceilings, decode_cost
from helpers.model import PUBLISHED

llama, limits, rows = PUBLISHED["Llama-3-8B"], accelerator_ceilings("Ascend 910B4"), []
share = (llama.head_dim + 2) / (2 * llama.head_dim)  # codes and a scale, over numbers of 16 bits
for batch, context in ((1, 512), (16, 2048), (32, 4096)):
    cost = decode_cost(llama, context, batch)
    both = cost.seconds(limits), replace(cost, kv_bytes=share * cost.kv_bytes).seconds(limits)
    rows.append(
        (batch, context, *(f"{1e3 * s:.1f} ms" for s in both), f"{both[0] / both[1]:.2f} x")
    )
Table(("requests", "tokens each", "16 bits", "int8", "faster"), rows, "A decode step, predicted")

# %% [markdown]
# One short request gains nothing. With many long requests the cache is as large as the weights, and the step gets faster.
# (The prediction leaves out the work of unpacking. Lab 10 adds it.)
#
# ## Rounding for the outputs
#
# So far each weight became its nearest value. But what counts is the error of the **outputs**, not that of the weights,
# and inputs are not equally loud. Here are two ideas, tried on three matrices with 4 bits in groups of 64:
#
# - [**GPTQ**](../docs/glossary.md#gptq) ([arXiv:2210.17323](https://arxiv.org/abs/2210.17323)) rounds column after
#   column, and changes the columns that are still to come so that they correct the error of the outputs. The argument
#   `gram` is the matrix $x^T x$ of the sample inputs: it says which channels are large together.
# - [**AWQ**](../docs/glossary.md#awq) ([arXiv:2306.00978](https://arxiv.org/abs/2306.00978)) multiplies the weights of
#   loud channels by a factor before rounding, and divides these channels by it, as SmoothQuant does.

# %%
from helpers.compression import gptq

show_source(gptq)

# %%
from helpers.compression import activation_aware_scales, output_error
from helpers.display import with_bar

fmt, rows, better = NumberFormat(4, 64, "minimum"), [], []
for name in with_bar(LAYERS, "matrices rounded"):
    weight, gram = plain_weight(names[name]), seen[name].gram
    scale = activation_aware_scales(weight, gram, fmt)
    ways = {"nearest": rounded(weight, fmt), "GPTQ": gptq(weight, gram, fmt).dequantise()}
    ways["AWQ"] = rounded(weight * scale, fmt) / scale
    moved = {way: output_error(found - weight, gram) for way, found in ways.items()}
    rows.append((name, *(f"{moved[way] / moved['nearest']:.2f}" for way in ways)))
    better.append(max(moved["GPTQ"], moved["AWQ"]) < moved["nearest"])
print("both move the outputs less than rounding to the nearest:", all(better))
Table(("matrix", "nearest", "GPTQ", "AWQ"), rows, "Squared output error, relative")

# %% [markdown]
# In the table the error of the nearest values is 1, and smaller is better. In `down_proj` of layer 11 nearly all of the
# error comes from its loud channels (the figure above), so both ways help most there. Both ways need sample texts, and
# both can fit these texts too closely: a calibration on one kind of text may cost quality on another. So calibrate on
# many texts of many kinds.
#
# ## Pruning: leave weights out
#
# [**Pruning**](../docs/glossary.md#pruning) sets weights to zero. Which ones? There are four choices:
#
# - *magnitude*: the smallest weights;
# - [Wanda, arXiv:2306.11695](https://arxiv.org/abs/2306.11695): weights that are small *and* multiply quiet channels;
# - *2:4*: two of each four neighbours, a pattern that some GPUs can skip;
# - whole layers.

# %%
from helpers.compression import importance, keep_largest, keep_two_of_four, without_layers


def pruned(keep, wanda=True):
    """The quality with the weights that `keep` chooses, by size alone or as Wanda does."""

    def change(name, weight):
        return weight * keep(importance(weight, seen[name].squares if wanda else None))

    return yardstick.measure(reweighted(model, change))


half = {"half, magnitude": pruned(lambda scores: keep_largest(scores, 0.5), wanda=False)}
half["half, Wanda"] = pruned(lambda scores: keep_largest(scores, 0.5))
half["2:4, Wanda"] = pruned(keep_two_of_four)
half["layer 26 left out"] = yardstick.measure(without_layers(model, {26}))
Table(("what is zero", "KL, top-1, perplexity"), list(half.items()))

# %% [markdown]
# And the time? A product multiplies zeros like all other numbers: it does not test for them. We compare a dense matrix
# with the same one after pruning, for one token and for many:

# %% tags=["skip-emulated"]
from helpers.display import measured
from helpers.machine import Stopwatch

dense = plain_weight(names["layers.11.mlp.down_proj"])
sparse = dense * keep_two_of_four(importance(dense))


def product_seconds(weight, x):
    """Seconds of one product in fp32, the best of twenty."""
    seconds = []
    for _ in range(20):
        with Stopwatch(model.device) as watch:
            torch.nn.functional.linear(x, weight)
        seconds.append(watch.seconds)
    return min(seconds)


# %% tags=["skip-emulated"]
print(f"{(sparse == 0).float().mean():.0%} of the pruned matrix are zeros")
rows = []
for tokens in (1, 64):
    x = torch.randn(tokens, dense.shape[1])
    both = (product_seconds(weight, x) for weight in (dense, sparse))
    rows.append((tokens, *map(measured, both)))
Table(("tokens", "dense", "half of it zeros"), rows, "One product, with and without zeros")

# %% [markdown]
# **Scattered zeros save no time here**: nothing in this product looks at the numbers before it multiplies them. (Where
# the two columns differ, it is by the noise of the clock.) And half of the weights take more than half of the memory:
# the positions of the weights that stay must be stored, too. Leaving out a layer does save its time: here that of 1
# layer of 30. The figure is generous to pruning and counts no positions. Even so, at equal bytes nothing pruned comes
# near 8 bits:

# %%
from helpers.figures import draw_quality

labels = ("int3", "int4, rows", "int4, groups of 64", "int4, symmetric", "int4, its grid", "int8")
found = [(layer_bytes[fmt], lost[fmt].divergence) for fmt in FORMATS[1:]]
points = {"few bits": dict(zip(labels, found))}
points["pruned, fp16"] = {
    "half, magnitude": (2 * count // 2, half["half, magnitude"].divergence),
    "half, Wanda": (2 * count // 2, half["half, Wanda"].divergence),
    "29 layers": (2 * count * 29 // 30, half["layer 26 left out"].divergence),
}
fig = draw_quality(points, "Quality against bytes (pruned: zeros count no bytes)")
plots.show(
    fig, alt="int8 far below all pruned models, at the same or fewer bytes; int4 lower still"
)

# %% [markdown]
# ## Measure it: time
#
# Prediction first. A pass reads every weight of the layers once. With this machine's bandwidth (chapter 2), reading the
# weights of *one* layer takes at least:

# %% tags=["skip-emulated"]
from helpers.measurements import host_ceilings

ceilings, layers = host_ceilings(model.device), model.cfg.num_layers
one_layer = {"bf16": 2 * count, "int8": layer_bytes[INT8], "int4": layer_bytes[INT4]}
rows = [
    (name, f"{nbytes / layers / 1e6:.1f}", measured(nbytes / layers / ceilings.bandwidth))
    for name, nbytes in one_layer.items()
]
Table(("weights of one layer", "MB", "at the bandwidth"), rows)

# %% [markdown]
# Now the products of one layer as they are. Where there is a C++ compiler, the course's own kernels multiply by codes
# (chapter 9). Without one, PyTorch's kernels do, which want activations in bf16. Either way each code becomes a wide
# number in a register before it is multiplied. For one token the processor may do this work while it waits for memory.
# For many tokens the work counts. There the course first writes the wide numbers to memory, if that was measured to be
# faster on this machine.

# %% tags=["skip-emulated"]
from helpers.model import Linear

LAYER = [linear for name, linear in names.items() if name.startswith("layers.5.")]
bf16 = torch.empty(0, dtype=torch.bfloat16)  # says which inputs the products must take


def wide_product(linear):
    """A product with bf16 weights, as PyTorch packs them for this processor."""
    wide = Linear(linear.in_features, linear.out_features, bias=False).to(torch.bfloat16)
    wide.pack(1)
    return wide


def products(fmt):
    """The products of one layer in a format."""
    return [product_of(quantise_matrix(plain_weight(m), fmt), bf16) for m in LAYER]


ways = {"bf16": [wide_product(m) for m in LAYER], "int8": products(INT8), "int4": products(INT4)}


# %% tags=["skip-emulated"]
@torch.no_grad()
def fastest(way, rows):
    """Seconds of one layer's products for `rows` tokens, the best of nine."""
    inputs = [torch.randn(rows, m.in_features, dtype=torch.bfloat16) for m in LAYER]
    seconds = []
    for _ in range(9):
        with Stopwatch(model.device) as watch:
            for product, x in zip(way, inputs):
                product(x)
        seconds.append(watch.seconds)
    return min(seconds)


ROWS = (1, 2, 4, 8, 16, 32)
times = {name: {rows: fastest(way, rows) for rows in ROWS} for name, way in ways.items()}
cells = [(rows, *(measured(line[rows]) for line in times.values())) for rows in ROWS]
Table(("tokens in a pass", *times), cells)

# %% tags=["skip-emulated", "measured"]
from helpers.figures import draw_over_rows

in_ms = {name: {n: 1e3 * s for n, s in line.items()} for name, line in times.items()}
fig = draw_over_rows(in_ms, "The products of one layer on this machine", "ms")
plots.show(fig, alt="Three lines that rise with the tokens of a pass, for bf16, int8 and int4")

# %% [markdown]
# Compare the first row with the prediction. Three things keep few bits from being as fast as their bytes say: the work of
# unpacking, the start of each product, and the processor's own caches. One layer may fit into these caches, and then
# memory does not limit this measurement at all; a whole model does not fit. int4 reads fewer bytes than int8 but has more
# to unpack, so it need not be faster. For many tokens, bf16 weights spare the unpacking, and the course's kernels unpack
# a part of the matrix once for all tokens. Whether the lines cross, and where, depends on the machine.
#
# The course's int4 kernel borrows the fast products of W8A8 without their loss. It writes each activation in three digits of
# 8 bits, to 2^-22 of the largest of its 32 neighbours. Digits times codes are whole numbers, so their sums are exact.
#
# `Recipe(INT4, most_rows=...)` keeps both forms: few bits for passes of up to that many tokens, and a wide copy for larger
# ones. The price is the memory of the copy. Now whole decode steps of one request, with all weights and all other
# operators:

# %% tags=["skip-emulated"]
HALF = torch.bfloat16
few = {
    "int8": quantise(model, Recipe(INT8, head=INT8, computes_in=HALF)),
    "int4": quantise(model, Recipe(INT4, head=INT8, computes_in=HALF)),
}


def steps_per_second(model, count=12):
    """Tokens per second of one request after a prompt of 64 tokens, the prompt not counted."""
    cache = KVCache.for_model(model, 1, 128)
    generate(model, licence[:64], 1, cache)
    with Stopwatch(model.device) as watch:
        generate(model, licence[: 64 + 1], count, cache, cached=64)
    return count / watch.seconds


# %% tags=["skip-emulated"]
wide_mb = f"{4 * sum(p.numel() for p in model.parameters()) / 1e6:.0f} MB"
rows = [("fp32, as loaded", measured(steps_per_second(model), "tok/s"), wide_mb)]
for name, smaller in few.items():
    speed = measured(steps_per_second(smaller), "tok/s")
    rows.append((name, speed, f"{weight_nbytes(smaller) / 1e6:.0f} MB"))
low = bound(yardstick.measure(few["int4"])) <= 0.01
print("KL of int4 weights, an int8 head and bf16 activations below 0.01:", low)
Table(("weights", "one request", "weights take"), rows)

# %% [markdown]
# Read this table with chapter 9 in mind. Where there is a C++ compiler, each of these models computes a token in one native
# call, and their products decide. Without one, the models of few bits call operator after operator, in 16 bits, and what
# their products save may be lost there: a faster kernel does not always make a faster step. (llama.cpp reads the same
# file with 4 bits: `benchmarks/` measures the course beside it, for decode steps and for prompts.)
#
# ## Sweep it
#
# Choose the bits, the group, and which matrices are quantised; the other matrices of the layers count 16 bits a weight.
# The quality is measured on 32 tokens only, so this perplexity is not the one above. Tokens per second are predicted for
# one request with 512 tokens in its cache, on two accelerators whose memories differ in bandwidth. Find the smallest
# format whose KL stays below 0.5, first with all layers, then with the MLP alone.

# %%
from helpers.display import SweepPanel, dropdown, int_slider
from helpers.model import ModelShape

short = Yardstick(model, [licence[600:632]])
shape = ModelShape.from_file(checkpoint.locate())
PARTS = {"all layers": ("qkv", "o_proj", "gate_up", "down"), "attention": ("qkv", "o_proj")}
PARTS["MLP"] = ("gate_up", "down")


# %%
def sweep(bits, group, part):
    """Quality, bytes, and the speed that an accelerator could reach, for a choice of weights."""
    fmt = NumberFormat(bits, group, "minimum")
    chosen = {name for name in names if any(word in name for word in PARTS[part])}
    change = reweighted(model, lambda n, w: rounded(w, fmt) if n in chosen else w)
    quality = short.measure(change)
    nbytes = sum(
        fmt.nbytes(m.out_features, m.in_features) if name in chosen else 2 * m.weight.numel()
        for name, m in names.items()
    )
    point = {f"{bits} bits": (nbytes, quality.divergence)}
    fig = draw_quality({"here": point}, f"{fmt}: {part}", most=2.2 * count)  # 16 bits are 2 * count
    return fig, describe(quality, nbytes)


# %%
def describe(quality, nbytes):
    """The table beside the figure; tokens per second are predicted from bytes."""
    rows = [("KL, top-1, perplexity", str(quality)), ("MB of the layers", f"{nbytes / 1e6:.1f}")]
    for name in ("Ascend 910B4", "Ascend 910C (one die)"):
        limits = accelerator_ceilings(name)
        seconds = decode_cost(shape, 512, weight_bytes=nbytes / count).seconds(limits)
        rows.append((f"tokens/s at most, {name}", f"{1 / seconds:,.0f}"))
    return Table(("", "here"), rows)


SweepPanel(
    sweep,
    {
        "bits": int_slider("bits", value=4, min=2, max=8),
        "group": dropdown("group", [32, 64, 128, "row", "tensor"]),
        "part": dropdown("quantised", list(PARTS)),
    },
    alt="One point: divergence over megabytes for the chosen format",
)

# %% [markdown]
# ## On Ascend
#
# The cube unit of 910B and 910C multiplies int8 by int8 at twice the rate of fp16, as published (chapter 2 has the table).
# torch_npu has an operator for each step:
#
# - `npu_dynamic_quant(x)` is `dynamic_int8`: int8 numbers and an fp32 scale for each token. Inputs are fp16 or bf16,
#   **not fp32**.
# - `npu_quant_matmul(x, w, scale, pertoken_scale=..., output_dtype=torch.bfloat16)` is W8A8. **Its output is int8 unless
#   told otherwise.**
# - `npu_weight_quant_batchmatmul(x, w, antiquant_scale, antiquant_offset, antiquant_group_size=...)` has weights of 4 or
#   8 bits and activations of 16 bits. It computes `(w + offset) * scale`: its offset has the **other sign** than a zero
#   point. Groups are multiples of 32.
# - `npu_add_rms_norm_dynamic_quant` and `npu_dequant_swiglu_quant` fuse the quantising with the operator before it
#   (chapter 9), so that activations are moved as int8. The second one, and `npu_swiglu_quant`, take the halves in the
#   other order unless `activate_left=True`.
# - `npu_fused_infer_attention_score_v2` (chapter 6) reads int8 keys and values, with `key_quant_mode=5` and
#   `value_quant_mode=5` for a scale of each token and head in pages. It takes one query of each request, so that prompts
#   need the numbers behind the codes. Heads and pages are multiples of 32.
#
# The next cells run these products and this attention on the device, in bf16. Where there is an NPU (or the emulated one)
# the operators above do the work, else their plain versions. Each result is compared with the definition in fp32. An error
# of some hundredths is what bf16 and int8 activations cost.

# %%
from helpers.compression import whole_product_of
from helpers.machine import choose_device, where_it_ran

device = choose_device()
torch.manual_seed(0)
on_device = dict(device=device, dtype=torch.bfloat16)
like, weight, x = torch.empty(0, **on_device), torch.randn(64, 128), torch.randn(4, 128)
for name, fmt, make in (
    ("int8 weights and activations", INT8, whole_product_of),
    ("int8 weights", INT8, product_of),
    ("int4 weights, groups of 32", NumberFormat(4, 32, "minimum"), product_of),
):
    quantised = quantise_matrix(weight, fmt)
    found = make(quantised, like).to(device)(x.to(**on_device)).cpu().float()
    expected = x @ quantised.dequantise().T
    print(f"{name:28} error below 0.03:", float((found - expected).norm() / expected.norm()) < 0.03)

# %%
cache = Int8PagedKVCache(1, 32, 2, num_kv_heads=1, head_dim=64, **on_device)
q, k, v = torch.randn(3, 9, 1, 64)
for begin, end in ((0, 8), (8, 9)):  # a prompt of eight tokens, then a decode step
    batch = FlatBatch.pack([[0] * (end - begin)], [begin], [0], device=device)
    cache.prepare(batch)
    step = (t[begin:end].to(**on_device) for t in (q, k, v))
    found = cache.attend(0, *step, batch).cpu().float()
    cache.commit(batch)
weights = torch.softmax(q[8, 0] @ k[:, 0].T / 64**0.5, -1)
expected = weights @ v[:, 0]
error = float((found[0, 0] - expected).norm() / expected.norm())
print("attention over int8 pages    error below 0.03:", error < 0.03)
print(where_it_ran(device))

# %% [markdown]
# ## In production
#
# vLLM-Ascend 0.23 and later take folders that Ascend's ModelSlim has written: int8 weights and scales beside a
# `quant_model_description.json`, which names each tensor's type, such as `W8A8_DYNAMIC`. Which matrices stay in 16 bits
# is the folder's choice. This chapter's outliers say why `down_proj` is often one of them. Engines for GPUs read AWQ's
# and GPTQ's int4, and FP8. `load_quantised` reads a folder of any of these kinds as a model of this course. Here is a
# small ModelSlim folder, made from random weights, and what comes out:

# %%
from transformers import AutoModelForCausalLM, LlamaConfig

SIZES = dict(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=1)
config = LlamaConfig(**SIZES, num_attention_heads=2, num_key_value_heads=1)
torch.manual_seed(0)
stored, kinds = {}, {}
for name, tensor in AutoModelForCausalLM.from_config(config).state_dict().items():
    parts = {name: tensor}
    if name.endswith("proj.weight"):
        codes, scale = dynamic_int8(tensor)  # one scale a row
        parts = {name: codes, f"{name}_scale": scale, f"{name}_offset": torch.zeros_like(scale)}
    stored |= parts
    kinds |= dict.fromkeys(parts, "W8A8_DYNAMIC" if len(parts) > 1 else "FLOAT")
for name in ("model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight"):
    print(f"{name}: {kinds[name]}, {stored[name].dtype}")

# %%
import json
import tempfile

from safetensors.torch import save_file

from helpers.compression import load_quantised

with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / "config.json").write_text(json.dumps(config.to_dict()))
    (Path(folder) / "quant_model_description.json").write_text(json.dumps(kinds))
    save_file(stored, Path(folder) / "quant_model_weights.safetensors")
    in_int8, behind = load_quantised(folder), load_quantised(folder, packed=False)
logits = [one(FlatBatch.pack([[5, 9, 2, 7]]), logits="all") for one in (in_int8, behind)]
error = float((logits[0] - logits[1]).norm() / logits[1].norm())
print("int8 activations beside the numbers behind the codes, error below 0.03:", error < 0.03)

# %%
from helpers.production import options_table

options_table(
    {
        "--quantization": "who wrote the folder",
        "--kv-cache-dtype": "bytes per element of the cache",
    }
)

# %% [markdown]
# ## Recap
#
# A format is a grid: bits, groups, offset, and scales, whose bytes count, too. Quality comes from small groups and from a
# grid that fits. Few bits can make products of small batches faster, because these wait for bytes, if unpacking is quick.
# Large batches need int8 in both factors, or wide weights. Outliers are moved from activations into weights by a factor
# that cancels. An int8 cache holds more tokens, and pays where the cache is large. Scattered zeros save no time here.
#
# **Check yourself.**
#
# 1. Your int4 model gives the very tokens of the original. What could that prove, and what not?
# 2. Why can a scale for each token, or for each output, be multiplied after the sum, and one for each input channel not?
#
# <details><summary>Answers</summary>
#
# 1. That codes, scales, packing and kernels are right. Not that 4 bits are harmless: the original may already lie on
#    that grid, as here.
# 2. The sum runs over input channels. A factor that is the same for all terms can be taken out; one that differs from term to
#    term cannot. It must be moved into the other factor before.
#
# </details>
#
# Now you: [Lab 10](../labs/10_quantisation.ipynb).
# Next: [11 Tensor and pipeline parallelism](11_parallelism.ipynb).
# Back: [9 Operator fusion and graph capture](09_operator_fusion.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
