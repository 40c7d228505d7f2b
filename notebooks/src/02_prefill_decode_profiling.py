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
# # 2 Prefill/decode profiling
#
# **Promise.** You will measure a generation the way serving engines are judged, and predict its speed from nothing but
# bytes, operations and two figures of the machine.
#
# **You need** [chapter 1](01_memory_math.ipynb). About 45 minutes.
#
# **We measure** time to first token, time per output token, the machine's memory bandwidth and matrix rate, and where the
# time of a pass goes.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# ## Feel the problem: a fast profiler
#
# Generation has two phases. [**Prefill**](../docs/glossary.md#prefill) sends the whole prompt through the model and gives the first token. [**Decode**](../docs/glossary.md#decode)
# gives the answer's other tokens, one per pass. Here is a profiler that many people have written. It is proud of its decode loop: one
# token per pass, no cache to care for.

# %%
import time

from helpers.model import FlatBatch, checkpoint

model, tokenizer = checkpoint.load()


def plausible_profile(prompt_ids, max_new_tokens):
    """New tokens and seconds per token. Plausible, and wrong in five places."""
    token = int(model(FlatBatch.pack([prompt_ids]))[0].argmax())
    tokens, start = [], time.time()
    for _ in range(max_new_tokens - 1):
        token = int(model(FlatBatch.pack([[token]]))[0].argmax())
        tokens.append(token)
    return tokens, (time.time() - start) / len(tokens)


# %%
from helpers.display import measured
from helpers.model import chat_prompt, generate

prompt = chat_prompt(tokenizer, "Name the three primary colors.")
tokens, seconds = plausible_profile(prompt, 12)
print(f"{measured(seconds)} per token")
print(repr(tokenizer.decode(tokens)))

# %% [markdown]
# It is fast, and its answer is nonsense. Each pass saw the last token and nothing else: the model
# has **forgotten the prompt**. This is what it would have said, every pass looking at all earlier
# tokens:

# %%
honest = generate(model, prompt, 20, stop_ids=[tokenizer.eos_token_id])
print(repr(honest.text(tokenizer)))

# %% [markdown]
# The other four mistakes are about time, and would remain if the loop were right:
#
# 1. **No warm-up.** The first pass pays for memory, and for choosing among the *kernels*, the
#    programs that compute an operator. It is not what the next request will feel.
# 2. **No waiting for the device.** An accelerator puts a pass into its queue, and the program goes
#    on at once. A clock that is read then times the queuing.
# 3. **A wall clock.** `time.time()` follows the calendar and may be set back in the middle of a
#    measurement.
# 4. **The first token is thrown away**, and with it the time of the prefill, which is what a user
#    waits for.

# %% [markdown]
# ## The idea: two phases, two numbers
#
# A user notices two things: how long until the answer *begins*, and how fast it *goes on*.
#
# - [**TTFT**](../docs/glossary.md#ttft), time to first token: from the request to the first token, prefill included.
# - [**TPOT**](../docs/glossary.md#tpot), time per output token: the mean time between tokens after the first. A single such time is an [**inter-token latency**](../docs/glossary.md#inter-token-latency), and its percentiles tell whether the text stutters: p99 is what 99 % of them stay under.
#
# Throughput (tokens per second) mixes both. Here is one generation, token by token.

# %% tags=["measured"]
from helpers import InferenceProfiler
from helpers.display import plots

story = "Once upon a time, in a small village by the sea, there lived an old clockmaker. " * 16
prompt_ids = tokenizer(story)["input_ids"][:256]
profile = InferenceProfiler().profile_generation(model, tokenizer, prompt_ids, max_new_tokens=32)
plots.show(
    profile.plot(), alt="A tall first bar for the prefill, then low and even bars for decode"
)

# %%
profile

# %% [markdown]
# The prefill computed 256 tokens in one pass; decode took a pass for each. Compare the tokens per second of the two:

# %%
print("prefill:", measured(profile.prompt_tokens / profile.ttft, "tok/s"))
print("decode: ", measured(1 / profile.tpot, "tok/s"))

# %% [markdown]
# Same model, same machine. Why is the second so much slower? The rest of the chapter answers with arithmetic.

# %% [markdown]
# ## Build it
#
# The profiler is short. Look for the four repairs: a first generation that is not timed, a device
# that is idle before the clock starts, marks on a clock that cannot be set back (`Lap`: the host's
# `perf_counter`, or a device's own events), and the first token kept. A KV cache keeps the earlier
# tokens' keys and values; the next chapter builds it.

# %%
from helpers.display import show_source

show_source(InferenceProfiler.profile_generation)

# %% [markdown]
# ## Prove it
#
# A profiler that generates something else measures something else. Against `transformers`' own greedy generation, and
# against our loop without any cache:

# %%
import torch

reference = checkpoint.load_reference()
ids = torch.tensor([prompt], device=model.device)
theirs = reference.generate(
    ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False
)
ours = InferenceProfiler().profile_generation(model, tokenizer, prompt, max_new_tokens=20)
print("equal to transformers:", theirs[0, len(prompt) :].tolist() == ours.generation.token_ids)
print("equal to no cache:    ", honest.token_ids == ours.generation.token_ids)
del reference

# %% [markdown]
# ## Operations and bytes
#
# A pass does two things: it multiplies, and it moves numbers between memory and processor. Both can be counted from the
# model's sizes. A matrix of $n$ weights costs $2n$ operations per token (one multiplication, one addition), and it must be
# read **once per pass**, however many tokens share that pass.
# Operations are floating-point operations, [**FLOP**](../docs/glossary.md#flop) for short; a GFLOP is $10^9$ of them. *Activations* below are traffic,
# each operator's inputs read and outputs written, not the room they take (chapter 1's question). Keys and values of new
# tokens count twice: they are written, and read back.

# %%
from helpers.estimates import step_cost

show_source(step_cost)

# %%
from helpers.display import Table
from helpers.estimates import decode_cost, prefill_cost
from helpers.model import PUBLISHED

smol, fp32 = PUBLISHED["SmolLM2-135M"], {"weight_bytes": 4, "element_bytes": 4}
costs = {
    "prefill of 256 tokens": prefill_cost(smol, 256, **fp32),
    "decode after 256": decode_cost(smol, 256, **fp32),
}
rows = [
    (name, f"{c.flops / 1e9:.2f}", *(f"{part / 1e6:.1f}" for part in parts), f"{c.intensity:.2f}")
    for name, c in costs.items()
    for parts in [(c.weight_bytes, c.kv_bytes, c.activation_bytes)]
]
headers = ("SmolLM2, fp32", "GFLOP", "weights MB", "KV MB", "activations MB", "FLOP per byte")
Table(headers, rows)

# %% [markdown]
# The weights of the decode step are the model's: nothing was forgotten. (The 576 more are the new token's row of the
# embedding.)

# %%
weights = costs["decode after 256"].weight_bytes / 4
print(f"{weights:,.0f} = {smol.num_params:,} + {smol.hidden_size}:", end=" ")
print(weights == smol.num_params + smol.hidden_size)

# %% [markdown]
# The [**arithmetic intensity**](../docs/glossary.md#arithmetic-intensity) of some work is its operations per byte moved: the last column. Prefill does about ninety times as much work per byte, because 256 tokens
# share one reading of the weights. Decode reads the whole model to multiply it with a single token.

# %% [markdown]
# ## The roofline
#
# A device has two limits: operations per second, and bytes per second. Work of intensity $I$ can reach at most
# $\min(\text{peak}, I \times \text{bandwidth})$ operations per second. The line of what can be reached at most, drawn over the
# intensity, is the [**roofline**](../docs/glossary.md#roofline), and its corner, the [**ridge**](../docs/glossary.md#ridge), is the intensity from which on compute is the limit. For this machine we *measure* both: a large
# array read once, and a large matrix product.

# %%
from helpers.measurements import host_ceilings

ceilings = host_ceilings(model.device)
print("bandwidth:     ", measured(ceilings.bandwidth / 1e9, "GB/s", digits=3))
print("matrix product:", measured(ceilings.flops / 1e9, "GFLOP/s", digits=3))

# %% tags=["measured"]
from helpers.figures import Point, roofline

prefill, decode = costs.values()
points = [
    Point("prefill of 256 tokens", prefill.intensity, prefill.flops / profile.ttft, "prefill"),
    Point("decode", decode.intensity, decode.flops / profile.tpot, "decode"),
]
fig = roofline("SmolLM2 under this machine's roofline", {"this machine": ceilings}, points)
plots.show(fig, alt="Decode lies far left under the slope, prefill right of the ridge")

# %% [markdown]
# Decode lies left of the ridge, under the slope: it is [**bound by memory**](../docs/glossary.md#bound-by-memory), its time is that of reading. Prefill lies right of the ridge:
# it is [**bound by compute**](../docs/glossary.md#bound-by-compute), its time is that of computing. That is the whole difference, and nearly every technique of this course is a way to move decode to the right or to make it
# move fewer bytes.

# %% [markdown]
# ## Measure it: prediction beside measurement
#
# The roofline predicts a time: operations over peak, or bytes over bandwidth, whichever is longer. Both sides below come
# from a clock (the prediction through the ceilings), so your numbers differ from the saved ones.


# %%
def beside(name, cost, seconds):
    """One row: predicted and measured time, their ratio, and both utilisations."""
    predicted = cost.seconds(ceilings)
    mfu, mbu = (
        cost.flops_utilisation(seconds, ceilings),
        cost.bandwidth_utilisation(seconds, ceilings),
    )
    shares = [measured(100 * share, "%") for share in (mfu, mbu)]
    return (
        name,
        measured(predicted),
        measured(seconds),
        measured(seconds / predicted, "x"),
        *shares,
    )


rows = [beside("prefill", prefill, profile.ttft), beside("decode step", decode, profile.tpot)]
Table(("", "predicted", "measured", "ratio", "MFU", "MBU"), rows)

# %% [markdown]
# [**MFU**](../docs/glossary.md#mfu), model FLOPs utilisation, is the share of the peak rate that went into the model's own operations. [**MBU**](../docs/glossary.md#mbu), model
# bandwidth utilisation, is the share of the peak bandwidth that went into the bytes the pass must move.
# Where there is a C++ compiler, the course computes a whole pass in one native call (chapter 9), and both stay close to
# their predictions. Without one, a pass is operator after operator. Then decode falls behind its prediction: the slower
# *one* core is, the further. The profiler of torch shows why. It sees operators alone, so the course computes by
# operators while it records, on every machine:

# %%
from helpers import KVCache
from helpers.measurements import profile_operators

cache = KVCache.for_model(model, batch_size=1, max_seq_len=512)
model(FlatBatch.pack([prompt_ids]), cache)
position = iter(range(256, 512))
breakdown = profile_operators(
    lambda: model(FlatBatch.pack([[11]], history=[next(position)]), cache), model.device
)
breakdown

# %% [markdown]
# The matrix products move nearly all of the bytes. The other rows are the gap: some thousand small operators whose
# starting costs as much as their work, and Python between them. That is a fixed cost per
# pass. It matters less the larger the model (each pass takes longer) or the batch (more tokens share a pass). On an NPU
# it would be larger still, because each operator is launched on a device, and *fused* operators and graphs are the cure. A
# [**graph**](../docs/glossary.md#graph) is a pass's operators, captured once and from then on launched as a whole. In a prefill the gap all but closes, because each operator has more
# to do:

# %%
profile_operators(lambda: model(FlatBatch.pack([prompt_ids])), model.device, repeats=3)

# %% [markdown]
# ## When does decode turn compute-bound?
#
# Several requests decoded in one pass share the reading of the weights. The step's operations grow with the batch, its
# bytes hardly. So intensity grows, until the ridge. All requests ask the same here, so the prompt's keys and values are
# computed once and copied to every row.

# %%
from helpers.machine import Stopwatch, repeats

steps = repeats(model.device, 5)


def step_time(batch_size, context=64):
    """Seconds of a decode step for several requests with `context` cached tokens each."""
    cache, times = KVCache.for_model(model, batch_size, context + steps + 1), []
    model(FlatBatch.pack([prompt_ids[:context]]), cache)
    k, v = (t[:, 0, :, :context] for t in (cache.k, cache.v))
    for row in range(1, batch_size):
        cache.restore(row, k, v)
    for i in range(steps + 1):
        batch = FlatBatch.pack([[11]] * batch_size, history=[context + i] * batch_size)
        with Stopwatch(model.device) as watch:
            model(batch, cache)
        times.append(watch.seconds)
    return sorted(times[1:])[steps // 2]


# %%
batches = (1, 2, 4, 8, 16, 32, 64)
step_times = [step_time(n) for n in batches]

# %% tags=["measured"]
from helpers.estimates import compute_bound_batch

fig, ax = plots.new_figure(
    "Decode of several requests at once", "requests in the batch", "tokens/s"
)
curve = range(1, 129)
best = [n / decode_cost(smol, 64, n, **fp32).seconds(ceilings) for n in curve]
ax.plot(curve, best, color=plots.COLORS["black"], label="predicted limit")
rates = [n / seconds for n, seconds in zip(batches, step_times)]
ax.plot(batches, rates, "o", color=plots.COLORS["decode"], label="measured")
ridge = compute_bound_batch(smol, 64, ceilings, **fp32)
ax.axvline(ridge, color=plots.COLORS["muted"], linestyle=":", label="compute-bound from here")
for which in ("x", "y"):
    plots.log_axis(ax, which)
plots.legend(ax, loc="lower right")
plots.show(fig, alt="Tokens per second rise with the batch, then flatten at the compute limit")

# %%
gain = rates[-1] / rates[0]
print("64 requests at once instead of 1:", measured(gain, "x"), "the tokens per second")

# %% [markdown]
# One reading of the weights serves many requests. That is why serving engines batch, and chapter 5
# is about doing it without making requests wait. Long contexts spoil it: every request brings its
# own cache to read. On an accelerator of 227 operations per byte, with Llama-3-8B in bf16:

# %%
from helpers.estimates import accelerator_ceilings

die, llama = accelerator_ceilings("Ascend 910C (one die)"), PUBLISHED["Llama-3-8B"]
print(f"ridge: {die.ridge:.0f} operations per byte")
for context in (128, 512, 1024, 2048, 4096):
    print(f"{context:>5} tokens of context: batch", compute_bound_batch(llama, context, die))

# %% [markdown]
# `None` means never: there, a request's own cache takes longer to read than its own operations take to compute, however
# many requests there are.

# %% [markdown]
# ## Sweep it
#
# A decode step predicted for a model, a batch and a context, on an accelerator that is not here. *Weights* and *KV cache*
# are the time to read them, *compute* is the time to multiply; the longer side decides. Bandwidth is the table's, or yours.

# %%
from helpers.display import SweepPanel, dropdown, power_slider
from helpers.estimates import ACCELERATORS

BANDWIDTHS = {"as in the table": None, "0.8 TB/s": 0.8e12, "1.6 TB/s": 1.6e12, "3.2 TB/s": 3.2e12}


def times(model, batch, context, device):
    """Milliseconds of one decode step in bf16: (reading weights, reading the cache, computing)."""
    cost = decode_cost(PUBLISHED[model], context, batch)
    parts = (cost.weight_bytes / device.bandwidth, cost.kv_bytes / device.bandwidth)
    return [1e3 * part for part in (*parts, cost.flops / device.flops)]


# %%
def draw(model, device, bandwidth, batch, context):
    limits = accelerator_ceilings(device, "fp16", BANDWIDTHS[bandwidth])
    counts = [2**i for i in range(11)]
    weights, cache, compute = zip(*(times(model, n, context, limits) for n in counts))
    fig, ax = plots.new_figure(
        f"{model} on {device}", "requests in the batch", "ms per step", width=6
    )
    moved = {"reading weights": weights, "reading KV cache": cache}
    plots.stacked_areas(ax, counts, moved, colors=("weights", "kv_cache"))
    ax.plot(counts, compute, color=plots.COLORS["decode"], linewidth=2.5, label="computing")
    ax.axvline(batch, color="black", linestyle=":", linewidth=2, label="chosen")
    plots.log_axis(ax, "x")
    plots.legend(ax, loc="upper left")
    cost = decode_cost(PUBLISHED[model], context, batch)
    step = cost.seconds(limits)
    bound = "compute" if cost.intensity > limits.ridge else "memory"
    rows = [("TPOT, at best", f"{1e3 * step:.2f} ms"), ("tokens/s", f"{batch / step:,.0f}")]
    rows += [("bound by", bound), ("FLOP per byte", f"{cost.intensity:.1f}")]
    return fig, Table(("", "predicted"), [*rows, ("ridge", f"{limits.ridge:.0f}")])


# %%
SweepPanel(
    draw,
    {
        "model": dropdown("model", list(PUBLISHED), value="Llama-3-8B"),
        "device": dropdown("device", list(ACCELERATORS), value="Ascend 910C (one die)"),
        "bandwidth": dropdown("bandwidth", list(BANDWIDTHS)),
        "batch": power_slider("requests", value=16, max=1024),
        "context": power_slider("context", value=1024, min=64, max=32768),
    },
    alt="Time to read weights and cache, stacked, against time to compute, by batch",
)

# %% [markdown]
# ## On Ascend
#
# Four rooflines of the hardware table beside each other, with two decode steps as points on the first one's line. Mind the
# standing of the figures: they are stated by the maker (*official*), *derived* from clock and core count, or *reported*. On a machine
# that you have, `host_ceilings` measures both lines.

# %%
names = ("Ascend 910C (one die)", "Ascend 910B3", "Ascend 950DT", "Ascend 310P3")
devices = {name: accelerator_ceilings(name, "fp16") for name in names}
llama_points = [
    Point(f"decode, batch {n}", cost.intensity, devices[names[0]].attainable(cost.intensity), color)
    for n, color in ((1, "decode"), (64, "accent"))
    for cost in [decode_cost(llama, 1024, n)]
]
fig = roofline("Llama-3-8B, fp16, predicted", devices, llama_points)
plots.show(fig, alt="Four rooflines; decode at batch 1 and 64 lies on the first one's memory slope")

# %%
rows = []
for name in names:
    item, limits = ACCELERATORS[name], devices[name]
    step = decode_cost(llama, 1024).seconds(limits)
    peak = f"{limits.flops / 1e12:.0f} ({item.peak('fp16').status})"
    speed = f"{limits.bandwidth / 1e12:.2f} ({item.bandwidth.status})"
    rows.append((name, peak, speed, f"{limits.ridge:.0f}", f"{1e3 * step:.1f}"))
headers = ("accelerator", "fp16 TFLOP/s", "TB/s", "ridge", "Llama-3-8B decode, ms, at best")
Table(headers, rows)

# %% [markdown]
# On an NPU, `torch_npu.profiler` knows the device's own time and the pipes (the units of a core) that each operator kept busy.
# `profile_generation(..., trace_folder="trace")` records with it there, and with torch's own profiler elsewhere. **Pipes are recorded
# from level 1 on**; at level 0, the default of torch_npu 2.13 and 2.14, the profiler says so in a warning and leaves them out:
#
# ```python
# from torch_npu import profiler
# how = profiler._ExperimentalConfig(profiler_level=profiler.ProfilerLevel.Level1,
#                                    aic_metrics=profiler.AiCMetrics.PipeUtilization)
# with profiler.profile(experimental_config=how,
#                       on_trace_ready=profiler.tensorboard_trace_handler("trace")):
#     model(batch, cache)
# ```
#
# Times of single passes come from device events, which are marks in the device's queue
# (`torch.npu.Event(enable_timing=True)`; the course's `Lap` uses them). Or they come, as in
# `Stopwatch`, from the host's clock after `torch.npu.synchronize()`, which
# `torch.accelerator.synchronize()` calls.

# The fixed cost of starting operators has a remedy there: a decode step is captured once as a **graph** (`NPUGraph`), and
# replayed with one launch. Attention's lengths grow with every token and live on the host, so they are updated before each
# replay. `DecodeGraph` does that for the rows of a cache, in 16 bits; where there is an NPU, the next cell holds a replay
# against a plain pass.

# %%
from helpers.machine import where_it_ran

print(where_it_ran(model.device))
if model.device.type == "npu":
    from helpers.graphs import DecodeGraph

    half = checkpoint.load(torch.bfloat16).model
    caches = [KVCache.for_model(half, 1, 64) for _ in range(2)]
    for cache in caches:
        half(FlatBatch.pack([prompt]), cache)
    replayed = DecodeGraph(half, caches[0], rows=[0]).step([11])
    plain = half(FlatBatch.pack([[11]], [len(prompt)]), caches[1])
    print("a replayed graph equals a plain pass:", torch.equal(replayed, plain))
else:
    print("No graph was captured and the NPU profiler was not run here.")

# %% [markdown]
# ## In production
#
# `vllm bench serve` reports the numbers of this chapter (TTFT, TPOT, ITL for inter-token latency, each with percentiles)
# for a running server, vLLM-Ascend's included. An objective for a service is stated in them: "TTFT under 1 s and TPOT
# under 50 ms for 99 % of the requests".
#
# Graphs are on unless they are turned off. In the mode `FULL_AND_PIECEWISE` of vLLM 0.23 and 0.33 a decode step is one graph, and a
# pass that mixes prompts and decoding is graphs in pieces, with attention between them. vLLM-Ascend takes the same names (its
# graphs are `NPUGraph`s). In 0.23 and later, its fusion of operators before the capture, `enable_npugraph_ex`, works in `FULL` and
# `FULL_DECODE_ONLY` only, so not in the default mode.

# %%
from helpers.production import options_table

options_table(
    {
        "--compilation-config": "how graphs are made",
        "cudagraph_mode": "which passes are replayed",
        "cudagraph_capture_sizes": "the batch sizes that have a graph",
        "--enforce-eager": "no graphs: every operator is started by itself",
        "ascend_compilation_config.enable_npugraph_ex": "fused operators, in --additional-config",
    }
)

# %% [markdown]
# ## Recap
#
# Prefill computes many tokens for one reading of the weights and is bound by compute; decode reads everything for one
# token and is bound by memory. Bytes over bandwidth predicts its time, and the gap is the fixed cost of starting
# operators. A larger batch moves decode towards the ridge, a longer context pulls it back.
#
# **Check yourself.**
#
# 1. You quantise the weights to 4 bits. What happens to TPOT at batch 1, and to TTFT of a long prompt?
# 2. A profiler reports 2 ms per token for a 7-billion-weight model in bf16 on a device of 1.6 TB/s. Do you believe it?
#
# <details><summary>Answers</summary>
#
# 1. TPOT falls to little more than a quarter, because decode reads weights. TTFT stays: prefill is bound by compute.
# 2. No. 14 GB at 1.6 TB/s take 8.75 ms. It did not wait for the device, or computed something else.
#
# </details>
#
# Now you: [Lab 2](../labs/02_prefill_decode_profiling.ipynb).
# Next: [3 KV cache](03_kv_cache.ipynb).
# Back: [1 Memory math](01_memory_math.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
