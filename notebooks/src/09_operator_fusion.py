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
# # 9 Operator fusion and graph capture
#
# **Promise.** You will count every operator call of a decoded token, fuse what is worth fusing, and
# prove that no token changes. Then you will capture a whole decode step as a graph. Your first graph
# repeats an old length and gives wrong tokens; your second one gives the right ones.
#
# **You need** [chapter 2](02_prefill_decode_profiling.ipynb) (bytes, bandwidth, decode) and
# [chapter 3](03_kv_cache.ipynb) (rows of a cache). About 75 minutes.
#
# **We measure** calls and bytes first: they are exact and need no clock. Then come the time of a call,
# the time of a step in two forms, and what `torch.compile` costs and gains here.

# %% tags=["nbval-ignore-output"]
from helpers.graphs import default_backend
from helpers.measurements import environment_report

print(f"torch.compile can use here: {default_backend()}")
environment_report()

# %% [markdown]
# ## Feel the problem: a thousand calls for one token
#
# Chapter 2 predicted a decode step from bytes and bandwidth, and the measured step took longer. A part
# of the gap was the fixed cost of starting operators. How many operators are there?
#
# A **kernel** is compiled code that does an operator's work on a device. PyTorch's *dispatcher* chooses
# the kernel for each operator call. Before the kernel runs, the dispatcher can show the call to a
# *mode*; `op_counts` uses a mode that counts. Some calls are **views**: they only give another name to
# memory that is already there. A [**launch**](../docs/glossary.md#launch) is a call that computes or
# copies; an accelerator starts one kernel for it. All times in this chapter are measured on the CPU, so
# the model is there. We count for this course's model, and for the same model in Hugging Face's
# `transformers`:

# %%
import torch

from helpers import KVCache
from helpers.display import Table, measured
from helpers.graphs import by_operators, decode_counts, op_counts
from helpers.model import FlatBatch, chat_prompt, checkpoint, generate

loaded, tokenizer = checkpoint.load(device="cpu")
model = by_operators(loaded)  # not in native calls, which this chapter comes to at its end
cfg = model.cfg
theirs = checkpoint.load_reference(device="cpu")
with torch.inference_mode():
    past = theirs(torch.tensor([[1] * 8]), use_cache=True).past_key_values
next_token = torch.tensor([[1]])
hf = op_counts(lambda: theirs(next_token, past_key_values=past, use_cache=True))
ours = decode_counts(cfg, batch=1, context=8)
counts = {"transformers": hf, "this course": ours}
rows = [(name, c.num_calls, c.num_launches) for name, c in counts.items()]
Table(("one token of SmolLM2", "operator calls", "launches"), rows)

# %% [markdown]
# `decode_counts` needs no weights: it runs the model on PyTorch's *meta* device, whose tensors have
# sizes and no numbers. So its counts are the same on every processor. Which launches are these? The
# figure sorts them by kind:

# %%
from helpers.display import plots
from helpers.figures import draw_calls

fig = draw_calls(counts, "Launches for one token, by kind")
plots.show(fig, alt="Products and attention are a third of the launches; the rest is small work")

# %% [markdown]
# Products (of a matrix and a vector) and attention do nearly all the arithmetic, and read nearly all
# the bytes (chapter 2). But more than half of the launches are the rest. Each of them adds, scales,
# rotates or copies only some hundred to a few thousand numbers.
#
# What does a call cost when it has nothing to do? And what would the step take if calls were free?

# %%
from helpers.estimates import decode_cost
from helpers.graphs import call_seconds
from helpers.machine import Stopwatch
from helpers.measurements import host_ceilings
from helpers.model import PUBLISHED

ceilings = host_ceilings(model.device)
smol, fp32 = PUBLISHED["SmolLM2-135M"], dict(weight_bytes=4.0, element_bytes=4.0)
bytes_moved = decode_cost(smol, 8, **fp32).nbytes
per_call = call_seconds(model.device)
print("one call with next to no work:    ", measured(per_call))
print(f"{ours.num_calls} of them:                   ", measured(ours.num_calls * per_call))
print("reading the bytes of a step:      ", measured(bytes_moved / ceilings.bandwidth))

# %% [markdown]
# On this machine the calls are a part of the step, beside the reading. An accelerator reads the same
# bytes in far less time (chapter 2 has the table), but a call is no cheaper there. So the *host* (the
# CPU that runs Python) may need longer to launch a step than the *device* (the accelerator) needs to
# compute it.
#
# ### Three plausible mistakes
#
# The cure is to *fuse*: to make one operator of several. **Mistake one** only moves lines into one
# function. This function adds a block's output to the *residual stream*, the sum that goes through all
# layers. Then it applies RMSNorm, which divides the sum by the root of its mean square:


# %%
def tidy(x, residual, weight, eps):
    """Add and normalise, in one neat function. Plausible, and not fused."""
    total = x + residual
    mean = total.pow(2).mean(-1, keepdim=True)
    return total * torch.rsqrt(mean + eps) * weight, total


x, residual = torch.randn(2, 1, cfg.hidden_size)
weight, eps = torch.ones(cfg.hidden_size), cfg.rms_norm_eps
neat = op_counts(lambda: tidy(x, residual, weight, eps), [weight])
print(f"one function: {neat.num_launches} launches, {neat.nbytes:,} bytes of intermediates")

# %% [markdown]
# A function is not an operator. Every operation in it is still launched by itself, reads its input from
# memory, and writes its result there.
#
# **Mistake two** calls the fused norm, but forgets the second result. The sum is normalised *and*
# carried on as the new residual stream; this version returns the old stream. **Mistake three** concerns
# the rotary embedding, which rotates pairs of numbers of each query and key by angles that depend on
# the position. This version pairs neighbours (0 and 1, 2 and 3). But this model pairs each number of
# the first half with one of the second half (0 and 32, and so on). `swapped` puts each mistake into the
# real model:

# %%
from helpers.graphs import swapped
from helpers.ops import rms_norm


def forgetful(x, residual, weight, eps):
    """The norm of the sum, and the residual without it. Plausible, and wrong."""
    return rms_norm(x + residual, weight, eps), residual


def neighbours(x, cos, sin):
    """Rotate even numbers with odd ones. Plausible, and wrong for this model."""
    even, odd = x[..., ::2], x[..., 1::2]
    c, s = cos.chunk(2, dim=-1)[0], sin.chunk(2, dim=-1)[0]
    return torch.stack((even * c - odd * s, odd * c + even * s), dim=-1).flatten(-2)


# %%
QUESTIONS = ("What is the capital of France?", "What is 2 + 2?", "Name a fruit.")
stop = [tokenizer.eos_token_id]


def answer(question, **operators):
    """The model's tokens, with other operators in the place of its own."""
    with swapped(**operators):
        prompt = chat_prompt(tokenizer, question)
        return generate(model, prompt, 8, KVCache.for_model(model, 1, 64), stop).token_ids


right = [answer(question) for question in QUESTIONS]
for name, wrong in {"add_rms_norm": forgetful, "rotary": neighbours}.items():
    same = [answer(q, **{name: wrong}) == tokens for q, tokens in zip(QUESTIONS, right)]
    print(f"{wrong.__name__:10} tokens equal for {sum(same)} of {len(same)} questions")

# %% [markdown]
# No error is raised, and all shapes fit. A test that looks only at the first result of `forgetful`, the
# norm, would pass.
#
# ## The idea in a picture
#
# The host launches kernels one by one and does not wait for them; the device runs them in order. The
# figure shows nine kernels: two large ones, and small ones around them. A launch is assumed to take 5
# µs; in the panel near the end of this chapter you choose this time:

# %%
from helpers.figures import draw_time_lines
from helpers.graphs import time_line

small, large = 1.0e-6, 4.0e-6
lines = {
    "one by one": time_line([small, small, large, small, small, small, large, small, small], 5e-6),
    "fused": time_line([2 * small, large, 3 * small, large, 2 * small], 5e-6),
    "a graph": time_line([2 * small, large, 3 * small, large, 2 * small], 5e-6, graph=True),
}
fig = draw_time_lines(lines, "The same work, launched in three ways")
plots.show(fig, alt="One by one the device waits for the host; fused less; in a graph not at all")
for name, line in lines.items():
    print(f"{name:10} done after {1e6 * line[-1].ran[1]:.0f} µs")

# %% [markdown]
# The device does the same work in all three cases. One by one, it waits after every kernel, because a
# launch takes longer than any of these kernels. There are two cures, and a step can use both:
#
# - [**Operator fusion**](../docs/glossary.md#operator-fusion) makes one kernel of several neighbours,
#   so that there are fewer launches, and what passes from one to the next stays on the chip.
# - A **graph** launches a whole step at once.
#
# ## Build it: fusion
#
# Six pieces of a decoder layer are worth fusing. Each has two forms: *written out*, with one operator
# for each operation of its formula, and *fused*, as in `helpers.ops`, in plain PyTorch. The table shows
# the counts of both (written out -> fused), for one layer and one token. (SwiGLU is the MLP's
# activation: `silu(gate) * up`.)

# %%
from helpers.graphs import PIECES

rows = []
for piece in PIECES:
    before, after = piece.counts(cfg)
    kernels = " + ".join(piece.on_npu)
    launches = f"{before.num_launches} -> {after.num_launches}"
    rows.append((piece.name, launches, f"{before.nbytes:,} -> {after.nbytes:,}", kernels))
Table(("piece", "launches", "bytes of intermediates", "one kernel each on an NPU"), rows)

# %% [markdown]
# Bytes of intermediates are what launches read and write besides weights and caches. A fused kernel
# reads its inputs once and writes its results once. Everything between stays in registers, the
# processor's fastest memory. Plain PyTorch gets part of the way. It uses an operator that exists
# (`rms_norm`), and writes results over an input. It rotates queries and keys as one tensor, and
# multiplies joined matrices in one product.

# %%
from helpers.display import show_source
from helpers.ops import add_rms_norm, rotary

show_source(add_rms_norm)

# %%
show_source(rotary)

# %% [markdown]
# `add_rms_norm` **overwrites** its residual with the sum (*spent*, says its docstring), so the residual
# stream is one buffer through all layers. And `rotary` takes queries and keys in one call, because the
# product of Q, K and V leaves them side by side.
#
# The NPU's kernels (last column of the table) go further; the functions above take the same inputs. For
# keys that are rotated *and* written into the cache there is no single kernel for this kind of model:
# `npu_kv_rmsnorm_rope_cache` serves multi-head latent attention (DeepSeek's) alone.
#
# Now the whole model: first with the three elementwise pieces (add + RMSNorm, rotary, SwiGLU) written
# out, then with them fused:

# %%
from helpers.graphs import WRITTEN_OUT

with swapped(**WRITTEN_OUT):
    written = decode_counts(cfg)
forms = {"written out": written, "fused": ours}
rows = [
    (name, c.num_calls, c.num_launches, f"{c.nbytes / 1e6:.2f} MB") for name, c in forms.items()
]
Table(("one token", "operator calls", "launches", "intermediates"), rows)

# %% [markdown]
# ## Prove it
#
# First each piece is compared with its formula, on random numbers. Then the model's tokens are
# compared, written out and fused. In exact arithmetic both forms are equal; in fp32 they differ by
# rounding. So the pieces may differ by a small tolerance, but the tokens must be equal.


# %%
def results(form, given):
    """What a form returns, as a tuple."""
    out = form(*given)
    return out if isinstance(out, tuple) else (out,)


for piece in PIECES:
    pairs = [results(form, piece.inputs(cfg, 5)) for form in (piece.written, piece.fused)]
    apart = max(float((a - b).abs().max()) for a, b in zip(*pairs))
    print(f"{piece.name:28} equal to 1e-5:", apart < 1e-5)

# %% tags=["skip-emulated"]
same = [answer(q, **WRITTEN_OUT) == tokens for q, tokens in zip(QUESTIONS, right)]
print(f"tokens of the model written out equal to the fused one's: {all(same)}")

# %% [markdown]
# ## Measure it: prediction first
#
# On a CPU a call computes before it returns, so the times add up: calls x seconds of a call, plus
# bytes / bandwidth. The bytes are those of weights and cache (chapter 2) and the intermediates just
# counted.

# %% tags=["skip-emulated"]
from helpers.graphs import step_seconds


def in_turns(forms, steps=12):
    """The least seconds of a decode step in each form, step by step in turns."""
    caches = {name: KVCache.for_model(model, 1, 32) for name in forms}
    times = {name: [] for name in forms}
    for cache in caches.values():
        model(FlatBatch.pack([[1] * 8]), cache)
    for i in range(steps):
        for name, (a_model, operators) in forms.items():
            batch = FlatBatch.pack([[1]], [8 + i])
            with swapped(**operators), Stopwatch(model.device) as watch:
                a_model(batch, caches[name])
            times[name].append(watch.seconds)
    return {name: min(seconds) for name, seconds in times.items()}


# %% tags=["skip-emulated"]
def predicted(counts):
    """Seconds of the step, by calls and bytes."""
    nbytes = bytes_moved + counts.nbytes
    return step_seconds(counts.num_calls, per_call, nbytes, ceilings.bandwidth)


best = in_turns({"written out": (model, WRITTEN_OUT), "fused": (model, {})})
rows = [
    (name, c.num_calls, measured(predicted(c)), measured(best[name])) for name, c in forms.items()
]
told = predicted(written) / predicted(ours), best["written out"] / best["fused"]
print("fusing gains, predicted:", measured(told[0], "x"), "  measured:", measured(told[1], "x"))
Table(("form", "calls", "predicted", "measured"), rows)

# %% [markdown]
# Both steps take longer than predicted. The prediction leaves out three costs. A real operator costs
# more than one that adds to a single number. Python works between the calls. And a product may read its
# weights slower than the bandwidth says. How large is the third cost? We time the products of the
# layers alone:

# %% tags=["skip-emulated"]
from helpers.model import Linear

products = [module for module in model.modules() if isinstance(module, Linear)]
vectors = [torch.ones(1, product.in_features) for product in products]
times = []
with torch.inference_mode():
    for _ in range(5):
        with Stopwatch(model.device) as watch:
            for product, vector in zip(products, vectors):
                product(vector)
        times.append(watch.seconds)
nbytes = sum(4 * product.in_features * product.out_features for product in products)
print(f"{len(products)} products, bytes / bandwidth:", measured(nbytes / ceilings.bandwidth))
print("the same products, measured:  ", measured(min(times)))

# %% [markdown]
# Compare the second line with the table. Where the products alone are most of a step, fusing the small
# operators gains little, because it does not touch the products. (The last part of this chapter writes
# faster products.) The panel near the end shows an accelerator, where launches weigh more.
#
# ### `torch.compile`: what it costs, what it gains
#
# A compiler can fuse the operators of a function. Here it gets the seven launches of add + norm: twice
# with one token, then with 16 tokens:

# %% tags=["skip-emulated"]
from helpers.graphs import compile_for, written_out

norm = PIECES[0]
inputs = [norm.inputs(cfg, tokens) for tokens in (1, 1, 16)]
compiled = compile_for(written_out.add_rms_norm, inputs)
for call, seconds in zip(("first call", "again", "other shape"), compiled.seconds):
    print(f"{call:12}", measured(seconds))
print(f"compiled {compiled.times} times for {len(inputs)} calls")
out = compiled.function(*norm.inputs(cfg, 16))[0]
apart = float((out - norm.written(*norm.inputs(cfg, 16))[0]).abs().max())
print("equal to 1e-5:", apart < 1e-5)


# %% tags=["skip-emulated"]
def each(function, given, repeats=300):
    """The least seconds of a call, of three runs."""
    times = []
    with torch.inference_mode():
        for _ in range(3):
            with Stopwatch(model.device) as watch:
                for _ in range(repeats):
                    function(*given)
            times.append(watch.seconds / repeats)
    return min(times)


ways = {"written out": norm.written, "fused in plain torch": norm.fused,
        "compiled": compiled.function}  # fmt: skip
rows = [
    (name, *(measured(each(way, norm.inputs(cfg, n))) for n in (1, 16)))
    for name, way in ways.items()
]
Table(("add + norm, a call", "1 token", "16 tokens"), rows)

# %% [markdown]
# Look at the first call: it compiles one small function. Every new shape is compiled anew here, because
# `compile_for` asks for that (`dynamic=False`). `dynamic=True` declares that sizes change; PyTorch's
# default decides at the second shape. Each call of compiled code first checks that its inputs are of
# the kind it was compiled for. These checks are called *guards*. For a few hundred numbers on a CPU
# they may cost more than the fusion gains: compare the rows above. A compiler pays off where launches
# are expensive and functions are large.
#
# ## Build it: a graph
#
# Fusion makes fewer launches; a graph makes one. **Capture** runs a step once and notes each launch
# with its arguments; **replay** launches all of them again. `Recording` does that on any device. It
# notes the operators that run, and repeats them on the same memory. (A real graph is launched as a
# whole. This one launches each operator again, so it teaches the rules, not the speed.)

# %%
from helpers.graphs import Recording

a, b = torch.ones(3), torch.ones(3)
recording = Recording(lambda: (a + b) * 2)
print("first run:", recording.result.tolist(), f"({len(recording.calls)} launches noted)")
b = torch.full((3,), 10.0)  # another tensor under the same name
print("replayed: ", recording.replay().tolist())
a.copy_(torch.full((3,), 10.0))  # the same memory with new content
print("replayed: ", recording.replay().tolist())

# %% [markdown]
# A replay knows no names, only memory: the new tensor `b` changed nothing, the new content of `a` did.
# So the first rule is: **inputs are copied into the memory that was captured**. Now a whole decode step
# of the model: new tokens and positions are copied in, and the step is replayed.

# %%
from helpers.graphs import RecordedStep


def replayed(cache, question, tokens=8):
    """Tokens of an answer whose steps are replays of the first."""
    prompt = chat_prompt(tokenizer, question)
    found = [int(model(FlatBatch.pack([prompt]), cache).argmax())]
    step = RecordedStep(model, cache, rows=[0])
    while len(found) < tokens and found[-1] not in stop:
        found.append(int(step.step([found[-1]]).argmax()))
    return found, step


found, step = replayed(KVCache.for_model(model, 1, 64), QUESTIONS[0])
print(f"{len(step.recording.calls)} launches noted")
print("first token right:", found[0] == right[0][0])
print("then tokens differ:", found != right[0])

# %% [markdown]
# (The recording holds the part of a step that runs on the device, without the cache's preparation. So
# it has four launches fewer than the count above.)
#
# The first token is right, because it comes from the prompt's pass. Then the replays give wrong tokens.
# **A length was captured.** Attention read the keys `[: length]` of the row, with the length of the
# first step, and every replay reads exactly those. It writes the keys of new tokens, but never reads
# them. Everything that the host computed is fixed: numbers, shapes, lists of lengths, the branch that
# an `if` took.
#
# To find such a number, compare two captures of the same step, the second one a token later:

# %%
cache = KVCache.for_model(model, 1, 64)
model(FlatBatch.pack([[1] * 8]), cache)
first = RecordedStep(model, cache, rows=[0]).recording
model(FlatBatch.pack([[1]], [8]), cache)
second = RecordedStep(model, cache, rows=[0]).recording


def shapes(call):
    """The sizes of a call's tensors."""
    return [tuple(t.shape) for t in call.args if isinstance(t, torch.Tensor)]


stale = [(x, y) for x, y in zip(first.calls, second.calls) if shapes(x) != shapes(y)]
names = {x.operator.overloadpacket.__name__ for x, _ in stale}
print(f"{len(stale)} of {len(first.calls)} launches differ: {', '.join(names)}")
print("keys, one token later:", shapes(stale[0][0])[1], shapes(stale[0][1])[1])

# %% [markdown]
# Only attention differs, once in each layer. All other launches have the same shapes at both lengths.
# There are two cures:
#
# 1. **Make the length data.** `MaskedRows` attends over whole rows, and a mask, which lies in
#    memory, hides what is not written. Every step has the same shapes, and reads more keys.
# 2. **Update the launch.** An NPU's graph lets the host replace arguments of single launches before
#    a replay. `DecodeGraph` does so (below).

# %%
from helpers.graphs import MaskedRows

for question, tokens in zip(QUESTIONS, right):
    cache = MaskedRows.for_model(model, 1, 64)
    found, _ = replayed(cache, question)
    print(f"{question:32} tokens equal:", found == tokens)

# %%
show_source(MaskedRows.prepare)

# %% [markdown]
# ### Capture sizes
#
# A graph has one batch size. An engine's batch changes with every request that comes or goes, and a
# graph for each size costs memory and time at the start. So an engine captures some sizes, its
# [**capture sizes**](../docs/glossary.md#capture-sizes), and runs a batch at the smallest one that
# holds it. The rows that are left over are **padding**: they are computed, but belong to no request.
# Here are three requests in a step of four:

# %%
from helpers.graphs import BucketedDecode

prompts = [chat_prompt(tokenizer, question) for question in QUESTIONS]
caches = [kind.for_model(model, 4, 64) for kind in (KVCache, MaskedRows)]
for cache in caches:
    logits = model(FlatBatch.pack(prompts, seq_ids=[0, 1, 2]), cache)
buckets = BucketedDecode(lambda rows: RecordedStep(model, caches[1], rows), sizes=[1, 4])
tokens, verdicts = logits.argmax(-1).tolist(), []
for _ in range(3):
    lens = caches[0].seq_lens[:3]
    batch = FlatBatch.pack([[t] for t in tokens], lens, [0, 1, 2])
    size, padded = buckets.step(tokens)
    plain = model(batch, caches[0])
    verdicts.append(torch.equal(padded.argmax(-1), plain.argmax(-1)))
    tokens = plain.argmax(-1).tolist()
print(f"3 requests ran at size {size}; tokens equal in every step: {all(verdicts)}")
print("lengths of the rows afterwards:", caches[1].seq_lens == caches[0].seq_lens)

# %% [markdown]
# Which sizes are good? That depends on the batches. Here requests come at random and stay for some
# steps. The histogram says how many steps had which batch size:

# %%
import random
from collections import Counter

from helpers.figures import draw_buckets
from helpers.graphs import Buckets, best_sizes, vllm_sizes


def batches(arrivals, stay, steps=2000, most=64, seed=4):
    """Steps by batch size: a request comes with chance `arrivals` in a step, and stays `stay`."""
    draw, ends, found = random.Random(seed), [], Counter()
    for now in range(steps):
        ends = [end for end in ends if end > now]
        if draw.random() < arrivals and len(ends) < most:
            ends.append(now + 1 + int(draw.expovariate(1 / stay)))
        found[len(ends)] += 1
    del found[0]
    return found


# %%
histogram = batches(0.25, 60)
choices = {
    "4 best": best_sizes(histogram, 4),
    "powers of two": (1, 2, 4, 8, 16, 32),
    "vLLM's default": vllm_sizes(32),
    "one size": (max(histogram),),
}
rows = []
for name, sizes in choices.items():
    padded = Buckets(sizes).padded_rows(histogram)
    share = padded / (padded + sum(b * n for b, n in histogram.items()))
    rows.append((name, str(list(sizes)), f"{padded:,}", f"{share:.1%}"))
title = f"{sum(histogram.values()):,} steps with requests"
Table(("sizes", "", "padded rows", "of all rows"), rows, title)

# %%
fig = draw_buckets(histogram, Buckets(choices["4 best"]), "Batches, and the four best sizes")
plots.show(
    fig, alt="A hill of batch sizes with four dashed lines, closer together where it is high"
)

# %% [markdown]
# Padding costs less than its share says, as long as a step is bound by memory: the weights are read
# once, however many rows there are.
#
# **What cannot be captured** (as one graph): a step that brings prompts or chunks. Its number of
# tokens, and with it every shape, is different each time, and attention gets lists of lengths from the
# host. Engines run such steps without a graph, or capture the pieces *between* attentions, padded to a
# number of tokens.
#
# ## A kernel by hand
#
# What is inside a fused kernel? Loops; and the order in which they read memory decides how fast the
# kernel is. Memory comes in **cache lines** of 64 bytes, 16 fp32 numbers. A matrix of 2048 x 2048, read
# along its rows, needs each line once. Read along its columns, it needs another line for every number.
# The lines of one column are 2048 x 64 bytes. Where the cache next to the core cannot hold them until
# the next column comes, each line is fetched 16 times.

# %%
rows, columns, line = 2048, 2048, 64 // 4
print(f"along the rows:    {rows * columns // line:,} lines, each once")
print(f"along the columns: {rows * columns:,} lines, if none is kept until its next number")
print(f"lines of a column: {rows * 64 / 1024:.0f} KiB")

# %% tags=["skip-emulated"]
matrix = torch.randn(rows, columns)
ways = {"along the rows": matrix.clone, "across them": lambda: matrix.t().contiguous()}
for name, copy in ways.items():
    print(f"copied {name:15}", measured(each(copy, (), repeats=10)))

# %% [markdown]
# The same numbers are copied, and no arithmetic is done. (A library's copy may work in blocks, so that
# a line is used for several columns while it is in the cache. A plain loop may be slower.)
#
# Now a kernel that this course needs. **Attention over pages** in plain PyTorch first *collects* a
# request's pages side by side, then computes attention: every key is read, written, and read again. The
# course has a kernel in C++ (`helpers/native`) that reads pages where they are. Your own C++ compiler
# builds it, once; without a compiler, plain PyTorch computes instead. The kernel is flash attention
# (chapter 7), with three functions for one block of 32 keys. The first one computes the scores of some
# queries, four keys at a time:

# %%
from helpers.display import show_kernel

show_kernel("attention.h", "score")

# %% [markdown]
# `F` is a vector of `W` numbers, as many as a register of your processor holds (the table at the top of
# this chapter shows `W`). The innermost loop loads one vector of each of four keys and multiplies it
# with `Q` queries. These queries share the keys (grouped-query attention; here `Q` is 3). So 7 loads,
# four of keys and three of queries, serve 12 sums in registers. Each key is read once for all three
# queries. At the same time the kernel *asks* for the values (`prefetch`), so that memory sends them
# before the kernel needs them. Then scores become weights, by online softmax (chapter 7):

# %%
show_kernel("attention.h", "weigh")

# %% [markdown]
# Last, the values are multiplied by the weights and added. The sums stay in registers for all keys of
# the block. Meanwhile the kernel asks for the keys of the *next* block:

# %%
show_kernel("attention.h", "gather")

# %% [markdown]
# The loop around them finds where each key lies: `table[page] * page_stride + offset * token_stride`.
# No key is moved. The figure shows what must be near the core at one moment. The two bars of the CPU
# are for this model's heads of 64 numbers in fp32, and for 32 registers of 64 bytes (AVX-512). (A
# processor with AVX2 has half as many registers, one too few for these vectors.) The bars below are the
# same loops on a Da Vinci core of the 910B (chapter 7). There a page has 128 keys, and heads have 128
# numbers in bf16:

# %%
from helpers.figures import draw_held

keys, page = 32 * 64 * 4, 128 * 128 * 2
fig = draw_held(
    {
        "CPU: AVX-512 registers": (32 * 64, {"sums": 12 * 64, "keys": 4 * 64, "a query": 64}),
        "CPU: L1 cache": (32 * 1024, {"keys, values": 2 * keys, "next": keys, "queries": 2304}),
        "NPU: L0A": (64 * 1024, {"16 queries": 16 * 128 * 2}),
        "NPU: L0B": (64 * 1024, {"keys of a page": page}),
        "NPU: L0C": (128 * 1024, {"scores, fp32": 16 * 128 * 4}),
        "NPU: L1": (512 * 1024, {"keys, values": 2 * page, "next": page}),
        "NPU: UB": (192 * 1024, {"scores": 8192, "weights": 4096, "sums": 16 * 128 * 4}),
    },
    "What one block of attention holds",
)
plots.show(fig, alt="Used bytes per buffer: half of the registers, most of a CPU's L1 cache")

# %% [markdown]
# The parts of each bar stand from left to right in the order in which the cell names them. A core of
# the NPU has room for larger blocks than these, or for several heads of keys at once.
#
# | C++ loop | on a Da Vinci core |
# |---|---|
# | task: some tokens, one head of keys (`attend_task`) | a block of the grid: one core |
# | keys block by block (`fold`) | page by page from global memory into L1 |
# | `score`: 3 queries x 4 keys in registers | the cube: L0A x L0B into L0C, in pieces of 16 x 16 |
# | `weigh` | the vector unit, on scores in UB |
# | `gather` | the cube again, then the vector unit adds in UB |
# | `prefetch` of values and of the next keys | two buffers in turns: one is filled, one is used |
#
# The same loops in triton-ascend's language, for decode steps. This listing **has not been run**: it
# shows where each line of the C++ goes. (The caller pads the query heads of each key head to `GROUP` =
# 16 rows, which the cube needs.)
#
# ```python
# @triton.jit
# def attend(Q, K, V, TABLES, LENS, OUT, width, page_stride, token_stride, head_stride, scale,
#            GROUP: tl.constexpr, PAGE: tl.constexpr, D: tl.constexpr):
#     sequence, head = tl.program_id(0), tl.program_id(1)                  # attend_task
#     heads, keys, d = tl.arange(0, GROUP), tl.arange(0, PAGE), tl.arange(0, D)
#     own = ((sequence * tl.num_programs(1) + head) * GROUP + heads)[:, None] * D + d
#     q = tl.load(Q + own)                                                 # to L1, L0A
#     most = tl.full((GROUP,), float("-inf"), tl.float32)                  # State, in UB
#     total, out = tl.zeros((GROUP,), tl.float32), tl.zeros((GROUP, D), tl.float32)
#     length = tl.load(LENS + sequence)
#     for page in range(0, tl.cdiv(length, PAGE)):                         # fold
#         first = tl.load(TABLES + sequence * width + page) * page_stride + head * head_stride
#         at = first + keys[:, None] * token_stride + d
#         seen = page * PAGE + keys < length
#         k = tl.load(K + at, mask=seen[:, None], other=0.0)               # to L1, L0B
#         s = tl.dot(q, tl.trans(k)) * scale                               # score: the cube, L0C
#         s = tl.where(seen[None, :], s, float("-inf"))                    # weigh: the vector unit
#         peak = tl.maximum(most, tl.max(s, 1))
#         w, fade = tl.exp(s - peak[:, None]), tl.exp(most - peak)
#         total, most = total * fade + tl.sum(w, 1), peak
#         v = tl.load(V + at, mask=seen[:, None], other=0.0)
#         out = out * fade[:, None] + tl.dot(w.to(v.dtype), v)             # gather
#     tl.store(OUT + own, (out / total[:, None]).to(OUT.dtype.element_ty))
# ```
#
# Ascend C is the C++ of the same cores. There the author writes the copies into L1, L0A, L0B and UB,
# which the compiler of triton-ascend inserts by itself. This course has no listing in Ascend C.
#
# Now the proof and the times, for 16 requests of 300 to 600 tokens. Their pages of 16 tokens are
# scattered in memory.

# %%
from helpers import ops
from helpers.graphs import PLAIN

draw = random.Random(1)
lengths = [draw.randrange(300, 601) for _ in range(16)]
places = draw.sample(range(16 * 38), 16 * 38)
tables = [places[38 * i : 38 * i + -(-n // 16)] for i, n in enumerate(lengths)]
torch.manual_seed(0)
k, v = torch.randn(2, 16 * 38, 16, cfg.num_kv_heads, cfg.head_dim)
q = torch.randn(16, cfg.num_heads, cfg.head_dim)
where = ops.BlockTables(tables, lengths, 16)
given = (q, k, v, where, tuple(range(17)), cfg.head_dim**-0.5)
plain, own = PLAIN["attention_pages"](*given), ops.attention_pages(*given)
print("equal to 1e-5:", float((plain - own).abs().max()) < 1e-5)
free = next(page for page in places if page not in {p for table in tables for p in table})
k[free], v[free] = float("nan"), float("nan")
print("no NaN from a free page:", not ops.attention_pages(*given).isnan().any())

# %% tags=["skip-emulated"]
ways = {
    "collected, plain torch": PLAIN["attention_pages"],
    "in place (C++, if compiled)": ops.attention_pages,
}
times = {name: each(attend, given, repeats=20) for name, attend in ways.items()}
nbytes = 2 * sum(lengths) * cfg.num_kv_heads * cfg.head_dim * 4
print("keys, values / bandwidth:       ", measured(nbytes / ceilings.bandwidth))
for name, seconds in times.items():
    print(f"{name:32}", measured(seconds))
first, second = times.values()
print("the kernel is faster by:        ", measured(first / second, "x"))

# %% [markdown]
# The first line divides the bytes of keys and values by the bandwidth of main memory (chapter 2). Where
# those of the last repeat are still in the processor's caches, the kernel can be faster than that.
#
# ### A whole step in one call
#
# With attention in C++, why come back to Python after each operator? `step.h` computes all layers of a
# pass in one call. Its core, in `products.h`, is the product of a matrix with some tokens' vectors. A
# **tile** is 16 rows of the matrix, stored column by column. `sums_of` takes a column of the tile (`w`),
# and multiplies it by one number of each token: $C$ tokens at once, with all sums in registers (`s`).
# The tile stays in the processor's caches until all tokens have met it. Meanwhile the next tile is
# asked for (`ahead`), so that no sum waits for memory:

# %%
show_kernel("products.h", "sums_of")

# %%
show_kernel("step.h", "pass")

# %% [markdown]
# Every piece of this chapter is in it. The **norm** is computed by each thread for itself, before the
# product that needs it, so that no thread waits for another one. `place` **rotates** queries in place,
# and keys on their way **into the cache**. `add` adds a product's sums directly to the **residual**.
# **Gate and up** are one product, and SwiGLU is applied to the sums of both. The threads share seven
# loops in each layer: four products, `place`, attention, and SwiGLU. Nothing else is launched.
#
# The course's model uses this call for passes of as many tokens as it was measured to be faster for than
# the operators on this machine. That model is `loaded` above; `model` has used operators so far. First
# the proof, then the times, step by step in turns:

# %%
for question, tokens in zip(QUESTIONS, right):
    cache = KVCache.for_model(loaded, 1, 64)
    found = generate(loaded, chat_prompt(tokenizer, question), 8, cache, stop)
    print(f"{question:32} tokens equal:", found.token_ids == tokens)

# %% tags=["skip-emulated"]
best = in_turns({"by operators": (model, {}), "as loaded": (loaded, {})})
rows = [(name, measured(seconds), measured(1 / seconds, "tok/s")) for name, seconds in best.items()]
print("bytes / bandwidth:", measured(bytes_moved / ceilings.bandwidth))
print("faster by:", measured(best["by operators"] / best["as loaded"], "x"))
Table(("a decode step", "time", "one request"), rows)

# %% [markdown]
# A step may even be faster than bytes / bandwidth. That bandwidth is a measurement, too (chapter 2): it
# was taken with another kernel, and at another time.
#
# ## Sweep it
#
# The panel predicts a decode step of Llama-3-8B on an accelerator (one die of an Ascend 910C). It has
# as many launches in each layer as this chapter counted. The step waits for its memory or for its host,
# whichever takes longer. Move the time of a launch and the traffic: with graphs the host needs one
# launch, but padding costs time.

# %%
from helpers.display import SweepPanel, dropdown, int_slider
from helpers.estimates import accelerator_ceilings

llama, die = PUBLISHED["Llama-3-8B"], accelerator_ceilings("Ascend 910C (one die)")
LAUNCHES = {
    "written out": round(written.num_launches / cfg.num_layers * llama.num_layers),
    "fused": round(ours.num_launches / cfg.num_layers * llama.num_layers),
}
BATCHES = {"calm": (0.05, 60), "busy": (0.25, 60), "long answers": (0.2, 250)}


# %%
def step_times(histogram, sizes, launch, context=1024):
    """Mean ms of a step: written out, fused, and in graphs of these sizes, predicted."""
    total, sums = sum(histogram.values()), Counter()
    for batch, steps in histogram.items():
        device = decode_cost(llama, context, batch).seconds(die)
        for name, calls in LAUNCHES.items():
            sums[name] += steps * max(device, calls * launch)
        size = Buckets(sizes).size_for(batch)
        padded = decode_cost(llama, context, size).seconds(die)
        sums["graphs"] += steps * (launch + padded)
    return {name: 1e3 * seconds / total for name, seconds in sums.items()}


# %%
def draw(traffic, count, launch):
    histogram = batches(*BATCHES[traffic])
    sizes = best_sizes(histogram, count)
    times = step_times(histogram, sizes, launch * 1e-6)
    padded = Buckets(sizes).padded_rows(histogram)
    rows = [(f"a step, {name}", f"{ms:.2f} ms") for name, ms in times.items()]
    rows += [
        ("sizes captured", ", ".join(map(str, sizes))),
        ("rows that are padding", f"{padded:,}"),
        ("the host's part, fused", f"{1e-3 * LAUNCHES['fused'] * launch:.2f} ms"),
    ]
    title = f"{traffic}: {times['fused']:.2f} ms a step fused, {times['graphs']:.2f} in graphs"
    return draw_buckets(histogram, Buckets(sizes), title), Table(("predicted", ""), rows)


# %%
SweepPanel(
    draw,
    {
        "traffic": dropdown("traffic", list(BATCHES), value="busy"),
        "count": int_slider("capture sizes", value=4, min=1, max=8),
        "launch": int_slider("µs for a launch", value=25, min=1, max=60),
    },
    alt="A histogram of batch sizes with dashed lines at the captured sizes",
)

# %% [markdown]
# ## On Ascend
#
# - The fused kernels are those of the table above: `npu_add_rms_norm` (its *third* result is the
#   sum), `npu_rotary_mul`, `npu_swiglu`, `npu_scatter_pa_kv_cache`, and attention itself.
# - `NPUGraph` captures what is launched on a *stream*, a queue of kernels; `graph.update` replaces the
#   lengths of attention before a replay, `graph.replay()` launches it all. As with `Recording`, memory
#   must stay fixed. A warm-up pass comes first, and inside the capture the host must not wait for the
#   device.
# - `torch.compile(backend="npugraphs")` captures a function's graph by itself; `"npugraph_ex"`
#   first rewrites it (an addition becomes one in place, for example). `"inductor"` needs
#   triton-ascend there, and the graph engine's backend `"npu"` needs GE: neither has run here.
#
# Where there is an NPU (or the emulated one), the next cell replays decode steps in 16 bits. On the
# emulated NPU, the cell after it counts what the host launches for one step. On a CPU it only says so:

# %%
from helpers.machine import choose_device, is_emulated, where_it_ran

device = choose_device()
if device.type == "npu":
    from helpers.graphs import DecodeGraph

    half = checkpoint.load(torch.bfloat16, device).model
    caches = [KVCache.for_model(half, 2, 64) for _ in range(3)]
    for cache in caches:
        half(FlatBatch.pack(prompts[:2]), cache)
    graph = DecodeGraph(half, caches[0], [0, 1])
    frozen = DecodeGraph(half, caches[1], [0, 1], update=False)
    equal = []
    for new in ([5, 6], [7, 8]):
        batch = FlatBatch.pack([[t] for t in new], caches[2].seq_lens)
        logits = half(batch, caches[2])
        equal.append((torch.equal(graph.step(new), logits), torch.equal(frozen.step(new), logits)))
    print("replays equal plain passes:", all(one for one, _ in equal))
    print("and without the update, from the second step on they differ:", not equal[1][1])

# %%
if device.type == "npu" and is_emulated(device):
    from helpers import emulated_npu

    batch = FlatBatch.pack([[1], [2]], caches[2].seq_lens, device=device)
    with emulated_npu.trace(launched=True) as one_by_one:
        half(batch, caches[2])
    with emulated_npu.trace(launched=True) as in_a_graph:
        graph.step([1, 2])
    print(f"the host launches {len(one_by_one)} kernels, or {len(in_a_graph)} with a graph:")
    print(Counter(in_a_graph).most_common(1))
print(where_it_ran(device))

# %% [markdown]
# With a graph, the host still launches the updates: one for each attention, with its new lengths. (The
# emulated NPU shows them as the most common launch.)
#
# ## In production
#
# vLLM-Ascend's graphs are ACLGraph, which is `torch.npu.NPUGraph`, and the modes are vLLM's. Its *Graph
# Mode Guide* says in 0.20.2rc and 0.23.0:
#
# - `FULL` captures steps whole, decode steps and mixed ones (prompts beside decodes).
# - `FULL_DECODE_ONLY` captures decode steps whole, and mixed steps not at all.
# - `PIECEWISE` captures the parts between attentions, and so serves mixed steps, too.
# - `FULL_AND_PIECEWISE` captures decode steps whole and mixed steps in parts.
# - `NONE` captures nothing.
#
# In `FULL` and `FULL_DECODE_ONLY`, `npugraph_ex` rewrites the model's graph before it is captured, and
# fuses add + norm to `npu_add_rms_norm`. Each captured size uses some of the device's 2,048 streams. So
# some releases derive a limit from that number and drop sizes from the list.

# %%
from helpers.production import options_table

options_table(
    {
        "--compilation-config": "takes the next two",
        "cudagraph_mode": "which steps are captured",
        "cudagraph_capture_sizes": "the capture sizes",
        "--enforce-eager": "no graph at all",
        "ascend_compilation_config.enable_npugraph_ex": "fusion before the capture",
    }
)

# %% [markdown]
# ## Recap
#
# A decoded token is about a thousand calls and five hundred launches, most of them tiny. Fusion makes
# fewer of them and keeps intermediates on the chip. A graph launches a step at once, on fixed memory.
# What the host knew at the capture stays fixed, unless it becomes data in memory or is updated. Count
# first: counts are exact, and they show where time can be gained.
#
# **Check yourself.**
#
# 1. Your graph's answers are right for the first token and then repeat themselves. Where do you
#    look?
# 2. A colleague puts five operators into one Python function and finds no gain. Why?
#
# <details><summary>Answers</summary>
#
# 1. At what the capture fixed: lengths that the host gave to attention, and inputs that were replaced
#    instead of copied into the captured memory. Two captures, a step apart, show which arguments
#    differ.
# 2. It still launches five kernels, each of which reads its input from memory and writes it back.
#    Fusion happens in a kernel, not in a function.
#
# </details>
#
# Now you: [Lab 9](../labs/09_operator_fusion.ipynb).
# Next: [10 Quantisation and pruning](10_quantisation.ipynb).
# Back: [8 Scheduling](08_scheduling.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
