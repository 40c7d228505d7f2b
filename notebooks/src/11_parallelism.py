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
# # 11 Tensor and pipeline parallelism
#
# **Promise.** You will run the real model on two processes that hold half of its weights each. First every layer is cut
# in two, then each process has half of the layers. You will prove that no token changes, and count every byte that the
# processes send.
#
# **You need** [chapter 1](01_memory_math.ipynb) (bytes of weights and cache) and
# [chapter 5](05_continuous_batching.ipynb) (the engine). [Chapter 8](08_scheduling.ipynb) (the simulator) helps.
# About 75 minutes.
#
# **We measure** calls and bytes, which are exact. Then come the times of messages on this machine, which we predict
# from two numbers. Then we measure which share of its time a stage of a pipeline waits. At the end we predict what
# several devices of an accelerator would do. Of any time, **p50** is the median, and **p99** what 99 % of the requests
# stay under.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# ## Feel the problem: one device is too small
#
# Weights of 16 bits, in GiB, beside the memory of one device:

# %%
from helpers.display import Table
from helpers.estimates import GiB, accelerator
from helpers.model import PUBLISHED

DEVICES = ("Ascend 910B4", "Ascend 910C (one die)", "Ascend 950DT")
rows = []
for name in ("Llama-3-8B", "Qwen3-32B", "Llama-3-70B"):
    weights = 2 * PUBLISHED[name].num_params
    memory = {device: accelerator(device).memory.value for device in DEVICES}
    left = [f"{(memory[device] - weights) / GiB:.0f}" for device in DEVICES]
    rows.append((name, f"{weights / GiB:.0f}", *left))
Table(("model", "weights, GiB", *(f"left on {device}" for device in DEVICES)), rows)

# %% [markdown]
# A negative number means that the weights alone do not fit. A small positive number leaves little for keys and values,
# so that few requests run at once. Several devices must share a model. There are two ways to cut it:
#
# - [**Tensor parallelism**](../docs/glossary.md#tensor-parallelism) gives each device a part of every layer. All devices
#   work on the same tokens at the same time.
# - [**Pipeline parallelism**](../docs/glossary.md#pipeline-parallelism) gives each device some whole layers, a *stage*.
#   Tokens go from stage to stage.
#
# We call a process with a device of its own a [**rank**](../docs/glossary.md#rank), as `torch.distributed` does. Here
# ranks are processes on your CPU.
#
# ### Plausible cuts that are wrong
#
# Two matrices with an activation between them, as in an MLP, on two ranks. (Both ranks are computed in this process.)
# Each rank takes half of the outputs of the first matrix, and the same half of the inputs of the second one. What a rank
# has in the end is a summand of the result. The names of the results say what the ranks do with their summands:

# %%
import torch

torch.manual_seed(0)
x, first, second = torch.randn(3, 8), torch.randn(12, 8), torch.randn(8, 12)
bias = torch.randn(8)
whole = torch.relu(x @ first.T) @ second.T + bias
halves = [slice(0, 6), slice(6, 12)]
summands = [torch.relu(x @ first[half].T) @ second[:, half].T for half in halves]
across = [torch.relu(x[:, half] @ first[:, half].T) for half in (slice(0, 4), slice(4, 8))]
results = {
    "sum of both, then the bias": sum(summands) + bias,
    "each rank keeps its own": summands[0] + bias,
    "each rank adds the bias": sum(summand + bias for summand in summands),
    "first matrix cut by inputs": sum(across) @ second.T + bias,
}
for name, result in results.items():
    print(f"{name:28} shape {tuple(result.shape)}, off by {(result - whole).abs().max():.1f}")

# %% [markdown]
# All shapes fit and no error is raised. In the last line the activation was applied to summands: `relu(a) + relu(b)` is
# not `relu(a + b)`, so the sum would have to come before it.
#
# The next mistake is made with real models. This course stores the matrices of queries, keys and values as one
# (chapter 9), and vLLM 0.23 does so, too. A tool that cuts a matrix into equal parts does not know what the rows are.
# Here three ranks take a third of the rows each. Each rank believes that its rows are 3 query heads, one key head and
# one value head, for their sizes fit:

# %%
from helpers.model import FlatBatch, build, chat_prompt, checkpoint, config_from_file, read_tensors

folder = checkpoint.locate()
model, tokenizer = checkpoint.load(device="cpu")
cfg, head = model.cfg, model.cfg.head_dim
spoiled = build(config_from_file(folder), read_tensors(folder))
for layer in spoiled.layers:
    thirds = layer.attn.qkv_proj.weight.chunk(3)
    taken = [third.split((3 * head, head, head)) for third in thirds]  # what a rank takes them for
    layer.attn.qkv_proj.weight.data = torch.cat([t[kind] for kind in range(3) for t in taken])
prompt = chat_prompt(tokenizer, "What is the capital of France?")
right, wrong = (m(FlatBatch.pack([prompt]), logits="all") for m in (model, spoiled))
same = (right.argmax(-1) == wrong.argmax(-1)).sum()
print(f"logits are off by up to {(right - wrong).abs().max():.0f}, and no error was raised")
print(f"same likeliest token at {same} of {len(prompt)} positions")
del spoiled

# %% [markdown]
# ## The idea in a picture
#
# A cut must follow the heads. The figure shows the four matrices of a layer of this course's model on two ranks. Each
# matrix is drawn with its outputs from top to bottom and its inputs from left to right:

# %%
from helpers.display import plots
from helpers.figures import draw_cuts
from helpers.parallel import plan_shards

fig = draw_cuts(plan_shards(cfg, 2), "One layer on two ranks: outputs first, then inputs")
plots.show(fig, alt="Four squares in two colours: two cut across, two cut from top to bottom")

# %% [markdown]
# The matrix of queries, keys and values is cut by outputs, in whole heads. So a rank computes attention for its own
# heads, with keys and values that no other rank needs. The matrix after attention is cut by inputs: each rank's part takes
# the rank's own heads, and its product is a summand. Then comes an [**all-reduce**](../docs/glossary.md#all-reduce): each rank
# hands in its summand, and each rank gets the sum. The MLP has the same two cuts. So **a layer needs two sums**
# ([Megatron-LM, arXiv:1909.08053](https://arxiv.org/abs/1909.08053)), however large it is.
#
# This model has 9 query heads and 3 KV heads. What do 1 to 4 ranks get?

# %%
rows = []
for world in (1, 2, 3, 4):
    for rank, part in enumerate(plan_shards(cfg, world)):
        heads = f"{len(part.heads)} and {len(part.kv_heads)}"
        rows.append((world, rank, heads, len(part.columns), len(part.vocab)))
Table(("ranks", "rank", "query and KV heads", "MLP columns", "tokens of the vocabulary"), rows)

# %% [markdown]
# Two ranks cannot have equally many heads. The rank with more heads gets fewer columns of the MLP, so that both read about
# as many weights. With four ranks there are more ranks than KV heads: two ranks hold the same KV head, with keys and
# values stored twice, and share its query heads.
#
# ## Build it
#
# Two modules of the decoder are new; all else is chapter 5's, with smaller sizes. The matrices that are cut by inputs
# end in a sum:

# %%
from helpers.display import show_source
from helpers.parallel import Ranks, RowParallel, VocabularyEmbedding, tensor_engine

show_source(RowParallel.forward)

# %% [markdown]
# The bias is added once, to the sum. Each rank has the embeddings of its part of the vocabulary. A token of another rank
# counts zero here, and one more sum gives all embeddings to all ranks:

# %%
show_source(VocabularyEmbedding.forward)

# %% [markdown]
# At the end each rank has the logits of its own tokens, and an **all-gather** puts all parts side by side on each rank. So
# every rank has all logits, and chooses the same token.
#
# `Ranks` starts the processes. They import the library again, because a process with threads cannot be copied safely.
# Then they wait for functions to run. A function must stand in a module that the processes can import. The next cell
# shows the function that each rank will run; `part` loads this rank's slices of the weights from the files, and nothing
# else:

# %%
show_source(tensor_engine.serve)

# %% [markdown]
# It is the engine of chapter 5, on each rank. All ranks get the same requests, so that they plan the same passes. The
# plan may depend on the clock, and two processes read two clocks. So rank 0 reads it for all (`SharedClock`).

# %% tags=["skip-emulated"]
ranks = Ranks(2)
held = ranks.run(tensor_engine.weight_bytes)
print(f"{len(held)} ranks with {held[0] / 1e6:.1f} and {held[1] / 1e6:.1f} MB of weights")

# %% [markdown]
# ## Prove it
#
# Five requests of 12 tokens, served by both ranks together, and each one alone by this process. (The tests do the same for
# every policy of chapter 8, and for three ranks.)

# %% tags=["skip-emulated"]
from helpers import KVCache
from helpers.engine import Request
from helpers.model import generate

QUESTIONS = ("What is a KV cache?", "Name three rivers in Europe.", "What is 2 + 2?",
             "Why is the sky blue?", "What is the capital of France?")  # fmt: skip
requests = [Request(question, chat_prompt(tokenizer, question), 12) for question in QUESTIONS]
alone = {}
for request in requests:
    cache = KVCache.for_model(model, 1, 64)
    alone[request.request_id] = generate(model, request.prompt_ids, 12, cache).token_ids
served = ranks.run(tensor_engine.serve, requests)
print("tokens of the ranks equal one process's:", all(each.tokens == alone for each in served))

# %% tags=["skip-emulated"]
found = ranks.run(tensor_engine.all_logits, prompt)
difference = (found[0] - right).abs().max()
print("logits equal on both ranks, bit for bit:", torch.equal(*found))
print("logits equal one process's to 0.001:", bool(difference < 1e-3))

# %% [markdown]
# The ranks agree bit for bit, because both have the *same* sums. They differ from one process in the last bits: a sum of
# two halves is rounded in another order.
#
# Now the messages. Each pass has two sums a layer, one for the embedding, and one gather. A sum has `[tokens, hidden]`
# numbers, and the gather one rank's part of the logits, for each request. We count the bytes that a rank *hands in*. On
# two ranks these are the bytes that it sends. On $n$ ranks an all-reduce of $b$ bytes sends at least $2b(n-1)/n$ from
# each rank: first every rank collects one share of the sum, then it hands this share to the others.

# %% tags=["skip-emulated"]
from helpers.estimates import TensorTraffic

shape = PUBLISHED["SmolLM2-135M"]
said = [TensorTraffic.of(shape, 2, *load, element_bytes=4.0) for load in served[0].loads]
passes, calls, nbytes = len(said), served[0].calls, served[0].nbytes
print(f"{passes} passes, {said[0].sums} sums and 1 gather in each")
exact = {
    "calls of all-reduce": calls["all_reduce"] == sum(one.sums for one in said),
    "calls of all-gather": calls["all_gather"] == passes,
    "bytes of all-reduce": nbytes["all_reduce"] == sum(one.sums * one.sum_bytes for one in said),
    "bytes of all-gather": nbytes["all_gather"] == sum(one.gather_bytes for one in said),
}
for name, equal in exact.items():
    print(f"{name} as the formula says: {equal}")
print(f"{nbytes['all_reduce']:,} bytes in sums, {nbytes['all_gather']:,} in gathers, of each rank")

# %% [markdown]
# And the weights that each rank holds, from the sizes of its part:

# %% tags=["skip-emulated"]
for rank, part in enumerate(plan_shards(cfg, 2)):
    attention = 2 * cfg.hidden_size * head * (len(part.heads) + len(part.kv_heads))
    mlp = 3 * cfg.hidden_size * len(part.columns)
    norms = (2 * cfg.num_layers + 1) * cfg.hidden_size  # whole on each rank
    count = cfg.num_layers * (attention + mlp) + norms + len(part.vocab) * cfg.hidden_size
    print(f"rank {rank}: {4 * count:,} bytes; as held: {4 * count == held[rank]}")

# %% [markdown]
# ### A rank that draws for itself
#
# One more plausible mistake. With sampling, each rank could draw its own tokens from the logits, since all have them.
# Here each rank has a random seed of its own:

# %% tags=["skip-emulated"]
from dataclasses import replace

drawn = [replace(request, temperature=1.0) for request in requests]
apart = ranks.run(tensor_engine.serve_apart, drawn)
joint = ranks.run(tensor_engine.serve, drawn)
print("own seeds: both ranks have the same texts:", apart[0].tokens == apart[1].tokens)
print("one seed:  both ranks have the same texts:", joint[0].tokens == joint[1].tokens)

# %% [markdown]
# With seeds of their own, each rank goes on with its own text, and the sums mix hidden states of two texts. Nothing fails
# until one rank's text ends before the other's. Then the ranks plan different passes, whose sums have different sizes,
# and the processes end or wait for ever. This course's engine draws from a request's seed and the token's position alone,
# so that ranks that have equal logits draw equal tokens.
#
# ### The same cut with PyTorch's tool: DTensor
#
# PyTorch has this cut as a tool. A plan names the matrices, and `parallelize_module` replaces each weight with a
# *DTensor*, a tensor that knows how it is cut. It calls the all-reduce and its relatives (*collectives*: calls that all
# ranks make together) by itself:

# %%
from helpers.parallel import with_dtensor

show_source(with_dtensor.cut)

# %% tags=["skip-emulated"]
for order in ("as stored", "by ranks"):
    one = ranks.run(with_dtensor.cut, order)[0]
    print(
        f"rows {order:9}: {one.sums} sums, logits equal to 0.001: {one.difference < 1e-3}", end=""
    )
    print(f" (off by up to {one.difference:.0f}, the largest is {one.largest:.0f})"
          if one.difference > 1 else "")  # fmt: skip

# %% [markdown]
# The same number of sums, no error, and nonsense in the first line: the mistake of the beginning. The fused rows must be
# put into the order of the ranks before an even cut is right. DTensor's cut is even, so the number of ranks must divide
# the number of heads. This cell has a small model with 8 heads. Our own cut takes 9 heads on 2 ranks, and shows its
# messages.
#
# ## Measure it: messages
#
# A message takes a latency, plus its bytes over the bandwidth. We measure sends and sums between the two ranks for
# several sizes, fit the two numbers to some of the sizes, and predict the others. (gloo is the library that
# `torch.distributed` uses between CPUs.)

# %% tags=["skip-emulated"]
from helpers.display import measured
from helpers.parallel import wire_times
from helpers.simulation import Wire

FITTED, TESTED = (2304, 36864, 294912, 2359296), (9216, 147456, 1179648)
sizes = sorted(FITTED + TESTED)
times = {
    "send": dict(zip(sizes, ranks.run(wire_times.send_seconds, sizes)[0])),
    "all-reduce": dict(zip(sizes, ranks.run(wire_times.all_reduce_seconds, sizes)[0])),
}
wires = {name: Wire.fitted(FITTED, [line[size] for size in FITTED]) for name, line in times.items()}
for name, wire in wires.items():
    speed = measured(wire.bandwidth / 1e6, "MB/s")
    print(f"{name:10} latency {measured(wire.latency)}, bandwidth {speed}")

# %% tags=["skip-emulated"]
rows = [
    (name, size, measured(wires[name].send(size)), measured(line[size]))
    for name, line in times.items()
    for size in TESTED
]
Table(("message", "bytes", "predicted", "measured"), rows, "Sizes that were not fitted")

# %% tags=["skip-emulated", "measured"]
from helpers.figures import draw_messages

fig = draw_messages(times, wires, TESTED, "Messages between two processes")
plots.show(fig, alt="Two rising lines with marks: flat for small messages, steep for large ones")

# %% [markdown]
# Each mark is the fastest of many messages; the prediction was not fitted to the hollow ones. Where marks lie beside the
# line, look at the machine: two ranks need two free cores, and every other program delays one of them. A small message
# costs the latency, whatever its size. The sums of a decode step are small: one request has 2,304 bytes in a sum. So a
# decode step pays for *calls*:

# %% tags=["skip-emulated"]
from helpers.measurements import host_ceilings

steps = zip(served[0].loads, served[0].seconds)
step = min(seconds for load, seconds in steps if load == (5, 5))
traffic = TensorTraffic.of(shape, 2, 5, 5, element_bytes=4.0)
reading = sum(held) / host_ceilings(model.device).bandwidth
sums = traffic.sums * wires["all-reduce"].send(traffic.sum_bytes)
print("all weights / bandwidth, both ranks at a time:", measured(reading))
print(f"{traffic.sums} sums of {traffic.sum_bytes:,.0f} bytes, predicted:        ", measured(sums))
print("together, a lower bound:                      ", measured(reading + sums))
print("a decode step of five requests, the fastest:  ", measured(step))

# %% [markdown]
# The step takes longer than the bound. The bound leaves out what chapter 9 counted: each rank calls operator after
# operator, with one thread. And in each sum the faster rank waits for the slower one. On this machine both ranks share
# one memory, so tensor parallelism cannot read the weights faster, and the sums come on top. So this run proves that the
# tokens are right and counts what is sent. Tensor parallelism pays where every rank brings a memory of its own.
#
# ## A pipeline
#
# The other cut is simpler: the first layers here, the others there. What travels is one hidden state for each token, from
# stage to stage. How should 30 layers be shared? Evenly, one would think:

# %%
from helpers.parallel import head_weight, layer_weight, split_layers, stage_weights

print(f"the output matrix weighs as much as {head_weight(cfg) / layer_weight(cfg):.2f} layers")
even = [range(0, 15), range(15, 30)]
rows = []
for split in (even, split_layers(cfg, 2), split_layers(cfg, 3)):
    weights = stage_weights(cfg, split)
    layers = " + ".join(str(len(stage)) for stage in split)
    millions = ", ".join(f"{weight / 1e6:.1f}" for weight in weights)
    rows.append((layers, millions, f"{sum(weights) / max(weights):.2f}"))
Table(("layers of the stages", "million weights each", "times as fast as one stage, at most"), rows)

# %% [markdown]
# **An even split of layers is no even split of work.** The last stage has the output matrix, too. `split_layers` counts
# it. (A large model has a smaller share of its weights there, but the effect is the same.)
#
# A token must go through both stages before the next token of its answer can begin. So with a single batch, one of the
# two stages always waits. The requests are split into **groups**: while stage 2 computes group 1, stage 1 computes group
# 2. The [**bubble**](../docs/glossary.md#bubble) of a pipeline is the time in which its stages wait. On paper, with stages
# of equal work:

# %%
from helpers.figures import draw_slots
from helpers.parallel import idle_shares, pipeline_slots

plans = {f"{g} group{'s' * (g > 1)}": pipeline_slots([1, 1], [*range(g)] * 4) for g in (1, 2, 3)}
fig = draw_slots(plans, "Two stages: which group is computed when", until=13)
plots.show(fig, alt="With one group half of the time is white; with two or three nearly none is")
for name, slots in plans.items():
    print(f"{name:8} idle share of each stage: {', '.join(map(str, idle_shares(slots)))}")

# %% [markdown]
# Let there be $p$ equal stages, $g$ groups and $n$ tokens for each request. With as many groups as stages or more, the
# idle share is exactly $1 - gn / (gn + p - 1)$: only the beginning and the end are lost. With fewer groups the share
# stays near $1 - g/p$, however long one serves. Long answers make the loss small, and so do more groups. But a group of
# few requests reads the weights for few tokens. The pipeline of this course gives each group an engine of its own:

# %%
from helpers.parallel import PipelineBatcher, stage_engine

show_source(PipelineBatcher.run)

# %% [markdown]
# `land` takes the tokens of a group's last pass, which the last stage has sent to all stages. `launch` computes this
# stage's part of the group's next pass and sends it on. Now on the two ranks, with 19 and 11 layers:

# %% tags=["skip-emulated"]
eight = [Request(i, chat_prompt(tokenizer, QUESTIONS[i % 5]), 12) for i in range(8)]
piped = {g: ranks.run(stage_engine.serve_in_stages, eight, (19, 11), g) for g in (1, 2, 3)}
rows = []
for groups, stages in piped.items():
    equal = all(stage.tokens[i] == alone[QUESTIONS[i % 5]] for stage in stages for i in range(8))
    sent = stages[0].sent == stages[0].computed * cfg.hidden_size * 4
    idle = idle_shares(pipeline_slots([1, 1], stages[0].order))[0]
    rows.append((groups, equal, f"{stages[0].sent:,}", sent, len(stages[0].order), idle))
head_line = ("groups", "tokens equal", "bytes sent", "as the formula", "passes", "idle, on paper")
Table(head_line, rows)

# %% [markdown]
# The bytes are those of one fp32 hidden state for each computed token. "On paper" takes the passes in the order in which
# the engines really made them, each part of a pass being one slot. And by the clock? Each stage counts the seconds in
# which it computes; the rest of its time it is idle:

# %% tags=["skip-emulated"]
rows = []
for groups, stages in piped.items():
    paper = float(idle_shares(pipeline_slots([1, 1], stages[0].order))[0])
    cells = []
    for stage in stages:
        idle = measured(100 * max(0, 1 - stage.busy / stage.seconds), "%")
        cells += [measured(stage.busy), idle]
    rows.append((groups, f"{paper:.0%}", *cells))
each = ("stage 1 computes", "is idle", "stage 2 computes", "is idle")
Table(("groups", "idle, on paper", *each), rows)

# %% [markdown]
# With one group, both stages together wait about as long as they compute, as on paper. With more groups they wait less,
# but more than on paper. There are three reasons:
#
# - **The stages are not equal in time.** Compare the seconds in which they compute. Both read as many weights. But
#   stage 1 calls the operators of 19 layers, and stage 2 those of 11 (chapter 9), and on a CPU calls take time, too.
#   The lighter stage waits for the other one, whatever the groups.
# - **A stage has other work.** It plans passes, sends messages and handles tokens. All this counts as idle here.
# - **Two ranks need two free cores.** Where other programs run, a rank waits for a core.
#
# On paper the order of passes decides alone, and this order was the same. Look at the computing seconds of one stage,
# too: more groups are more passes, and each pass reads the weights for fewer requests. So use as many groups as the
# stages need, and no more.
#
# ### A rank that dies
#
# What if one process ends, while another one waits for it? `Ranks` names the rank at fault and stops all others. (The
# others fail with a broken connection, which says nothing of the cause.)

# %% tags=["skip-emulated"]
import multiprocessing
import time

from helpers.parallel import RankFailed, ending

begin = time.perf_counter()
try:
    ranks.run(ending.dies, 1)
except RankFailed as error:
    print(str(error).splitlines()[0])
print("after", measured(time.perf_counter() - begin))
print("processes left:", len(multiprocessing.active_children()))

# %% [markdown]
# ## When which? On paper
#
# Devices of an Ascend server are joined by links. The course has what is published of them, and says how far each number
# can be trusted:

# %%
from helpers.estimates import LINKS

rows = []
for item in LINKS.values():
    latency = item.latency.value
    shown = (
        "not published" if latency is None else f"{1e6 * latency:.0f} µs ({item.latency.status})"
    )
    bandwidth = f"{item.bandwidth.value / 1e9:.0f} GB/s ({item.bandwidth.status})"
    rows.append((item.name, item.reach, bandwidth, shown))
Table(("link", "joins", "one direction", "latency"), rows)

# %% [markdown]
# The question: how should eight dies of a 910C share Llama-3-70B, with 16 bits? There are four plans, `tensor x
# stages`, and two networks: dies of one supernode (UB), and dies that RoCE alone joins. The latency of one step of
# messages is *assumed* to be 10 µs, which is more than the table's figure: software takes its time, too. In the panel
# below you choose it. A sum is counted as two such steps: each device sums its share for all others, then hands out the
# sums. (HCCL calls this algorithm *Mesh*. A very small sum takes one step, in which all data go to all. The gather of
# logits is counted with the sums.)

# %%
from helpers.estimates import accelerator_ceilings, held_cache, held_weights, link
from helpers.simulation import Load, PipelineTime, TensorParallelTime, Wire, stage_shares

MESSAGES = ("latency of sums", "bytes of sums", "from stage to stage")


# %%
def timed(shape, machine, tensor, stages, load, latency):
    """The seconds between two passes of a group, in parts."""
    ceilings, bandwidth = accelerator_ceilings(machine[0]), link(machine[1]).bandwidth.value
    whole = TensorParallelTime(shape, ceilings, Wire(latency, bandwidth), tensor)
    sent = TensorParallelTime(shape, ceilings, Wire(0.0, bandwidth), tensor).communication(load)
    shares = stage_shares(shape, [len(stage) for stage in split_layers(shape, stages)])
    time = PipelineTime(whole, shares, Wire(latency, bandwidth), 2 * shape.hidden_size, stages)
    return {
        "compute and read": whole.work(load),
        "latency of sums": whole.communication(load) - sent,
        "bytes of sums": sent,
        "from stage to stage": time.latency(load) - whole(load),
        "wait for a stage": time(load) - time.latency(load),
    }


# %%
def plan(name, machine, tensor, stages, batch, latency, context=2048):
    """Bytes of weights and cache on the fullest device, the parts of a pass, tokens per second."""
    shape = PUBLISHED[name]
    layers = [len(stage) for stage in split_layers(shape, stages)]
    load = Load.of([(1, context)] * (batch // stages))  # as many groups as stages
    parts = timed(shape, machine, tensor, stages, load, latency)
    weights = 2 * max(held_weights(shape, layers, tensor))
    cache = 2 * max(held_cache(shape, layers, tensor)) * batch * context
    return weights, cache, parts, batch / sum(parts.values())


# %%
DIES = ("Ascend 910C (one die)", "UB (910C supernode)")
APART = ("Ascend 910C (one die)", "RoCE (910C supernode)")
BATCHES, rows = (8, 256), []
for machine in (DIES, APART):
    for tensor, stages in ((8, 1), (4, 2), (2, 4), (1, 8)):
        cells = []
        for batch in BATCHES:
            found = plan("Llama-3-70B", machine, tensor, stages, batch, 1e-5)
            weights, cache, parts, speed = found
            talk = sum(parts[name] for name in MESSAGES) / sum(parts.values())
            cells += [f"{1e3 * sum(parts.values()):.1f} ms", f"{talk:.0%}", f"{speed:,.0f}"]
        held_by_one = f"{(weights + cache) / GiB:.0f} GiB"
        rows.append((machine[1].split()[0], f"{tensor} x {stages}", held_by_one, *cells))
heads = [f"{h}, batch {b}" for b in BATCHES for h in ("a token", "messages", "tokens/s")]
Table(("link", "plan", f"a device, batch {BATCHES[1]}", *heads), rows, "Predicted")

# %% [markdown]
# Tensor parallelism shortens every token, because all devices read their part at the same time. It pays with sums in each
# layer. For few requests these sums are latency, for many they are bytes. A pipeline does not shorten a token, and sends
# nearly nothing; its devices are busy when there are enough groups. So the best plan depends on links and load. Over the
# links of a supernode, `8 x 1` is the fastest plan for both loads. Over RoCE, the sums of 256 requests take most of its
# pass, and `4 x 2`, a *grid* of both, gives more tokens. Hence the rule: cut layers inside a group of fast links, and make
# stages between such groups.
#
# ### Expert parallelism
#
# In a mixture of experts each token needs only a few of a layer's MLPs, its *experts*.
# [**Expert parallelism**](../docs/glossary.md#expert-parallelism) gives each device whole experts. Tokens travel to the
# devices of their experts, and the results come back: two **all-to-all** exchanges in each layer, instead of a sum. In an
# all-to-all, each device sends another part of its data to each other device. But experts are not equally popular. Here
# 2,048 tokens choose 8 of 128 experts each. Popularity falls as `1 / (number + 1) ** skew`; the experts lie on eight
# devices:

# %%
from helpers.estimates import ExpertLoad, balanced, blocks, draw_routes, expert_counts

rows = []
for skew in (0.0, 0.5, 1.0):
    routes = draw_routes(2048, 128, 8, skew, seed=1)
    counts = expert_counts(routes, 128)
    placements = {
        "neighbours": blocks(128, 8),
        "by load": balanced(counts, 8, copies=0),
        "by load, 16 copies": balanced(counts, 8, copies=16),
    }
    for name, places in placements.items():
        load = ExpertLoad.of(routes, places, 8)
        sent = load.nbytes(hidden_size=2048) / 1e6
        rows.append((skew, name, max(load.per_device), f"{load.imbalance:.2f}", f"{sent:.1f} MB"))
Table(("skew", "experts placed", "busiest device", "times the mean", "sent, one way"), rows)

# %% [markdown]
# All devices wait for the busiest one. Experts placed by their load help, and copies of the busiest experts help where a
# single expert is more than a device's share. (The placement was made for these very tokens; an engine places by what it
# saw before.) What does an imbalance cost? We predict passes of Qwen3-30B-A3B, which has as many experts, on 910C dies. In
# the last column the busiest device has 4 times the mean:

# %%
from helpers.estimates import published_shape
from helpers.simulation import ExpertParallelTime

moe, die = published_shape("Qwen3-30B-A3B"), accelerator_ceilings(DIES[0])
supernode = Wire(1e-5, link(DIES[1]).bandwidth.value)

# %%
PASSES = {
    "64 decode": Load.of([(1, 1024)] * 64),
    "512 decode": Load.of([(1, 1024)] * 512),
    "8 prompts of 2,048": Load.of([(2048, 0)] * 8),
}
rows = []
for name, load in PASSES.items():
    for world in (1, 8):
        level, skewed = (
            ExpertParallelTime(moe, die, supernode, world, f) for f in (1, min(4, world))
        )
        seconds = (level.work(load), level.communication(load), level(load), skewed(load))
        cells = (f"{1e3 * each:.2f} ms" for each in seconds)
        rows.append((name, world, *cells) if world > 1 else (name, world, *[*cells][:3], "-"))
names = ("work", "all-to-all", "both", "both, busiest device 4 x")
Table(("a pass", "devices", *names), rows)

# %% [markdown]
# A decode step waits for memory: all experts are read anyway, and an imbalance of *tokens* changes nothing. (This model of
# the costs lets every device read equally many experts.) A pass with prompts waits for arithmetic, and for the busiest
# device. Expert parallelism pays for memory first: each of eight devices holds an eighth of the experts. And it needs
# large batches, so that its messages are more than latency.
#
# ### Prefill and decode apart
#
# Prompts disturb those who wait for their next token: chapter 5 cut prompts into chunks for that reason.
# [**Disaggregation**](../docs/glossary.md#disaggregation) gives prompts and answers devices of their own
# ([DistServe, arXiv:2401.09670](https://arxiv.org/abs/2401.09670)). Then keys and values must travel. Is that faster than
# computing them again?

# %%
from helpers.estimates import KVTransfer

llama = PUBLISHED["Llama-3-8B"]
WAYS = ("UB (910C supernode)", "PCIe 5.0 x16", "RoCE (910C supernode)")
rows = []
for tokens in (512, 4096, 32768):
    moved = KVTransfer.of(llama, tokens)
    again = moved.recomputed.seconds(die)
    over = [f"{1e3 * moved.seconds(link(way).bandwidth.value):.1f} ms" for way in WAYS]
    need = moved.least_bandwidth(die) / 1e9
    rows.append((f"{tokens:,}", f"{moved.nbytes / 1e6:,.0f} MB", f"{1e3 * again:.0f} ms", *over,
                 f"{need:.1f} GB/s"))  # fmt: skip
Table(
    ("prompt", "keys and values", "recomputed", *WAYS, "equal at"), rows, "Llama-3-8B, one 910C die"
)

# %% [markdown]
# Even the slowest of these links is faster than recomputing, and the gain grows with the prompt. Each layer can be sent
# while the next one is computed; then only the last layer's message is seen, if the link keeps up:

# %%
long = KVTransfer.of(llama, 4096)
prefill = long.recomputed.seconds(die)
for way in WAYS:
    late = long.exposed(prefill, link(way).bandwidth.value)
    print(f"{way:22} ends {1e3 * late:.2f} ms after the prompt's pass")

# %% [markdown]
# Does it pay? The simulator of chapter 8 knows, given the times of passes. Four dies serve the same requests: as four
# replicas that do both, with chunks of 512 tokens, or with two dies for prompts and two for answers. `DecodeNodeTime` is
# the time of a pass into which keys and values come over a wire:

# %%
from helpers.engine import least_requests
from helpers.simulation import (
    DecodeNodeTime,
    RooflineTime,
    SimulatedEngine,
    simulate_disaggregated,
    simulate_replicas,
    together,
)
from helpers.traffic import Lengths, Mix, poisson

# %%
there = RooflineTime(llama, die)
arriving = DecodeNodeTime(there, supernode, 2 * llama.kv_elements_per_token)
mix = Mix(Lengths(1500, 0.6, 100, 6000), Lengths(150, 0.6, 10, 600))


def engines(count, time, budget):
    """So many engines with this time of a pass and this token budget."""
    return [
        SimulatedEngine(time, 12000, max_batch_size=128, token_budget=budget) for _ in range(count)
    ]


# %%
rows = []
for rate in (10, 20):
    trace = poisson(160, rate, mix, seed=1)
    runs = {"both on each": together(
        simulate_replicas(trace, engines(4, there, 512), least_requests))}  # fmt: skip
    for prompts in (2, 3):
        first, then = engines(prompts, there, 2048), engines(4 - prompts, arriving, 20000)
        runs[f"{prompts} for prompts, {4 - prompts} for answers"] = simulate_disaggregated(
            trace, first, then)  # fmt: skip
    for name, report in runs.items():
        ttft = f"{report.percentile('ttft', 99):.2f} s"
        tpot = [f"{1e3 * report.percentile('tpot', p):.1f} ms" for p in (50, 99)]
        gap = f"{1e3 * report.percentile('largest_gap', 99):.0f} ms"
        rows.append((rate, name, ttft, *tpot, gap, f"{report.throughput:,.0f}"))
names = ("TTFT p99", "TPOT p50", "TPOT p99", "longest gap p99", "tokens/s")
Table(("requests/s", "dies", *names), rows)

# %% [markdown]
# With two dies for each, no prompt disturbs an answer: the p99 of TPOT is close to the median, and lower than that of four
# dies that do both. Prompts wait a little longer for it. With three dies for prompts the first token comes soonest, but
# one die for all answers is too few: answers become slower. Dies that do both need no such choice, and give a few more
# tokens per second. So disaggregation pays where a bound on TPOT is strict, and where the mix of the traffic is known.
# Chunks of prompts are the alternative.
#
# ## Sweep it
#
# A decode step with 2,048 cached tokens for each request. Each bar is a number of devices that share a layer; the framed
# one is yours. Find out where messages take more time than the work, and which part of them. More stages make room for
# more requests, and the time of a token hardly changes.

# %%
from helpers.display import SweepPanel, dropdown, int_slider, power_slider
from helpers.figures import draw_parts

MACHINES = {
    "910C dies, supernode": DIES,
    "910C dies, RoCE": APART,
    "910B3, HCCS": ("Ascend 910B3", "HCCS (910B)"),
}


def draw(name, machine, tensor, stages, batch, latency):
    given = (stages, batch, latency * 1e-6)
    plans = {n: plan(name, MACHINES[machine], n, *given) for n in (1, 2, 4, 8)}
    bars = {
        f"{n} device{'s' * (n > 1)} a layer": {part: 1e3 * s for part, s in plans[n][2].items()}
        for n in plans
    }
    title = f"{name}, {stages} stage{'s' * (stages > 1)}, {batch} requests: one pass"
    fig = draw_parts(bars, title, "ms", list(bars)[tensor.bit_length() - 1])
    return fig, describe(plans[tensor], machine, tensor * stages)


# %%
def describe(found, machine, devices):
    """The panel's table."""
    weights, cache, parts, speed = found
    memory = accelerator(MACHINES[machine][0]).memory.value
    total, largest = sum(parts.values()), max(parts, key=parts.get)
    rows = [
        ("devices", devices),
        ("weights on the fullest", f"{weights / GiB:.1f} GiB"),
        ("its keys and values", f"{cache / GiB:.1f} GiB"),
        ("fits, 10 % left free", "yes" if weights + cache < 0.9 * memory else "no"),
        ("a token takes", f"{1e3 * total:.1f} ms"),
        ("tokens/s", f"{speed:,.0f}"),
        ("tokens/s of a device", f"{speed / devices:,.0f}"),
        ("messages", f"{sum(parts[name] for name in MESSAGES) / total:.0%}"),
        ("most time goes to", largest),
    ]
    return Table(("predicted", ""), rows)


# %%
SweepPanel(
    draw,
    {
        "name": dropdown("model", ["Llama-3-8B", "Qwen3-32B", "Llama-3-70B"], value="Llama-3-70B"),
        "machine": dropdown("machine", list(MACHINES)),
        "tensor": power_slider("devices a layer", value=4, min=1, max=8),
        "stages": power_slider("stages", value=1, min=1, max=8),
        "batch": power_slider("requests", value=32, min=8, max=256),
        "latency": int_slider("µs for a message", value=10, min=1, max=60),
    },
    alt="Four bars of a pass's parts, for 1, 2, 4 and 8 devices that share each layer",
)

# %% [markdown]
# ## On Ascend
#
# Between NPUs, `torch.distributed` uses HCCL: `init_process_group("hccl")`, one process for each NPU, started by
# `torchrun`. The calls are the same as here. HCCS joins the NPUs of a server; between servers HCCL takes RoCE. Two things
# are different:
#
# - One operator can do product and sum, and computes while it sends: `npu_mm_all_reduce_base(x1, x2, hcom, bias=...)` is
#   `RowParallel`, with `x2` as `[in, out]`. Its document names Atlas A2 alone. **In its formula the bias stands inside
#   the sum**: a bias that each rank hands in is added once for each rank. That is the mistake of the beginning.
# - A collective is launched like any other operator (chapter 9), and the host does not wait for it. A rank that launches
#   its collectives in another order than its peers makes all of them wait until a time limit.
#
# **Nothing in this course has run on real Ascend hardware.** On the emulated NPU, the model has run on 2 and 3 ranks
# through torch_npu's own process group for HCCL, and its tokens were those of one process. (The test is
# `tests/npu/test_hccl.py`; [the guide to NPUs](../docs/npu.md) says what is emulated.) The next cell cuts a product on
# the device as two ranks would, in 16 bits, in one process and without HCCL:

# %%
from helpers.machine import choose_device, where_it_ran

device = choose_device()
torch.manual_seed(0)
wide, rows_of_x = torch.randn(64, 128), torch.randn(4, 128)
on_device = [
    rows_of_x[:, half].to(device, torch.float16) @ wide[:, half].T.to(device, torch.float16)
    for half in (slice(0, 64), slice(64, 128))
]
product = (on_device[0] + on_device[1]).cpu().float()
print("two summands, equal to 0.1:", bool((product - rows_of_x @ wide.T).abs().max() < 0.1))
print(where_it_ran(device))

# %% [markdown]
# ## In production
#
# vLLM and vLLM-Ascend (0.23 and later) take the same two numbers. Layers are split evenly among stages unless told
# otherwise; for this chapter's model `VLLM_PP_LAYER_PARTITION="19,11"` is the better split. With
# `--enable-expert-parallel` the devices of a mixture of experts hold whole experts, and attention is shared by
# `--tensor-parallel-size`, or kept whole with `--data-parallel-size`.

# %%
from helpers.production import options_table

options_table(
    {
        "--tensor-parallel-size": "devices that share a layer",
        "--pipeline-parallel-size": "stages",
        "VLLM_PP_LAYER_PARTITION": "layers of each stage",
        "--enable-expert-parallel": "whole experts on each device",
        "--data-parallel-size": "attention whole on each device",
        "eplb_config": "experts by load, and copies",
        "finegrained_tp_config": "other cuts for single matrices",
        "enable_reduce_sample": "no gather of all logits",
        "--kv-transfer-config": "keys and values between prefill and decode",
    }
)

# %% [markdown]
# ## Recap
#
# Tensor parallelism cuts every layer along its heads and columns; two sums a layer make it whole, and small sums cost
# their latency. A pipeline cuts between layers, by work and not by number, and needs as many groups as stages. Counts and
# bytes follow from sizes exactly; times follow from a latency and a bandwidth, where the machine is quiet.
#
# **Check yourself.**
#
# 1. Two ranks give fluent nonsense, all shapes fit, and no rank fails. Where do you look first?
# 2. You double the devices that share a layer, and a token takes as long as before. What has grown?
#
# <details><summary>Answers</summary>
#
# 1. At what a cut made of fused matrices, then at what is added on every rank (a bias, the residual), then at what each
#    rank decides for itself: tokens, plans, clocks.
# 2. The work of each device was halved, but the sums were not: their number is the same, and each takes at least its
#    latency.
#
# </details>
#
# Now you: [Lab 11](../labs/11_parallelism.ipynb).
# Next: [12 Serving and load balancing](12_serving.ipynb).
# Back: [10 Quantisation and pruning](10_quantisation.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
