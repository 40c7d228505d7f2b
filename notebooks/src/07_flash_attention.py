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
# # 7 Flash attention
#
# **Promise.** You will compute exact attention without ever holding its scores: first in a plausible way that looks
# ahead, goes blind and loses count, then in one that is held against fp64 and gives the real model's tokens.
#
# **You need** [chapter 1](01_memory_math.ipynb) (activations) and [chapter 3](03_kv_cache.ipynb) (queries behind a
# history). About 60 minutes.
#
# **We measure** errors, peak memory and time against materialised attention and PyTorch's own, and count the bytes
# that move.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# ## Feel the problem: the scores
#
# Attention as the formula reads it, $\mathrm{softmax}(QK^\top / \sqrt d)\,V$, **materialises** a score for every pair
# of tokens, in every head. Here is what one layer of SmolLM2 (9 query heads, 3 key heads of size 64) takes in fp32:

# %%
from helpers.attention import AttentionSize, naive_memory

SMOL = dict(num_heads=9, num_kv_heads=3, head_dim=64, element_size=4)
for n in (1024, 4096, 16384, 65536):
    inputs = (9 + 3 + 3 + 9) * n * 64 * 4
    print(f"{n:6} tokens: queries, keys, values, result {inputs / 1e6:6.1f} MB,", end=" ")
    print(f"materialised on the way {naive_memory(AttentionSize(n, **SMOL)) / 1e9:7.2f} GB")

# %% [markdown]
# What goes in and what comes out grows with the length; what lies between grows with its square. Nobody wants to
# see the scores. But softmax seems to need all of a query's scores before it can give the first weight: it divides by
# their sum, and subtracts the largest one, so that `exp` does not overflow.
#
# There is a way around that: walk over the keys block by block, keep the largest score so far, and when it grows,
# correct what has been added up. Here is what one would write in ten minutes:

# %%
import torch


def plausible_flash(q, k, v, hidden=None, block=64):
    """Attention of `[1, heads, seq, dim]`, block by block. Plausible, and wrong."""
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    best = torch.full_like(q[..., :1], float("-inf"))
    total, out = torch.zeros_like(best), torch.zeros_like(q)
    for start in range(0, k.shape[2], block):
        keys, values = (t[:, :, start : start + block] for t in (k, v))
        scores = q @ keys.transpose(-1, -2) * q.shape[-1] ** -0.5
        if hidden is not None:
            scores = scores.masked_fill(hidden(start, *scores.shape[2:]), float("-inf"))
        new = torch.maximum(best, scores.amax(-1, keepdim=True))
        weights, correction = (scores - new).exp(), (best - new).exp()
        total = total * correction + weights.sum(-1, keepdim=True)
        out = out * correction + weights @ values
        best = new
    return out / total


# %% [markdown]
# The real model can try it. A cache of this course takes any attention of packed sequences (chapter 1 gave it the
# materialised one):

# %%
from itertools import pairwise

from helpers.model import ConcatCache, chat_prompt, checkpoint, generate

model, tokenizer = checkpoint.load()


def packed(attention):
    """Attention of `[1, heads, seq, dim]` in the form that a cache calls: packed sequences."""

    def attend(q, k, v, q_start, kv_start, scale):
        parts = []
        for (a, b), (c, d) in zip(pairwise(q_start), pairwise(kv_start)):
            heads = (t.transpose(0, 1)[None] for t in (q[a:b], k[c:d], v[c:d]))
            parts.append(attention(*heads)[0].transpose(0, 1))
        return torch.cat(parts)

    return attend


# %%
prompt = chat_prompt(tokenizer, "What is the capital of France?")
stop = [tokenizer.eos_token_id]
plain = generate(model, prompt, 12, ConcatCache(), stop_ids=stop)
wrong = generate(model, prompt, 12, ConcatCache(packed(plausible_flash)), stop_ids=stop)
print("PyTorch's:      ", repr(plain.text(tokenizer)))
print("block by block: ", repr(wrong.text(tokenizer)))

# %% [markdown]
# It even talks sense, and that is the dangerous kind of wrong. The arithmetic is right, but there is **no causal
# mask**: in the prompt every token has looked at those behind it, as it never did in training.
#
# So hide the keys behind each query:


# %%
def behind(start, queries, keys):
    """True where a key stands behind its query. Plausible, and wrong."""
    places = torch.arange(start, start + keys, device=model.device)
    return places > torch.arange(queries, device=model.device)[:, None]


masked = ConcatCache(packed(lambda q, k, v: plausible_flash(q, k, v, behind)))
wrong = generate(model, prompt, len(plain.token_ids), masked)
right = sum(a == b for a, b in zip(wrong.token_ids, plain.token_ids))
print("first token right:", wrong.token_ids[0] == plain.token_ids[0])
print(f"then no longer: {right} of {len(plain.token_ids)} tokens right")

# %% [markdown]
# The prompt is right now. Then comes the first decode step, with *one* query and a whole history of
# keys. The mask puts this query at position 0, so it sees only the first key: **as many queries as
# keys were assumed**. The last query must see the last key. Chapter 3's caches need that, and so
# does every chunk of a prompt.
#
# In some models each token sees only a fixed number of tokens before it, a
# [**sliding window**](../docs/glossary.md#sliding-window). Let us hide what lies 64 positions back
# or more, too:


# %%
def outside(start, queries, keys):
    """True behind a query, and 64 positions or more before it."""
    ahead = torch.arange(start, start + keys) - torch.arange(queries)[:, None]
    return (ahead > 0) | (ahead <= -64)


torch.manual_seed(0)
q, k, v = (torch.randn(1, 1, 200, 64) for _ in "qkv")
out = plausible_flash(q, k, v, outside)
lost = out.isnan().any(-1)[0, 0].nonzero().flatten().tolist()
print(f"{len(lost)} of 200 queries are NaN: {lost[0]} to {lost[-1]}")

# %% [markdown]
# **A block that is hidden from a query before that query has seen any key** has a maximum of minus
# infinity. Minus infinity minus minus infinity is NaN, not a number, and a NaN that has got into a
# sum stays there. With plain causal masks that never happens, because every query sees key 0: the
# bug waits for windows, padding, or keys that come in another order.
#
# One more. Inference runs in 16 bits, and so do `best` and `total` above. Take 8,192 keys that all count the same;
# the values are 0 in the first half and 1 in the second. Their mean is 0.5.

# %%
q, k = torch.zeros(1, 1, 1, 64), torch.zeros(1, 1, 8192, 64)
v = (torch.arange(8192) >= 4096).float()[:, None].expand(1, 1, -1, 64)
for dtype in (torch.float32, torch.bfloat16):
    out = plausible_flash(q.to(dtype), k.to(dtype), v.to(dtype), block=16)
    print(f"{dtype!s:15} {out[0, 0, 0, 0].item():.2f}")

# %% [markdown]
# A bfloat16 has 8 significant bits. When `total` has reached 4,096, adding 16 more changes nothing: **statistics in half
# precision** stop counting. No error, no NaN, and only on long texts.
#
# ## The idea in a picture
#
# Three numbers are kept for each query: the largest score so far, $m$; the sum of $e^{s - m}$, $l$; and the values, weighted by
# the same, $a$. A block of new scores $s$ with values $v$ makes of them
#
# $$m' = \max(m, \max s),\qquad l' = l\,e^{m - m'} + \textstyle\sum e^{s - m'},\qquad a' = a\,e^{m - m'} + \sum e^{s -
# m'}\,v$$
#
# and the result is $a / l$, divided once, at the end. This softmax over scores that come block by block, corrected whenever a
# larger one arrives, is called [**online softmax**](../docs/glossary.md#online-softmax) ([arXiv:1805.02867](https://arxiv.org/abs/1805.02867)). One query, six keys
# with scores 1 to 6 out of order, two at a time:

# %%
from helpers import FlashAttention
from helpers.display import Table

scores, values = [1.0, 2.0, 6.0, 3.0, 5.0, 4.0], [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
one_by_one = FlashAttention(block_size=2, causal=False, scale=1.0)
k, v = (torch.tensor(numbers)[None, :, None] for numbers in (scores, values))
rows = []
for state in one_by_one.steps(torch.ones(1, 1, 1), k, v):
    shown = [f"{x.item():.4f}" for x in (state.maximum, state.total, state.out)]
    rows.append((str([int(s) for s in state.scores.flatten()]), *shown))
exact = float(torch.tensor(scores).softmax(0) @ torch.tensor(values))
print(f"one softmax over all six: {exact:.4f}")
Table(("scores that come", "maximum m", "sum l", "a / l"), rows)

# %% [markdown]
# With the 6, all that was added before shrinks by $e^{2 - 6}$. Nothing has to be known in advance, and nothing is
# approximated: the last line *is* attention.
#
# Queries come in blocks, too. A block of scores, some queries by some keys, is a
# [**tile**](../docs/glossary.md#tile). Attention computed tile by tile with online softmax, so that only one tile of scores exists
# at a time, is [**flash attention**](../docs/glossary.md#flash-attention) ([arXiv:2205.14135](https://arxiv.org/abs/2205.14135)).
# Eight queries over twelve keys, a chunk of a prompt behind a history of four tokens, in tiles of 4 x 4:

# %%
from helpers.display import plots
from helpers.figures import draw_steps, draw_tiles

torch.manual_seed(4)
q, k, v = torch.randn(1, 8, 16), torch.randn(1, 12, 16), torch.randn(1, 12, 16)
states = list(FlashAttention(block_size=4, query_block=4, scale=0.6).steps(q, k, v))
fig = draw_steps(states, "Six tiles, one after the other", columns=3)
plots.show(
    fig,
    alt="Weights after each tile; the third one is skipped, the second and the last half hidden",
)

# %% [markdown]
# Look at the weights of a tile when the next one arrives: they fade, because they are divided by a
# larger sum. A tile that all its queries see wholly needs no mask. A tile that none of its queries
# sees is **skipped**: nothing is computed.
#
# ## Build it
#
# `FlashAttention` is readable PyTorch for every device. Its loop over tiles is what a fused kernel does in the fast
# memory of a core. The state of a block of queries is an object of its own:

# %%
from helpers.attention import OnlineSoftmax, finite
from helpers.display import show_source

show_source(OnlineSoftmax.add)

# %%
show_source(finite)

# %% [markdown]
# `finite` is the answer to the NaN: where the maximum is still minus infinity, 0 is subtracted instead, and
# $e^{-\infty}$ is 0, as it should be. And the state is fp32 from the beginning, whatever the inputs are. Here are all tiles:

# %%
from helpers.attention import flash_tiles

show_source(flash_tiles.attend)

# %% [markdown]
# ### Which tiles
#
# Query $i$ of $n$ stands at position $i + \mathrm{keys} - n$ of the text, so that the last query
# sees the last key. Everything else about masks follows from there, decode step, chunk and whole
# prompt alike. Half of a prompt's tiles lie above the diagonal:

# %%
from helpers.attention import Tiling, Visibility

fig = draw_tiles(Visibility(1536, 2048), Tiling(128, 128), "1536 queries behind 512 cached tokens")
plots.show(
    fig, alt="A grid of tiles: full ones at the left, a staircase of masked ones, skipped ones"
)

# %%
seen, rows = Visibility(4096, 4096), []
for block in (32, 128, 512, 2048):
    counts = Tiling(block, block).count(seen)
    computed = (counts["masked"] + counts["full"]) * block**2
    rows.append((block, *counts.values(), f"{computed / (4096 * 4097 / 2):.2f}"))
head = ("tile", "skipped", "masked", "full", "scores computed for each one seen")
Table(head, rows, "A prompt of 4096 tokens")

# %% [markdown]
# Smaller tiles follow the diagonal more closely. (What speaks for larger ones comes below.)
#
# ### Shared keys
#
# In grouped-query attention, three query heads of SmolLM2 look at the same keys. The version above *repeats* keys and values
# for each of them. Instead, the three heads' queries can stand as three times as many queries over one head:

# %%
show_source(flash_tiles.Problem.fold)

# %% [markdown]
# ### Parts of the keys
#
# In a decode step there is one query, and the work on its keys is one long walk: all cores of a chip but
# one may have nothing to do. [**Flash decoding**](../docs/glossary.md#flash-decoding) cuts the keys of a query into parts, computes each alone, and merges the results.
# For that, a part must say how much weight it has. The [**log-sum-exp**](../docs/glossary.md#log-sum-exp), $\mathrm{lse} = m + \log l$, is the logarithm of the
# sum of $e^s$ over a part's scores.

# %%
from helpers.attention import merge

show_source(merge)

# %%
torch.manual_seed(1)
q, k, v = torch.randn(1, 9, 1, 64), torch.randn(1, 3, 1000, 64), torch.randn(1, 3, 1000, 64)
whole, parts = FlashAttention().forward(q, k, v), []
for a, b in ((0, 100), (100, 400), (400, 1000)):
    parts.append(FlashAttention().forward(q, k[:, :, a:b], v[:, :, a:b], return_lse=True))
mean = sum(out for out, _ in parts) / len(parts)
print(f"averaged: off by up to {float((mean - whole).abs().max()):.2f}")
print("merged by weight, equal to 1e-6:", float((merge(parts).out - whole).abs().max()) < 1e-6)
split = FlashAttention(num_splits=16).forward(q, k, v)
print("num_splits=16, equal to 1e-6:", float((split - whole).abs().max()) < 1e-6)

# %% [markdown]
# The same merge joins the attention over a cached prefix with that over the new tokens, and the shares of several
# devices when a text is too long for one.
#
# ### For the curious: backward
#
# Training needs gradients, and those need the weights. Autograd would keep every one of them. `FlashAttention` keeps its result and the lse,
# and when the gradient is asked for it **computes each tile again**: the weight is $e^{s - \mathrm{lse}}$. More
# arithmetic, but no memory of $N^2$.

# %%
torch.manual_seed(2)
q, k, v = (torch.randn(1, h, 9, 4, dtype=torch.float64, requires_grad=True) for h in (2, 1, 1))
small = FlashAttention(block_size=4, query_block=3)
print("gradients equal to numerical ones:", torch.autograd.gradcheck(small.forward, (q, k, v)))


# %%
def kept(attention, n=1024):
    """Bytes that autograd keeps for the backward pass, its inputs not counted."""
    q, k, v = (torch.randn(1, h, n, 64, requires_grad=True) for h in (9, 3, 3))
    given, saved = {t.untyped_storage().data_ptr() for t in (q, k, v)}, {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = attention(q, k, v)
    return sum(size for place, size in saved.items() if place not in given), out


for name, attention in (("block by block", plausible_flash), ("FlashAttention", FlashAttention())):
    print(f"{name}: {kept(attention)[0] / 1e6:.1f} MB kept for 1024 tokens")

# %% [markdown]
# ## Prove it
#
# Exact means: as near to the true result as rounding allows. The true one is computed in fp64 with all scores. PyTorch's
# `scaled_dot_product_attention` in the same precision says what rounding allows. The bar: at most twice its error (plus a millionth),
# for lengths and windows that no block divides.


# %%
def reference(attention, q, k, v):
    """Attention in fp64 with all scores, for the same mask; queries that see nothing give 0."""
    q, k, v = (t.double().cpu() for t in (q, k, v))
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    seen = attention.visibility(q.shape[2], k.shape[2])
    tile = next(Tiling(q.shape[2], k.shape[2]).all_tiles(seen))
    hidden = seen.hidden(tile, torch.device("cpu"))
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return scores.masked_fill(hidden, float("-inf")).softmax(-1).nan_to_num(0.0) @ v, ~hidden


def errors(attention, q, k, v):
    """Largest difference to the reference: of `attention`, and of PyTorch's in that precision."""
    exact, visible = reference(attention, q, k, v)
    sdpa, on_cpu = torch.nn.functional.scaled_dot_product_attention, (t.cpu() for t in (q, k, v))
    theirs = sdpa(*on_cpu, attn_mask=visible, enable_gqa=True)
    pair = attention.forward(q, k, v), theirs.nan_to_num(0.0)
    return [float((out.double().cpu() - exact).abs().max()) for out in pair]


# %%
cases = {
    "a prompt": (FlashAttention(), 300, 300, 1.0),
    "a chunk behind a history": (FlashAttention(48, 32), 70, 333, 1.0),
    "a decode step, split in 5": (FlashAttention(num_splits=5), 1, 501, 1.0),
    "a window of 50 tokens": (FlashAttention(64, 100, window=50), 300, 300, 1.0),
    "more queries than keys": (FlashAttention(16, 16), 40, 25, 1.0),
    "scores of thousands": (FlashAttention(), 200, 200, 40.0),
}
rows = []
for name, (attention, n, m, size) in cases.items():
    verdicts = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        torch.manual_seed(3)
        q, k, v = (torch.randn(2, h, length, 64) for h, length in ((9, n), (3, m), (3, m)))
        tensors = [t.to(model.device, dtype) for t in (size * q, size * k, v)]
        ours, theirs = errors(attention, *tensors)
        verdicts.append(ours <= 2 * theirs + 1e-6)
    rows.append((name, *verdicts))
Table(("within the bar", "fp32", "bf16", "fp16"), rows)

# %% [markdown]
# A score of several thousand has an fp32 error of a few ten-thousandths, enough to fail. So
# `FlashAttention` computes such scores in fp64, until their maximum is taken off. (An NPU has no
# fp64: there the last line's fp32 misses the bar.)
#
# Now the demonstrations from above, with the real thing: no query is lost, and half precision counts.

# %%
torch.manual_seed(0)
q, k, v = (torch.randn(1, 1, 200, 64) for _ in "qkv")
out = FlashAttention(window=64).forward(q, k, v)
print("no NaN in a window of 64:", not out.isnan().any())
nothing = FlashAttention(16, 16).forward(q, k[:, :, :120], v[:, :, :120], return_lse=True)
print("80 queries that see no key give 0:", bool((nothing.out[:, :, :80] == 0).all()), end=", ")
print("their lse:", nothing.lse[0, 0, 79].item())
q, k = torch.zeros(1, 1, 1, 64), torch.zeros(1, 1, 8192, 64)
v = (torch.arange(8192) >= 4096).float()[:, None].expand(1, 1, -1, 64)
out = FlashAttention(16).forward(*(t.bfloat16() for t in (q, k, v)))
print(f"the mean of 8,192 values in bfloat16: {out[0, 0, 0, 0].item():.2f}")

# %% [markdown]
# The real model now, with FlashAttention in every layer, in its prompt and in its decode steps, in blocks of several
# sizes:

# %% tags=["skip-emulated"]
for question in ("What is the capital of France?", "What is 2 + 2?", "Name a fruit."):
    ids = chat_prompt(tokenizer, question)
    plain, equal = generate(model, ids, 8, ConcatCache(), stop_ids=stop).token_ids, []
    for attention in (
        FlashAttention(),
        FlashAttention(16, 8),
        FlashAttention(7, 300, num_splits=3),
    ):
        cache = ConcatCache(packed(attention))
        equal.append(generate(model, ids, 8, cache, stop_ids=stop).token_ids == plain)
    print(f"{question:32} tokens equal to PyTorch's, three ways:", all(equal))

# %% [markdown]
# ## Measure it: memory
#
# Prediction first. Materialised attention holds two copies of the scores at its worst moment
# (`naive_memory`). FlashAttention needs its result, and beside it one tile of scores and the state
# of one block of queries (`tiled_memory`). With the length, the result grows; tile and state do
# not.

# %%
from helpers import ops
from helpers.attention import tiled_memory
from helpers.machine import peak_memory


def materialised(q, k, v):
    """Attention of one sequence with all scores in memory."""
    packed_heads = (t[0].transpose(0, 1) for t in (q, k, v))
    return ops.materialised_attention(*packed_heads, (0, q.shape[2]), (0, k.shape[2]), 64**-0.5)


def peak_of(attention, n):
    """Bytes at the worst moment of one attention over `n` tokens, its inputs not counted."""
    q, k, v = (torch.randn(1, h, n, 64, device=model.device) for h in (9, 3, 3))
    with peak_memory(model.device) as peak:
        attention(q, k, v)
    return peak.nbytes


# %%
flash, short, long = FlashAttention(), (512, 1024, 2048), (4096, 8192, 16384)
sizes = {n: AttentionSize(n, **SMOL) for n in short + long}
bytes_needed = {
    "materialised, predicted": {n: naive_memory(size) for n, size in sizes.items()},
    "materialised, measured": {n: peak_of(materialised, n) for n in short},
    "FlashAttention, predicted": {n: tiled_memory(size, flash.tiling) for n, size in sizes.items()},
    "FlashAttention, measured": {n: peak_of(flash, n) for n in short},
}
rows = []
for n in sizes:
    cells = (need.get(n) for need in bytes_needed.values())
    rows.append((n, *("-" if need is None else f"{need / 1e6:,.1f} MB" for need in cells)))
Table(("tokens", *bytes_needed), rows, "At the worst moment")

# %%
from helpers.figures import draw_over_length

lines = {name: {n: b / 1e6 for n, b in need.items()} for name, need in bytes_needed.items()}
guessed = [name for name in lines if "predicted" in name]
fig = draw_over_length(lines, "One attention of 9 heads at its worst moment", "MB", dashed=guessed)
plots.show(fig, alt="Materialised attention rises twice as steeply as FlashAttention, as predicted")
for name in ("materialised", "FlashAttention"):
    grown = bytes_needed[f"{name}, measured"][2048] / bytes_needed[f"{name}, measured"][1024]
    print(f"{name}, from 1024 to 2048 tokens: {grown:.1f} times the memory")

# %% [markdown]
# ## Measure it: traffic
#
# Memory is linear. So one often reads that flash attention makes the *traffic*, too, linear in the length. Count it. The bytes between the
# device's memory and the chip, for one layer of Llama-3-8B (32 query heads, 8 key heads of size 128) in bf16:

# %%
from helpers.attention import naive_traffic, tiled_traffic

LLAMA = dict(num_heads=32, num_kv_heads=8, head_dim=128, element_size=2)
rows, before = [], None
for n in (4096, 8192, 16384, 32768, 65536):
    size = AttentionSize(n, **LLAMA)
    moved = [tiled_traffic(size, Tiling(block, 128)).total for block in (128, 512)]
    grown = "-" if before is None else f"{moved[0] / before:.2f}"
    rows.append(
        (
            n,
            f"{naive_traffic(size).total / 1e9:,.1f} GB",
            *(f"{x / 1e9:.2f} GB" for x in moved),
            grown,
        )
    )
    before = moved[0]
head = ("tokens", "materialised", "blocks of 128 queries", "of 512 queries")
Table((*head, "128: times those of half the length"), rows)

# %% [markdown]
# **Twice the length, four times the traffic.** Every block of queries reads all the keys that it
# sees, and there are twice as many blocks, which see twice as many keys. The saving is a factor. A
# fast memory of $M$ numbers holds a block of $M / 4d$ queries (with as many keys, their values and
# the result). So $N / (M / 4d)$ blocks read $2 N d$ numbers each:
#
# $$2 N d \cdot \frac{4 N d}{M} = \frac{8 N^2 d^2}{M}$$
#
# That is $O(N^2 d^2 / M)$ ([arXiv:2205.14135](https://arxiv.org/abs/2205.14135)): quadratic in the length, and smaller the larger the chip's memory is.
# The formula beside the count (no mask, $M$ as large as the block wants it):

# %%
from helpers.attention import traffic_order

for n, block in ((8192, 128), (32768, 128), (32768, 512)):
    size = AttentionSize(n, **(LLAMA | {"num_kv_heads": None}), causal=False)
    order = traffic_order(size, on_chip=4 * block * 128 * 2)
    counted = tiled_traffic(size, Tiling(block, block)).total
    print(f"{n:5} tokens, blocks of {block}: {order / 1e9:6.1f} GB by the formula,", end=" ")
    print(f"{counted / 1e9:6.1f} GB counted")

# %% [markdown]
# Is that slow? What counts is arithmetic for each byte (chapter 2). A tile of $B$ queries does $4 B d$ operations for each
# key, whose two vectors have $4 d$ bytes: **$B$ operations per byte**. One die of a 910C does this many operations in the time of a byte:

# %%
from helpers.estimates import accelerator_ceilings

die = accelerator_ceilings("Ascend 910C (one die)")
print(f"{die.flops / die.bandwidth:.0f} operations per byte of device memory")

# %% [markdown]
# With fewer queries in a block, reading is the limit; with more, computing is. (The second-level
# cache helps: cores that work on the same head find its keys there.)
#
# ## Which tile fits a core
#
# A GPU keeps tiles in the shared memory of a multiprocessor. A core of an Ascend NPU, called Da Vinci, has five separate buffers. The
# [**cube unit**](../docs/glossary.md#cube-unit) of a Da Vinci core multiplies matrices: the left factor in the buffer L0A, the right
# one in L0B, the result in L0C, all fed by L1. The [**vector unit**](../docs/glossary.md#vector-unit) of a core computes element by element,
# here softmax and corrections, in the buffer UB. On a 910B both are cores of their own, two vector cores for each cube core, and scores
# travel between them through the L2 cache.

# %%
from helpers.attention import best_tiling, needs
from helpers.estimates import ACCELERATORS

core, size = ACCELERATORS["Ascend 910B3"], AttentionSize(32768, **LLAMA)
rows = []
for tiling in (Tiling(128, 128), Tiling(512, 512), Tiling(512, 2048), Tiling(1024, 512)):
    found = needs(size, tiling, core)
    shares = (f"{100 * need.used / need.capacity:.0f} %" for need in found)
    rows.append((f"{tiling.query_block} x {tiling.key_block}", *shares, all(n.fits for n in found)))
Table(("queries x keys", *(need.buffer for need in found), "fits"), rows, core.name)

# %%
from helpers.figures import draw_needs

fig = draw_needs(needs(size, Tiling(512, 2048), core), "A tile of 512 x 2048 on a 910B3")
plots.show(fig, alt="Bars for six buffers: UB and L2 are too small for this tile, L1 is full")
for name in ("Ascend 910B3", "Ascend 310P3", "Ascend 950PR"):
    best = best_tiling(size, ACCELERATORS[name])
    print(f"{name}: {best.query_block} x {best.key_block} moves least of the tiles that fit")

# %% [markdown]
# 512 queries fill L1 to the last byte. CANN's kernel for packed prompts takes as many, for heads up to 128, by 4 x 128 keys
# (`prompt_flash_attention_tiling.cpp` in the repository ops-transformer).
#
# ## Measure it: time
#
# Prediction first, from this machine's ceilings (chapter 2). Materialised attention computes all
# scores, hidden ones too, and moves them through memory. FlashAttention computes those of the tiles
# that it does not skip, and what it moves stays in the processor's caches. `exp` and masks are not
# in this arithmetic, so these are times *at least*.

# %% tags=["skip-emulated"]
from helpers.attention import scores_computed
from helpers.measurements import host_ceilings

ceilings = host_ceilings(model.device)


def at_least(n):
    """Seconds of both at least: operations over the matrix rate, plus bytes over the bandwidth."""
    size = AttentionSize(n, **SMOL)
    computed = 9 * n * n, 9 * scores_computed(size, flash.tiling)
    moved = naive_traffic(size).total, 2 * 4 * 64 * n * (9 + 3)
    return [
        4 * 64 * count / ceilings.flops + nbytes / ceilings.bandwidth
        for count, nbytes in zip(computed, moved)
    ]


# %% tags=["skip-emulated"]
from helpers.machine import Stopwatch


def best_time(attention, n):
    """Seconds of one attention over `n` tokens, the best of three."""
    q, k, v = (torch.randn(1, h, n, 64, device=model.device) for h in (9, 3, 3))
    seconds = []
    for _ in range(3):
        with Stopwatch(model.device) as watch:
            attention(q, k, v)
        seconds.append(watch.seconds)
    return min(seconds)


def pytorch(q, k, v):
    """PyTorch's own, a fused kernel for this processor."""
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return sdpa(q, k, v, is_causal=True, enable_gqa=True)


# %% tags=["skip-emulated"]
ways = {"materialised": materialised, "FlashAttention": flash, "PyTorch's own": pytorch}
lengths = (256, 512, 1024, 2048)
times = {name: {n: best_time(way, n) for n in lengths} for name, way in ways.items()}

# %% tags=["skip-emulated"]
from helpers.display import measured

rows = []
for n in lengths:
    naive, tiled = at_least(n)
    took = [times[name][n] for name in ways]
    cells = (measured(naive), measured(took[0]), measured(tiled), measured(took[1]))
    rows.append((n, *cells, measured(took[2]), measured(took[0] / took[1], "x")))
head = ("tokens", "materialised, at least", "took", "FlashAttention, at least", "took")
Table((*head, "PyTorch's own", "FlashAttention is faster by"), rows)

# %% tags=["skip-emulated", "measured"]
fig = draw_over_length(times, "One attention of 9 heads on this machine", "seconds")
plots.show(fig, alt="Three rising lines over the length; materialised attention is the highest")

# %% [markdown]
# At a few hundred tokens a loop in Python costs more than it saves; the longer the text, the more is gained. FlashAttention computes
# little more than half of the scores, and those never leave the processor's caches. PyTorch's kernel does the same in one compiled
# loop. In the end, twice the length takes all three about four times as long: **flash attention does not make attention cheaper
# than quadratic**. It takes the memory away, and much of the waiting.
#
# ## Sweep it


# %%
from dataclasses import replace

from helpers.display import SweepPanel, dropdown, power_slider


def draw(accelerator, sequence, heads, queries, keys):
    """Bytes moved over the length, and whether this tile fits."""
    chip, tiling = ACCELERATORS[accelerator], Tiling(queries, keys)
    lengths = {2**i: AttentionSize(2**i, num_heads=heads, head_dim=128) for i in range(9, 18, 2)}
    lines = {
        "materialised": {n: naive_traffic(size).total / 1e9 for n, size in lengths.items()},
        "tiled": {n: tiled_traffic(size, tiling).total / 1e9 for n, size in lengths.items()},
    }
    fig = draw_over_length(lines, f"{accelerator}, tiles of {queries} x {keys}", "GB moved")
    fig.axes[0].axvline(sequence, color=plots.COLORS["accent"], linestyle="--")
    return fig, describe(chip, AttentionSize(sequence, num_heads=heads, head_dim=128), tiling)


# %%
def describe(chip, size, tiling):
    """The table beside the figure."""
    counts, naive = tiling.count(size.seen), naive_traffic(size).total
    tiled = tiled_traffic(size, tiling).total
    rows = [("materialised moves", f"{naive / 1e9:,.2f} GB"), ("tiled", f"{tiled / 1e9:,.2f} GB")]
    rows += [("tiles skipped", f"{counts['skipped']:,} of {sum(counts.values()):,}")]
    for need in needs(size, tiling, chip):
        amount = f"{need.used / 1024:,.0f} of {need.capacity / 1024:,.0f} KiB"
        rows += [(need.buffer, amount if need.fits else f"{amount}: too much")]
    # the best tile is the same for longer texts
    best = best_tiling(replace(size, seq_len=min(size.seq_len, 8192)), chip)
    rows += [("best that fits", f"{best.query_block} x {best.key_block}" if best else "none")]
    return Table(("", "here"), rows)


# %%
SweepPanel(
    draw,
    {
        "accelerator": dropdown("accelerator", list(ACCELERATORS), value="Ascend 910B3"),
        "sequence": power_slider("tokens", value=8192, min=512, max=131072),
        "heads": power_slider("query heads", value=32, max=128),
        "queries": power_slider("queries in a tile", value=128, min=16, max=2048),
        "keys": power_slider("keys in a tile", value=128, min=16, max=4096),
    },
    alt="Bytes moved over the length, materialised and tiled; the chosen length is marked",
)

# %% [markdown]
# ## On Ascend
#
# Both fused attentions of torch_npu are flash attention, and both can say the log-sum-exp:
#
# - `npu_fusion_attention(q, k, v, head_num, layout, scale=..., sparse_mode=3, atten_mask=...)` gives a tuple: the result, then
#   **the maximum and the sum of each query** (each eight times, for alignment), this chapter's $m$ and $l$. It has fp32, and gradients.
#   Its document (August 2026) is for training alone, without graphs, on the A2 series and the 950DT: **attention in fp32 on another NPU
#   is a risk**, an A3 (910C) included.
# - `npu_fused_infer_attention_score_v2(..., return_softmax_lse=True)` (FIA) gives the result and the lse, in 16 bits only. It reads
#   pages (chapter 6), and cuts the keys of a decode step into parts by itself when they would leave cores idle. Its documents list
#   the A2 and A3 series, neither the 310P nor the 950.
#
# Every mistake of this chapter has its twin there:
#
# - The mask is aligned by a number: `sparse_mode=3` puts the last query at the last key, **`sparse_mode=2` the first query at the first key**.
#   `scaled_dot_product_attention(is_causal=True)`, on every device, is the second kind: right for a whole prompt, wrong behind a history.
# - Both modes take a compressed mask of 2048 x 2048, whatever the lengths, true where *hidden*. **Without it,
#   `npu_fusion_attention` ignores the mode silently**: no causal mask.
# - Rows in which everything is hidden are not supported unless `inner_precise=2` asks for it.
# - `softmax_scale` (or `scale`) is 1 unless given.
#
# And FIA's `learnable_sink` is `FlashAttention`'s `sinks`: a score per head that takes its share of the weights and has no value.
#
# The next cell computes a chunk of 16 tokens behind 300 cached ones in two parts: over the history without a mask, over the chunk
# with one. On an NPU that is two calls of these operators, FIA in 16 bits and fusion attention in fp32. Then it merges them.

# %%
from helpers.machine import where_it_ran


def in_two_parts(dtype):
    """The largest difference of two merged parts to FlashAttention over all of it."""
    torch.manual_seed(5)
    q, k, v = (torch.randn(n, h, 64) for n, h in ((16, 9), (316, 3), (316, 3)))
    q, k, v = (t.to(model.device, dtype) for t in (q, k, v))
    history = ops.attention_lse(q, k[:300], v[:300], 64**-0.5, causal=False)
    chunk = ops.attention_lse(q, k[300:], v[300:], 64**-0.5, causal=True)
    heads = (t.transpose(0, 1)[None] for t in (q, k, v))
    whole = FlashAttention().forward(*heads)[0].transpose(0, 1)
    return float((merge([history, chunk]).out.float() - whole.float()).abs().max())


print("fp32, equal to 1e-5:", in_two_parts(torch.float32) < 1e-5)
print("bf16, equal to 0.01:", in_two_parts(torch.bfloat16) < 0.01)
print(where_it_ran(model.device))

# %% [markdown]
# ## In production
#
# vLLM-Ascend computes attention by FIA; there is nothing to turn on. The token budget bounds the queries of a pass, and so decides how
# often a long prompt's keys are read: many small chunks read them many times. Cut over several devices, parts of the keys are merged as
# above.

# %%
from helpers.production import options_table

options_table(
    {
        "--attention-backend": "which kernel computes attention",
        "--max-num-batched-tokens": "the queries of a pass",
        "--decode-context-parallel-size": "devices that share a text's keys",
    }
)

# %% [markdown]
# ## Recap
#
# Softmax over keys that come block by block needs three running numbers for each query, in fp32,
# brought to the new maximum with every block. So scores never exist all at once, and the result is
# exact. Parts of the keys can be computed apart and merged by their log-sum-exp. Memory becomes
# linear in the length; traffic and arithmetic stay quadratic, the traffic divided by what the chip
# can hold.
#
# **Check yourself.**
#
# 1. A text becomes twice as long, and you move to a chip with twice the fast memory. How does the traffic of its attention change?
# 2. Your tiled attention is right for prompts and wrong for decode steps. And for a model with a sliding window it gives
#    NaN. Where do you look?
#
# <details><summary>Answers</summary>
#
# 1. Twice the length is four times the traffic, twice the fast memory half of it: twice as much in
#    all.
# 2. For the first: the mask counts positions from the first query; the last query must see the last
#    key. For the second: a block is wholly hidden before a query has seen any key, and minus
#    infinity is subtracted from itself.
#
# </details>
#
# Now you: [Lab 7](../labs/07_flash_attention.ipynb).
# Next: [8 Scheduling](08_scheduling.ipynb).
# Back: [6 Paged attention](06_paged_attention.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
