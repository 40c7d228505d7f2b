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
# the model with another format of 4 bits. Then you will measure on a fixed text what each format costs, and what it costs
# to leave weights out.
#
# **You need** [chapter 1](01_memory_math.ipynb) (bytes of weights) and
# [chapter 2](02_prefill_decode_profiling.ipynb) (decode reads every weight once). About 60 minutes.
#
# **We measure** quality beside fp32, bytes, and the time of products with few bits.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# ## Feel the problem: four bits, and nothing left
#
# A decode step reads all weights once (chapter 2). So weights of a quarter of the size should make it up to four times as
# fast. Here is what one would write first: 15 evenly spaced values around 0, which reach to the largest weight of a
# matrix. Each weight becomes the nearest of these values. How much is lost? We let the real model read a fixed text, the
# licence of this course. Then we compare the probabilities that it gives to each next token with those of the unchanged
# model.

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
# own next tokens. Smaller is better. But it is not compared with the original, and so it may even fall while answers
# change.

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
# makes the steps wide. Then most other weights become zero. We look at one matrix:

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
# stored, too.
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
# not count it.)
#
# The definition is short. `Grid.codes` computes `((weights - minimum) / scale + zero).round().clamp(lowest, highest)`,
# and `Grid.values` is the way back. Scale and minimum are numbers of 16 bits, so they are rounded, too. Where the grid
# then no longer reaches all its weights, the scale is rounded up and the minimum down:

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
# - The half of a byte that comes first.
#
# ## Prove it
#
# No weight may move by more than half a step. We check three matrices, in every format:


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
# And here is a surprise. Take 4 bits in groups of 32, with a minimum:

# %%
from helpers.compression import Q8_0, Recipe, quantise, weight_nbytes
from helpers.model import chat_prompt, generate

packed = quantise(model, Recipe(INT4, head=Q8_0))
same = all(torch.equal(rounded(plain_weight(m), INT4), plain_weight(m)) for m in names.values())
print("every weight of the layers comes back exactly:", same)
prompt = chat_prompt(tokenizer, "Why is the sky blue?")
answers = [generate(m, prompt, 6).token_ids for m in (model, packed)]
print("tokens equal to fp32's:", answers[0] == answers[1])
share = weight_nbytes(packed) / (4 * sum(p.numel() for p in (*model.parameters(),)))
print(f"{weight_nbytes(packed) / 1e6:.1f} MB, {share:.3f} of fp32's")

# %% [markdown]
# **Nothing is lost, because it was lost before.** The file of this course's model has this very format: GGUF's Q4_1,
# which is groups of 32 with a scale and a minimum in fp16. (Its embedding is in Q8_0: 8 bits, groups of 32.) The fp32
# weights that we have computed with since chapter 0 lie on that grid, and on its own grid every number comes back. So our
# codes, scales and packing are right to the last bit. But it is a trap, too: **this model cannot show what 4 bits cost a
# 16-bit checkpoint.** A report with these lines alone would say that int4 costs nothing. All other formats below quantise
# weights that were quantised before, and they do cost something.
#
# `quantise` returns a model that works everywhere in this course. Here it runs in the engine of chapter 5, on pages
# (chapter 6). We compare with plain generation, one prompt after the other, with the same weights:

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
# Here is the same measurement for each format. Weights in few bits are the same numbers on every processor, so these
# lines are, too:

# %%
for fmt in FORMATS[1:]:
    lost[fmt] = yardstick.measure(with_weights_in(fmt))
Table(("format", "MB", "KL, top-1, perplexity"),
      [(fmt, f"{layer_bytes[fmt] / 1e6:.1f}", lost[fmt]) for fmt in FORMATS[1:]])  # fmt: skip

# %% [markdown]
# On any grid but the file's own, something is lost: with larger groups, with a symmetric grid, with one bit less. On a
# 16-bit checkpoint no grid has such an advantage, and the order of these lines may be another.
#
# ## Activations, too: W8A8
#
# int4 weights save reading, but they become wider numbers before they are multiplied, so the arithmetic is no faster. For
# long prompts and large batches arithmetic is the limit. There 8 bits help: many processors and NPUs multiply int8
# numbers faster, if **both** factors are int8. That is [**W8A8**](../docs/glossary.md#w8a8): weights of 8 bits,
# activations of 8 bits. Activations are not known in advance, so each token's scale is chosen when the token comes:

# %%
from helpers.compression import dynamic_int8

show_source(dynamic_int8)

# %% [markdown]
# The sums of int8 products are whole numbers, exact in int32 on every machine. There are two scales, one for the token
# and one for the output. Neither depends on the *input channel*, the place of a number in the input vector; the sum runs
# over these places. So both can be taken out of the sum and multiplied afterwards. We try one scale for all tokens, then
# one for each token:


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
# (We print bounds, not digits. A sum in another order may round to the next int8 number, so activations differ between
# processors.) Why is a shared scale so bad? We call a channel *loud* when its activations are large. `calibrate` lets the
# model read sample texts and keeps the largest activation of each channel:

# %%
from helpers.compression import calibrate
from helpers.display import shown_bar

LAYERS = ("layers.11.mlp.down_proj", "layers.29.mlp.gate_up_proj", "layers.11.attn.qkv_proj")
texts = [licence[i : i + 192] for i in (300, 900, 1500)]
seen = calibrate(model, texts, grams=LAYERS, tell=shown_bar(len(names), "matrices seen").step)

# %%
from helpers.figures import draw_channels

fig = draw_channels({name: seen[name].largest for name in LAYERS}, "What three matrices see")
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
# ## Rounding for the outputs
#
# So far each weight became its nearest value. But what counts is the error of the **outputs**, not that of the weights,
# and inputs are not equally loud. Here are two ideas, tried on three matrices with 4 bits in groups of 64:
#
# - [**GPTQ**](../docs/glossary.md#gptq) ([arXiv:2210.17323](https://arxiv.org/abs/2210.17323)) rounds column after
#   column, and changes the columns that are still to come so that they correct the error of the outputs. The argument
#   `gram` is $x^T x$ of the inputs: it says which channels are large together.
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
    rows.append((name, *(f"{moved[way] / moved['nearest']:.1f}" for way in ways)))
    better.append(max(moved["GPTQ"], moved["AWQ"]) < moved["nearest"])
print("both move the outputs less than rounding to the nearest:", all(better))
Table(("matrix", "nearest", "GPTQ", "AWQ"), rows, "Squared output error, relative")

# %% [markdown]
# In the table the error of the nearest values is 1.0, and smaller is better. Both ways need sample texts, and both can
# fit these texts too closely: a calibration on one kind of text may cost quality on another. In production one calibrates
# on a few hundred texts of many kinds.
#
# ## Pruning: leave weights out
#
# [**Pruning**](../docs/glossary.md#pruning) sets weights to zero. Which ones? The smallest; or those that are small *and*
# multiply quiet channels ([Wanda, arXiv:2306.11695](https://arxiv.org/abs/2306.11695)). One may also take two of each
# four neighbours (2:4), which some GPUs can skip, or whole layers.

# %%
from helpers.compression import importance, keep_largest, keep_two_of_four, without_layers


def pruned(keep, wanda=True):
    """The quality with the weights that `keep` chooses, by size or by size and loudness."""

    def change(name, weight):
        return weight * keep(importance(weight, seen[name].squares if wanda else None))

    return yardstick.measure(reweighted(model, change))


half = {"half, smallest": pruned(lambda scores: keep_largest(scores, 0.5), wanda=False)}
half["half, Wanda"] = pruned(lambda scores: keep_largest(scores, 0.5))
half["2:4, Wanda"] = pruned(keep_two_of_four)
half["layer 26 left out"] = yardstick.measure(without_layers(model, {26}))
Table(("what is zero", "KL, top-1, perplexity"), list(half.items()))

# %% [markdown]
# And the time? A product multiplies zeros like all other numbers: it does not test for them. We compare a dense matrix with
# the same one after pruning, for one token and for many:

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
# **Scattered zeros save no time here**: nothing in this product looks at the numbers before it multiplies them. They would
# save little memory, because the places of the weights that stay must be stored, too. Leaving out a layer does save its
# time: here that of 1 layer of 30. At equal bytes, nothing pruned comes near 8 bits:

# %%
from helpers.figures import draw_quality

labels = ("int3", "int4, rows", "int4, groups of 64", "int4, symmetric", "int4, its grid", "int8")
found = [(layer_bytes[fmt], lost[fmt].divergence) for fmt in FORMATS[1:]]
points = {"few bits": dict(zip(labels, found))}
points["pruned, fp16"] = {
    "half, smallest": (2 * count // 2, half["half, smallest"].divergence),
    "half, Wanda": (2 * count // 2, half["half, Wanda"].divergence),
    "29 layers": (2 * count * 29 // 30, half["layer 26 left out"].divergence),
}
fig = draw_quality(points, "Quality against bytes (zeros counted as if their places were free)")
plots.show(
    fig, alt="int8 far below all pruned models, at the same or fewer bytes; int4 lower still"
)

# %% [markdown]
# ## Measure it: time
#
# Prediction first. One token reads every weight of the layers; with this machine's bandwidth (chapter 2) that takes at least:

# %% tags=["skip-emulated"]
from helpers.measurements import host_ceilings

ceilings = host_ceilings(model.device)
for name, nbytes in (("fp32", 4 * count), ("int8", layer_bytes[INT8]), ("int4", layer_bytes[INT4])):
    print(f"{name}: {measured(nbytes / ceilings.bandwidth)} for the layers of one token")

# %% [markdown]
# Now the products as they are. Where there is a C++ compiler, the course's own kernels multiply by codes (chapter 9),
# else PyTorch's, which want activations in bf16. Either way each code becomes a number in registers. For one token the
# reading may hide this work; for many tokens it cannot, and the course writes the numbers out first where that was measured
# to be faster. We measure the products of one layer:

# %% tags=["skip-emulated"]
from helpers.compression import product_of
from helpers.model import Linear

LAYER = [linear for name, linear in names.items() if name.startswith("layers.5.")]
bf16 = torch.empty(0, dtype=torch.bfloat16)


def products(fmt):
    """The products of one layer: in a format, or wide, as this processor likes it best."""
    if fmt is None:
        wide = [Linear(m.in_features, m.out_features, bias=False).to(torch.bfloat16) for m in LAYER]
        for linear in wide:
            linear.pack(1)
        return wide
    return [product_of(quantise_matrix(plain_weight(m), fmt), bf16) for m in LAYER]


ways = {"wide (bf16)": products(None), "int8": products(INT8), "int4": products(INT4)}


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

fig = draw_over_rows(times, "The products of one layer on this machine", "seconds")
plots.show(
    fig, alt="Three rising lines; few bits are fastest for few tokens, wide weights for many"
)

# %% [markdown]
# Where the lines cross depends on the machine. int4 reads fewer bytes than int8 but has more to unpack, so it need not be
# faster: compare the table with the prediction. `Recipe(INT4, most_rows=...)` keeps both forms: few bits for passes of up
# to that many tokens, and a wide copy for larger ones. The price is the memory of the copy. Now whole decode steps of one
# request, with all other operators, too:

# %% tags=["skip-emulated"]
from helpers.caches import KVCache

HALF = torch.bfloat16
few = {
    "int8": quantise(model, Recipe(INT8, head=INT8, computes_in=HALF)),
    "int4": quantise(model, Recipe(INT4, head=INT8, computes_in=HALF)),
}


def steps_per_second(model, count=12):
    """Tokens per second of one request behind a prompt of 64 tokens, the prompt not counted."""
    cache = KVCache.for_model(model, 1, 128)
    generate(model, licence[:64], 1, cache)
    with Stopwatch(model.device) as watch:
        generate(model, licence[: 64 + 1], count, cache, cached=64)
    return count / watch.seconds


# %% tags=["skip-emulated"]
rows = [("fp32, as loaded", measured(steps_per_second(model), "tok/s"), "-")]
for name, smaller in few.items():
    speed = measured(steps_per_second(smaller), "tok/s")
    rows.append((name, speed, f"{weight_nbytes(smaller) / 1e6:.0f} MB"))
print(
    "int4 in bf16, with an int8 head, stays below 0.01:",
    bound(yardstick.measure(few["int4"])) <= 0.01,
)
Table(("weights", "one request", "weights take"), rows)

# %% [markdown]
# Read this table with chapter 9 in mind. Where there is a C++ compiler, each of these models computes a token in one native
# call, and their products decide. Without one, the models of few bits call operator after operator, in 16 bits, and what
# their products save may be lost there: a faster kernel does not always make a faster step.
#
# ## Sweep it
#
# Choose the bits, the group, and which matrices are quantised; the other matrices of the layers count 16 bits a weight.
# The quality is measured on 32 tokens only, so this perplexity is not the one above. Tokens per second are predicted for
# one request behind 512 tokens, on two accelerators whose memories differ in bandwidth.

# %%
from helpers.display import SweepPanel, dropdown, int_slider
from helpers.estimates import accelerator_ceilings, decode_cost
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
    fig = draw_quality({"here": {f"{bits} bits": (nbytes, quality.divergence)}}, f"{fmt}, {part}")
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
# The cube unit multiplies int8 by int8 at twice the rate of fp16. torch_npu has an operator for each step:
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
#
# The next cell computes what the results of these operators are compared with. It dequantises an int4 matrix with groups
# and multiplies it on the device, in 16 bits.

# %%
from helpers import ops
from helpers.machine import choose_device, where_it_ran

device = choose_device()
torch.manual_seed(0)
weight = quantise_matrix(torch.randn(64, 128), INT4).dequantise()
x = torch.randn(4, 128)
on_device = ops.linear(x.to(device, torch.float16), weight.to(device, torch.float16))
difference = (on_device.cpu().float() - x @ weight.t()).abs().max()
print("fp16, equal to 0.05:", float(difference) < 0.05)
print(where_it_ran(device))

# %% [markdown]
# ## In production
#
# vLLM-Ascend 0.23 and later take folders that Ascend's ModelSlim has written: int8 weights and scales beside a
# `quant_model_description.json`, which names each tensor's type, such as `W8A8_DYNAMIC`. Which layers stay in 16 bits is the
# folder's choice: often the first and last ones, `down_proj`, and always the head. Engines for GPUs read AWQ's and GPTQ's
# int4, and FP8.

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
# grid that fits. Few bits make the products of small batches faster, because these wait for bytes. Large batches need
# int8 in both factors, or wide weights. Outliers are moved from activations into weights by a factor that cancels.
# Scattered zeros save no time here.
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
