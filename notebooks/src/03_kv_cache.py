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
# # 3 KV cache
#
# **Promise.** You will break a KV cache in two ways that look right, build one that is, and prove it: the same tokens as
# without a cache, at a price per token that no longer grows.
#
# **You need** [chapter 2](02_prefill_decode_profiling.ipynb). About 60 minutes.
#
# **We measure** the time of a decode step after 32 to 512 tokens: without a cache, with one that grows by concatenation,
# and with one that writes in place.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# ## Feel the problem: work done again and again
#
# Without a cache, every new token sends the whole text through the model again. What is really needed of the earlier
# tokens? In each layer, attention compares the new token's *query* with the *keys* of all tokens, and mixes their
# *values*. Keys and values of a token depend on that token and on those before it, never on later ones. Computed once,
# they stay right. A **KV cache** keeps them.

# %%
import torch

from helpers import ops
from helpers.model import Cache, chat_prompt, checkpoint, generate

model, tokenizer = checkpoint.load()
prompt = chat_prompt(tokenizer, "What is 2 + 2?")
plain = generate(model, prompt, 20, stop_ids=[tokenizer.eos_token_id])
print(repr(plain.text(tokenizer)))
print(f"{len(plain.token_ids)} tokens answered, {plain.tokens_computed} computed")

# %% [markdown]
# Here is a cache that one would write in ten minutes. A buffer for each layer, a length, and in each layer: write the new
# keys and values behind the old ones, move the length on, attend over everything so far. The model calls three methods of
# its cache: `prepare(batch)` before the first layer and `commit(batch)` after the last, which do nothing here, and
# `attend` in each layer. `query_start_loc` says where each sequence's new tokens begin in the batch, `(0, end)` where
# its keys begin and end.


# %%
class PlausibleCache(Cache):
    """A cache for one sequence. Plausible, and wrong."""

    def __init__(self, max_seq_len):
        cfg = model.cfg
        size = (2, cfg.num_layers, max_seq_len, cfg.num_kv_heads, cfg.head_dim)
        self.k, self.v = torch.zeros(size, device=model.device)
        self.length = 0

    def attend(self, layer_idx, q, k, v, batch):
        end = self.length + len(k)
        self.k[layer_idx, self.length : end], self.v[layer_idx, self.length : end] = k, v
        self.length = end
        return self.read(layer_idx, q, batch, end)

    def prepare(self, batch): ...

    commit = prepare


# %%
def read(self, layer_idx, q, batch, end):
    """Attention over the first `end` positions of a layer."""
    k, v = self.k[layer_idx, :end], self.v[layer_idx, :end]
    return ops.attention(q, k, v, batch.query_start_loc, (0, end), q.shape[-1] ** -0.5)


PlausibleCache.read = read
wrong = generate(model, prompt, 12, PlausibleCache(2000))
print(repr(wrong.text(tokenizer)))

# %% [markdown]
# It runs, it is fast, and its answer is nonsense. The length moved on in **every layer**: layer 0
# wrote the prompt to positions 0 to 37, layer 1 to the next 38, and so on. Each layer attends to
# positions that it never wrote.

# %%
cache = PlausibleCache(2000)
generate(model, prompt, 1, cache)
layers = model.cfg.num_layers
print(f"{len(prompt)} tokens in, length {cache.length} = {len(prompt)} x {layers} layers")

# %% [markdown]
# The second try moves the length on in the last layer only. And since the buffer is there, `attend` reads all of it:


# %%
class PaddedCache(PlausibleCache):
    """Its length is right. It is still wrong."""

    def attend(self, layer_idx, q, k, v, batch):
        start, end = self.length, self.length + len(k)
        self.k[layer_idx, start:end], self.v[layer_idx, start:end] = k, v
        if layer_idx == model.cfg.num_layers - 1:
            self.length = end
        return self.read(layer_idx, q, batch, self.k.shape[1])


for room in (64, 128, 512):
    wrong = generate(model, prompt, 12, PaddedCache(room), stop_ids=[tokenizer.eos_token_id])
    print(f"room for {room}: {wrong.text(tokenizer)!r}")

# %% [markdown]
# The answer depends on how much room was reserved! An unused position holds a key of zeros. Its
# score is 0, not minus infinity, so it takes its share of the attention away from the real tokens:
# a little in a short buffer, nearly all of it in a long one. The first of these answers is the
# dangerous kind: well phrased, even true, and not what the model says.
#
# Three more mistakes of the same family raise no error either. Writing beyond the buffer's end: a
# slice that is too long is cut silently. Positions as floating-point numbers: from 2048 on, fp16
# has only every second whole number. And a cache as wide as `hidden_size`, where
# `kv_heads x head_dim` is meant: three times too large for this model.

# %%
print(torch.tensor([2047.0, 2048.0, 2049.0, 2051.0], dtype=torch.float16).tolist())

# %% [markdown]
# ## The idea in a picture
#
# Reserve room once, write each token to its position, and look at filled positions only. Several
# sequences have a row each, and each row has its own length (such a batch is called
# [**ragged**](../docs/glossary.md#ragged)).

# %%
from helpers.display import plots
from helpers.figures import draw_rows

fig = draw_rows("A cache of four rows, 48 positions each", [37, 12, 0, 25], 48, [1, 1, 0, 1])
plots.show(fig, alt="Four rows of positions; three are filled to different lengths, one is empty")

# %% [markdown]
# ## Build it
#
# `KVCache` keeps two tensors `[layers, batch, kv_heads, max_seq_len, head_dim]`. By hand, one uses `update`, which refuses
# what the plausible versions swallowed, and `get`, which returns views of what is filled.

# %%
from helpers import KVCache
from helpers.display import show_source

show_source(KVCache.update)

# %%
cache = KVCache(num_layers=2, batch_size=2, max_seq_len=8, num_kv_heads=1, head_dim=4)
three = torch.randn(2, 1, 3, 4)
cache.update(0, three, three, positions=[[0, 1, 2]] * 2)
print("after layer 0:", cache.seq_lens, " after layer 1:", end=" ")
cache.update(1, three, three, positions=[[0, 1, 2]] * 2)
print(cache.seq_lens)
keys, values = cache.get(layer_idx=1, batch_idx=0)
print("filled part:", tuple(keys.shape), "a view:", keys.data_ptr() == cache.k[1, 0].data_ptr())

# %%
one = torch.randn(2, 1, 1, 4)
six = one.expand(2, 1, 6, 4)
for new, positions in ((one, [[3.0]]), (one, [[5]]), (six, [[3, 4, 5, 6, 7, 8]])):
    try:
        cache.update(0, new, new, positions * 2)
    except ValueError as error:
        print(f"{positions}: {error}")

# %% [markdown]
# A model's pass goes another way, which every cache of this course shares: `prepare` before the first layer, `attend` in
# each layer, `commit` after the last. Lengths grow in `commit` and nowhere else, so that the first mistake above cannot
# be made, and a pass that fails halfway has changed nothing.

# %%
show_source(KVCache.attend)

# %%
show_source(ops.attention_rows)

# %% [markdown]
# In a prefill several tokens are new, and each may look at itself and those before it alone: that
# is [**causal**](../docs/glossary.md#causal) attention. A [**mask**](../docs/glossary.md#mask) says
# in true and false which token may look at which. In a row that holds `n` tokens, new token `i`
# stands at position `n + i` and sees the positions 0 to `n + i`. A *single* new token may look at
# every key of its row, so decode needs no mask. Keys are not repeated for the query heads that
# share them. And nothing is copied: attention reads the row where it lies. (In the listing T counts
# new tokens, H query heads, KV key heads, D is `head_dim`, B counts rows.)

# %% [markdown]
# ## Prove it
#
# The same tokens without a cache, with ours, and from `transformers` with its own.

# %%
reference = checkpoint.load_reference()
ids = torch.tensor([prompt], device=model.device)
theirs = reference.generate(
    ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False
)
cached = generate(model, prompt, 20, KVCache.for_model(model, 1, 64), [tokenizer.eos_token_id])
print("no cache:    ", cached.token_ids == plain.token_ids)
print("transformers:", cached.token_ids == theirs[0, len(prompt) :].tolist())
print(f"{plain.tokens_computed} tokens computed without a cache, {cached.tokens_computed} with one")

# %% [markdown]
# Now a ragged batch. Three conversations of different lengths decode together; in the middle, one
# row is cleared and given to a new request, while the others go on.

# %%
from helpers.model import FlatBatch


def advance(texts, cache, rows):
    """One pass for the `rows`: each gets what its cache lacks, and takes its best next token."""
    lens = cache.seq_lens
    new, history = [texts[r][lens[r] :] for r in rows], [lens[r] for r in rows]
    batch = FlatBatch.pack(new, history, rows, device=model.device)
    best = model(batch, cache).argmax(dim=-1).tolist()
    for row, token in zip(rows, best):
        texts[row].append(token)


# %%
questions = [
    "Name a fruit.",
    "My train leaves at nine and I live twenty minutes from the station. When should I go?",
    "What is the capital of France?",
    "Who are you?",
]
prompts = [chat_prompt(tokenizer, question) for question in questions]
texts, cache = [list(p) for p in prompts[:3]], KVCache.for_model(model, 3, 96)
for _ in range(6):
    advance(texts, cache, rows=[0, 1, 2])
finished = texts[1]
cache.clear(1)
texts[1] = list(prompts[3])
for _ in range(6):
    advance(texts, cache, rows=[0, 1, 2])
print("lengths:", cache.seq_lens)

# %%
answers = {0: texts[0], 1: finished, 2: texts[2], 3: texts[1]}
for i, text in answers.items():
    alone = generate(model, prompts[i], len(text) - len(prompts[i]))
    equal = alone.token_ids == text[len(prompts[i]) :]
    print(f"{questions[i][:32]:32} equal to its own run:", equal)

# %%
fig = draw_rows("The same cache now", cache.seq_lens, cache.max_seq_len, [1, 1, 1])
plots.show(fig, alt="Three rows of different lengths, each with one new token at its end")

# %% [markdown]
# ## Measure it: bytes
#
# Chapter 1 predicts the size. It is all taken at once, whether tokens come or not.

# %%
from helpers.estimates import kv_cache_bytes
from helpers.model import PUBLISHED

smol = PUBLISHED["SmolLM2-135M"]
predicted = kv_cache_bytes(smol, 3, 96, "fp32")
print(f"predicted {predicted:,} bytes, allocated {cache.nbytes:,}:", predicted == cache.nbytes)

# %% [markdown]
# ## Measure it: time per token
#
# Prediction first. Without a cache, the pass for the token after $n$ others computes $n + 1$ tokens: time grows with the
# context. With a cache it computes one. `ConcatCache`, the library's simplest, joins old and new into a fresh tensor in each
# layer: it computes one token and *copies* $n$. In-place writing copies one.

# %%
from helpers.display import Table
from helpers.machine import Stopwatch, repeats
from helpers.model import ConcatCache

story = tokenizer("The tide came in and the tide went out, and nobody counted. " * 50)["input_ids"]
steps = repeats(model.device, 7)


def step_time(make_cache, context):
    """Seconds to compute the token after `context` others, the median of several steps."""
    cache, times = make_cache(), []
    if cache is not None:
        model(FlatBatch.pack([story[:context]], device=model.device), cache)
    for end in range(context + 1, context + steps + 2):
        start = 0 if cache is None else end - 1
        batch = FlatBatch.pack([story[start:end]], [start], device=model.device)
        with Stopwatch(model.device) as watch:
            model(batch, cache)
        times.append(watch.seconds)
    return sorted(times[1:])[steps // 2]


# %% tags=["skip-emulated"]
contexts = (32, 128, 256, 384, 512)
kinds = {
    "no cache": (lambda: None, "muted", "s"),
    "concatenated": (ConcatCache, "accent", "^"),
    "KVCache, in place": (lambda: KVCache.for_model(model, 1, 640), "kv_cache", "o"),
}
times = {name: [step_time(make, n) for n in contexts] for name, (make, _, _) in kinds.items()}

# %% tags=["measured", "skip-emulated"]
fig, ax = plots.new_figure("One more token, SmolLM2 in fp32", "tokens before it", "ms")
for name, (_, color, marker) in kinds.items():
    heights = [1e3 * seconds for seconds in times[name]]
    ax.plot(contexts, heights, marker + "-", color=plots.COLORS[color], label=name)
plots.log_axis(ax, "y")
plots.legend(ax, loc="center right")
plots.show(fig, alt="Without a cache the time grows steeply; with KVCache it stays flat")

# %% tags=["skip-emulated"]
from helpers.display import measured

rows = [(n, *(measured(times[name][i]) for name in kinds)) for i, n in enumerate(contexts)]
Table(("tokens before", *kinds), rows)

# %% [markdown]
# Chapter 2's arithmetic predicts that the in-place curve is not perfectly flat: each cached token adds its keys and values to
# what a step reads. How much is that?

# %%
from helpers.estimates import decode_cost

sizes = {"weight_bytes": 4, "element_bytes": 4}
short, long = (decode_cost(smol, n, **sizes).nbytes for n in (32, 512))
print(f"a step reads {short / 1e6:.0f} MB after 32 tokens, {long / 1e6:.0f} MB after 512:", end=" ")
print(f"{100 * (long / short - 1):.1f} % more")

# %% [markdown]
# ## Sweep it: what does reserving cost?
#
# The cache of this chapter reserves `max_seq_len` positions for every row. Requests rarely use all
# of them. Choose how many a request really fills, as a share of its row.

# %%
from helpers.display import SweepPanel, dropdown, int_slider, power_slider
from helpers.estimates import ACCELERATORS, GiB, MemoryCalculator


def draw(model, batch, max_seq_len, used):
    shape = PUBLISHED[model]
    lengths = [2**i for i in range(7, max_seq_len.bit_length())]
    reserved = [kv_cache_bytes(shape, batch, n) / GiB for n in lengths]
    filled = [size * used / 100 for size in reserved]
    fig, ax = plots.new_figure(f"{model}, {batch} rows", "positions per row", "GiB", width=6)
    wasted = [r - f for r, f in zip(reserved, filled)]
    parts = {"filled": filled, "reserved, empty": wasted}
    plots.stacked_areas(ax, lengths, parts, colors=("kv_cache", "muted"))
    plots.legend(ax, loc="upper left")
    memory = ACCELERATORS["Ascend 910B1"].memory.value
    rows = [(name, f"{heights[-1]:.2f} GiB") for name, heights in parts.items()]
    most = MemoryCalculator().max_batch_size(shape, max_seq_len, memory)
    rows.append(("rows on a 910B1 (64 GiB), all reserved", f"{most:,}"))
    return fig, Table(("", "here"), rows)


# %%
SweepPanel(
    draw,
    {
        "model": dropdown("model", list(PUBLISHED), value="Llama-3-8B"),
        "batch": power_slider("rows", value=16, max=256),
        "max_seq_len": power_slider("positions per row", value=8192, min=256, max=32768),
        "used": int_slider("used, %", value=30, min=1, max=100),
    },
    alt="Reserved memory by length, the filled part below the empty one",
)

# %% [markdown]
# Empty positions are the reason for paged attention (chapter 6): take memory in small pages, when
# tokens come.

# %% [markdown]
# ## On Ascend
#
# Writing in place and attending in place are two fused operators of torch_npu:
#
# - `npu_scatter_nd_update_(cache, indices, updates)` writes `cache[indices[t]] = updates[t]`, in place. Indices are whole
#   numbers (int32 or int64) in range: what is out of range is undefined, not refused.
# - `npu_fused_infer_attention_score_v2(q, k, v, input_layout="BNSD", actual_seq_kvlen=[...])` attends over rows. The
#   letters are the order of the dimensions: batch, number of heads, sequence, head dimension. The lengths
#   are given as a list on the host, and what lies behind them is not read. So the padded-buffer mistake has its twin there:
#   leave the lengths out, and the whole buffer counts. Two more traps: `softmax_scale` is 1.0 unless given, and in masks
#   *true means hidden*, the opposite of PyTorch's.

# %%
from helpers.machine import where_it_ran

print(where_it_ran(model.device))

# %% [markdown]
# ## In production
#
# vLLM-Ascend keeps no rows: its cache is paged (chapter 6). Two options of this chapter remain. On a CPU-class device or for a
# single user, rows are still what small engines use, because nothing is simpler.

# %%
from helpers.production import options_table

options_table(
    {
        "--max-model-len": "the positions that one request may fill",
        "--kv-cache-dtype": "the type of keys and values",
    }
)

# %% [markdown]
# ## Recap
#
# Keys and values of a token never change, so they are computed once and kept. A cache is right when
# its lengths move once per pass, when nothing looks beyond them, and when it refuses what does not
# fit. Written in place, it makes the price of a token nearly independent of the text before it, and
# costs memory that is reserved whether it is used or not.
#
# **Check yourself.**
#
# 1. Your cache gives right answers with `max_seq_len=64` and slightly strange ones with 4096. What do you look for?
# 2. Why may a token's keys be kept although the text goes on changing behind it?
#
# <details><summary>Answers</summary>
#
# 1. Something attends to the unused part: the padded buffer is returned, or lengths are missing in
#    the attention call.
# 2. Causal attention: a token's keys and values depend on itself and on earlier tokens only.
#
# </details>
#
# Now you: [Lab 3](../labs/03_kv_cache.ipynb).
# Next: [4 Prefix reuse](04_prefix_reuse.ipynb).
# Back: [2 Prefill/decode profiling](02_prefill_decode_profiling.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
