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
# # 1 Memory math
#
# **Promise.** You will predict, from a model's published sizes alone, the bytes of its weights, its KV cache and its
# activations, and see each prediction met by a real model.
#
# **You need** [chapter 0](00_start_here.ipynb). About 55 minutes.
#
# **We measure** bytes: of the weights of SmolLM2-135M, of the keys and values it leaves behind, and of everything that
# a forward pass allocates at its worst moment.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# Two units, kept apart through the whole course: **GB** is $10^9$ bytes (the unit of papers),
# [**GiB**](../docs/glossary.md#gib) is $2^{30}$ bytes (the unit of a device's memory). 64 GiB are
# 68.7 GB.

# %% [markdown]
# ## Feel the problem: an estimate that looks right
#
# Memory decides what can be served: how large a model, how many requests at once, how long they may be. A well-known
# way to estimate it needs four numbers.


# %%
def plausible_estimate(num_params, hidden_size, num_layers, batch_size, seq_len, dtype="fp16"):
    """Weights, KV cache and activations in GB. Plausible, and wrong in three places."""
    size = 2 if dtype == "fp16" else 4
    weights = num_params * size
    kv_cache = 2 * batch_size * seq_len * hidden_size * num_layers * size
    activation = 2 * kv_cache
    parts = {"model": weights, "kv_cache": kv_cache, "activation": activation}
    return {name: nbytes / 1e9 for name, nbytes in parts.items()}


gpt3 = plausible_estimate(175e9, 12288, 96, batch_size=1, seq_len=2048)
print({name: round(size, 2) for name, size in gpt3.items()}, "total", round(sum(gpt3.values()), 1))

# %% [markdown]
# This is the textbook example, GPT-3 with 175 billion weights in fp16, one request of 2048 tokens: 350 GB of weights,
# 9.66 GB of cache. So far, so good. Now a model whose bytes we can count. Here are two requests of 256 tokens.

# %%
import torch

from helpers.machine import peak_memory
from helpers.model import ConcatCache, FlatBatch, checkpoint

model, tokenizer = checkpoint.load(torch.float32)
text = tokenizer("Memory decides how many requests a device can serve at once. " * 64)["input_ids"]
batch = FlatBatch.pack([text[:256], text[256:512]], device=model.device)
cache = ConcatCache()
model(batch, cache)
weights = sum(parameter.nbytes for parameter in model.parameters())
with peak_memory(model.device) as peak:
    model(batch)

# %%
from helpers.display import Table
from helpers.model import PUBLISHED

smol = PUBLISHED["SmolLM2-135M"]
guess = plausible_estimate(smol.num_params, smol.hidden_size, smol.num_layers, 2, 256, "fp32")
counted = {"model": weights / 1e9, "kv_cache": cache.nbytes / 1e9, "activation": peak.nbytes / 1e9}
rows = [
    (name, f"{guess[name]:.4f}", f"{counted[name]:.4f}", f"{guess[name] / counted[name]:.1f} x")
    for name in guess
]
Table(("", "estimated GB", "counted GB", "off by"), rows)

# %% [markdown]
# The weights are right. The cache is three times too large, the activations more than ten times. And there is a third
# mistake, which this example hides: the same model in int8.

# %%
for dtype in ("fp16", "int8"):
    estimate = plausible_estimate(smol.num_params, smol.hidden_size, smol.num_layers, 2, 256, dtype)
    print(f"{dtype}: {estimate['model']:.3f} GB of weights, {estimate['kv_cache']:.4f} GB of cache")

# %% [markdown]
# Eight-bit numbers that take twice the room of sixteen-bit ones: whatever is not fp16 is counted at four bytes. The
# rest of this chapter replaces the three wrong lines, one by one.

# %% [markdown]
# ## The idea in a picture
#
# Three things live in an accelerator's memory. **Weights**: fixed. **KV cache**: grows with every token of every
# request, and stays as long as the request lives. [**Activations**](../docs/glossary.md#activations): what one forward pass needs for a moment.

# %%
from helpers.display import plots
from helpers.estimates import GB, GiB, MemoryCalculator, kv_cache_bytes

calculator = MemoryCalculator()
llama = PUBLISHED["Llama-3-8B"]
requests = range(0, 129)
step = calculator.estimate_total_memory(llama, 1, 2048, "bf16")
parts = {
    "weights": [step["model"]] * 129,
    "activations of a step": [step["activation"]] * 129,
    "KV cache": [kv_cache_bytes(llama, n, 4096) / GB for n in requests],
}
fig, ax = plots.new_figure("Llama-3-8B in bf16, requests of 4096 tokens", "requests at once", "GB")
plots.stacked_areas(ax, requests, parts, colors=("weights", "activations", "kv_cache"))
ax.axhline(64 * GiB / GB, color="black", linestyle="--", label="a device of 64 GiB")
ax.set_ylim(0, 125)
plots.legend(ax, loc="upper left", ncols=2)
plots.show(fig, alt="Weights and activations stay flat, the KV cache grows past 64 GiB")

# %% [markdown]
# ## Build it: weights
#
# A weight takes as many bytes as its type ([**dtype**](../docs/glossary.md#dtype)): fp32 and fp16 are floating-point numbers of 32 and 16 bits, bf16 has
# 16 bits with fp32's range, fp8 and int8 have 8, int4 has 4. Small types come in [**groups**](../docs/glossary.md#groups): a few dozen weights share a
# *scale* to multiply with, and a *zero point* to start from, which take room, too.

# %%
from helpers.display import show_source
from helpers.estimates import bytes_per_element

show_source(bytes_per_element)

# %%
rows = []
no_groups = [(dtype, None) for dtype in ("fp32", "bf16", "fp8", "int8")]
for dtype, group in (*no_groups, ("int4", 128), ("int4", 32)):
    each = bytes_per_element(dtype, group)
    rows.append((dtype, group or "-", f"{each:.4f}", f"{llama.num_params * each / GB:.2f}"))
Table(("type", "group", "bytes per weight", "Llama-3-8B, GB"), rows)

# %% [markdown]
# Is that how files are made? The model on your disk came as a file. Its weights have 4 bits, in
# groups of 32, each group with a 16-bit scale and a 16-bit minimum, its zero point (a format called
# Q4_1). Its embedding has 8 bits, with a scale per 32 weights (Q8_0). We predict what each type
# takes in that file, and read the file.

# %%
from gguf import GGUFReader

from helpers.storage import smollm2

options = {"Q4_1": ("int4", 32, 16, 16), "Q8_0": ("int8", 32, 16, 0), "F32": ("fp32",)}
stored = {}
for tensor in GGUFReader(smollm2.fetch(checkpoint.locate())).tensors:
    count, nbytes = stored.get(tensor.tensor_type.name, (0, 0))
    stored[tensor.tensor_type.name] = (count + int(tensor.n_elements), nbytes + int(tensor.n_bytes))
for name, (count, nbytes) in sorted(stored.items()):
    predicted = count * bytes_per_element(*options[name])
    print(f"{name}: {count:,} weights, {predicted:,.0f} bytes predicted,", end=" ")
    print("equal to the file's:", predicted == nbytes)

# %% [markdown]
# The course unpacked that file to fp32 once and keeps the result as a checkpoint folder. `stored_bytes` adds up the
# tensors of a folder's files and loads none of them: whenever you have a folder, ask it, too.

# %%
from helpers.estimates import weight_bytes
from helpers.model import ModelShape, stored_bytes

folder = checkpoint.locate()
predicted, found = weight_bytes(ModelShape.from_file(folder), "fp32"), stored_bytes(folder)
print(f"{predicted:,.0f} bytes predicted, {found:,} in the files, equal: {predicted == found}")

# %% [markdown]
# ## Build it: the KV cache
#
# Each layer keeps a **key** and a **value** vector for each token and each *KV head*. The plausible version took
# `hidden_size` for their width. In [**multi-head attention**](../docs/glossary.md#multi-head-attention) (MHA) every query head has keys of its own, and there that
# holds. In [**grouped-query attention**](../docs/glossary.md#grouped-query-attention) (GQA) several query heads share one KV head: SmolLM2 has 9 query heads and 3 KV heads,
# Llama-3-8B has 32 and 8.
#
# $$\text{bytes per token} = 2 \times \text{layers} \times \text{KV heads} \times \text{head dim} \times \text{bytes per element}$$

# %%
show_source(kv_cache_bytes)

# %%
rows = []
for shape in PUBLISHED.values():
    as_mha = 2 * shape.num_layers * shape.hidden_size * 2 / 1e3
    real = kv_cache_bytes(shape, 1, 1) / 1e3
    heads = f"{shape.num_heads} / {shape.num_kv_heads}"
    rows.append((shape.name, heads, f"{as_mha:,.1f}", f"{real:,.1f}", f"{as_mha / real:.2f} x"))
headers = ("model", "query / KV heads", "hidden_size formula, kB", "real, kB", "off by")
Table(headers, rows, caption="KV cache per token, bf16")

# %% [markdown]
# Llama-3-8B's cache is a quarter of what the formula says, Llama-3-70B's an eighth. That Qwen3-0.6B comes out right is
# luck: its 8 KV heads of 128 happen to be as wide as its hidden state, its 16 query heads twice as wide.

# %% [markdown]
# ## Build it: layers that are not alike
#
# Up to here, all layers of a model kept the same. Three inventions of today's models end that: latent attention, sliding
# windows, and mixtures of experts. So we describe each layer by itself, as a `LayerShape`: what it caches, and which
# weights a token meets there. It is read off the model that `transformers` builds from a config. That model stands on
# torch's [**meta device**](../docs/glossary.md#meta-device), where a tensor has a shape and a type but no memory: 671 billion weights fit into a laptop.

# %%
from helpers.estimates import PUBLISHED_CONFIGS, published_config, published_shape

for name, published in PUBLISHED_CONFIGS.items():
    print(f"{name:18}  {published.num_params / 1e9:6.1f} billion weights  {published.source}")

# %% [markdown]
# ### Latent attention
#
# DeepSeek-V3 has 128 heads. In [**multi-head latent attention**](../docs/glossary.md#multi-head-latent-attention) (MLA) a layer keeps for each token one short vector, the *latent*, from which the
# keys and values of all heads can be computed again. Beside it stands one small rotated key, which all heads share.
# The heads do not enter, and nothing is doubled.

# %%
config, deepseek = published_config("DeepSeek-V3"), published_shape("DeepSeek-V3")
layers, heads = config.num_hidden_layers, config.num_attention_heads
by_heads = layers * heads * (config.qk_head_dim + config.v_head_dim) * 2
by_latent = layers * (config.kv_lora_rank + config.qk_rope_head_dim) * 2
print(f"keys and values of {heads} heads: {by_heads:,} bytes per token")
print(f"latent and rotated key:        {by_latent:,} bytes per token")
print("helpers agrees with the second:", kv_cache_bytes(deepseek, 1, 1) == by_latent)

# %% [markdown]
# Is that what a real implementation keeps? `transformers` passes 1000 tokens through its own model on the meta device,
# and we count the bytes of its own cache.

# %%
from transformers import AutoModelForCausalLM


def real_cache_bytes(config, tokens):
    """Bytes of `transformers`' own cache of one text, in bf16."""
    with torch.device("meta"), torch.inference_mode():
        real = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        ids = torch.zeros(1, tokens, dtype=torch.long)
        layers = real(ids, use_cache=True).past_key_values.layers
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)


real, ours = real_cache_bytes(config, 1000), kv_cache_bytes(deepseek, 1, 1000)
print(f"{real:,} bytes in transformers' cache, {ours:,} predicted, equal: {real == ours}")

# %% [markdown]
# What is it worth? The longest text that a device of 64 GiB could hold if it held nothing else:

# %%
for shape in (published_shape("Llama-3-70B"), deepseek):
    each = kv_cache_bytes(shape, 1, 1)
    print(f"{shape.name}: {shape.num_layers} layers, {each / 1e3:.1f} kB per token,", end=" ")
    print(f"{64 * GiB // each:,} tokens in 64 GiB")

# %% [markdown]
# ### Sliding windows
#
# In a layer with a [sliding window](../docs/glossary.md#sliding-window) of $w$ a token sees itself and the $w - 1$ tokens before it. Older keys and values are
# thrown away, and the layer's cache stops growing. Most models mix: some layers have a window, the others see the whole
# text.

# %%
rows = []
for name in ("Mistral-7B-v0.1", "Gemma-3-1B", "gpt-oss-20b"):
    shape = published_shape(name)
    windows = [layer.window for layer in shape.layers if layer.window]
    sizes_mb = [f"{kv_cache_bytes(shape, 1, n) / 1e6:,.1f}" for n in (1024, 8192, 32768)]
    rows.append((name, f"{len(windows)} of {shape.num_layers}", windows[0], *sizes_mb))
headers = ("model", "layers with a window", "window", "1,024 tokens", "8,192", "32,768")
Table(headers, rows, caption="Cache of one request, bf16, MB")

# %% [markdown]
# The proof again: 600 tokens are longer than Gemma's window of 512, and longer than gpt-oss's of 128.

# %%
for name in ("Gemma-3-1B", "gpt-oss-20b"):
    real = real_cache_bytes(published_config(name), 600)
    ours = kv_cache_bytes(published_shape(name), 1, 600)
    print(
        f"{name}: {real:,} bytes in transformers' cache, predicted {ours:,}, equal: {real == ours}"
    )

# %% [markdown]
# Without its windows, the cache of Gemma-3-1B would go on growing in every layer:

# %%
from dataclasses import replace

gemma, lengths = published_shape("Gemma-3-1B"), range(0, 8193, 64)
endless = replace(gemma, layers=tuple(replace(layer, window=None) for layer in gemma.layers))
fig, ax = plots.new_figure("Cache of one request, Gemma-3-1B in bf16", "tokens", "MB")
for shape, name, color in ((endless, "no windows", "accent"), (gemma, "as published", "kv_cache")):
    curve = [kv_cache_bytes(shape, 1, n) / 1e6 for n in lengths]
    ax.plot(lengths, curve, color=plots.COLORS[color], label=name)
plots.legend(ax, loc="upper left")
plots.show(fig, alt="With windows the line bends at 512 tokens and is almost flat behind that")

# %% [markdown]
# Some layers go further and keep no tokens at all, but a *state* of fixed size: linear attention, state spaces. Models
# that mix them with attention are called *hybrid*. `state_bytes` counts their states; you will size a hybrid in the lab.

# %% [markdown]
# ### Mixtures of experts
#
# A layer with a [**mixture of experts**](../docs/glossary.md#mixture-of-experts) (MoE) has many MLPs, the *experts*, and a small matrix, the *router*, that
# chooses a few of them for each token. Memory must hold them all; a token is multiplied by the chosen ones alone.

# %%
rows = []
for name in ("Mixtral-8x7B", "Qwen3-30B-A3B", "gpt-oss-20b", "DeepSeek-V3"):
    shape = published_shape(name)
    layer = shape.layers[-1]
    active = sum(each.active for each in shape.layers) + shape.vocab_size * shape.hidden_size
    experts = f"{layer.experts_per_token} of {layer.num_experts}"
    rows.append((name, experts, f"{shape.num_params / 1e9:.1f}", f"{active / 1e9:.1f}"))
Table(("model", "experts for a token", "held, billion weights", "met by a token"), rows)

# %% [markdown]
# Both columns can be counted. Held: the parameters that `transformers` allocates (on the meta device). Met: a toy
# Mixtral computes one token, and torch counts the operations of all matrix products, two for each weight.

# %%
from torch.utils.flop_counter import FlopCounterMode
from transformers import MixtralConfig

with torch.device("meta"):
    held = AutoModelForCausalLM.from_config(published_config("Mixtral-8x7B")).num_parameters()
print(f"{held:,} weights held:", held == published_shape("Mixtral-8x7B").num_params)
toy = MixtralConfig(vocab_size=96, hidden_size=64, intermediate_size=48, num_hidden_layers=4)
toy_model = AutoModelForCausalLM.from_config(toy, experts_implementation="eager")
with FlopCounterMode(display=False) as counter, torch.inference_mode():
    toy_model(torch.tensor([[5]]), use_cache=False)
counted = counter.get_flop_counts()["Global"][torch.ops.aten.mm]
met = sum(layer.active for layer in ModelShape.from_hf(toy).layers) + 96 * 64
print(f"{counted // 2:,} weights met by a token:", counted == 2 * met)

# %% [markdown]
# Which experts a token needs is known only when it is there. A batch of tokens meets more and more of them: on
# average all but $(1 - k/E)^n$ of $E$ experts, when a router that favours none chooses $k$ for each of $n$ tokens. What
# experts save in *operations* stays, what they save in *bytes read* is lost as the batch grows.

# %%
from helpers.estimates import decode_cost

qwen, rows = published_shape("Qwen3-30B-A3B"), []
for requests_now in (1, 4, 16, 64, 256):
    cost = decode_cost(qwen, 1024, requests_now)
    experts = f"{qwen.layers[0].distinct_experts(requests_now):.1f} of {qwen.layers[0].num_experts}"
    per_request = cost.flops / requests_now / 1e9
    rows.append((requests_now, experts, f"{cost.weight_bytes / GB:.1f}", f"{per_request:.1f}"))
headers = ("requests", "experts read in a layer", "weights read, GB", "GFLOP per request")
Table(headers, rows, caption="One decode step of Qwen3-30B-A3B in bf16, 1024 tokens cached each")

# %% [markdown]
# ## Build it: activations
#
# "Twice the KV cache" cannot be a law: the cache keeps every layer's tensors, while activations are thrown away. When a
# layer ends, its memory serves the next. So the **number of layers does not enter**; what counts is the worst moment
# inside one layer, or the logits at the very end. We go through our own model and write down what is alive.

# %%
from helpers.model import MLP

show_source(MLP)

# %% [markdown]
# In the MLP (*multi-layer perceptron*, a layer's feed-forward half), per token: `gate_up_proj` gives two vectors of `intermediate_size`, `swiglu` makes a third. Beside them live
# the residual stream, the normed input, and the previous layer's output, each of `hidden_size`. The same is done for
# the other phases in `helpers.estimates.activations`.

# %%
from helpers.estimates import activation_phases

show_source(activation_phases)

# %% [markdown]
# What would that give for prompts of 256 tokens? Two switches change the picture. [**Materialised**](../docs/glossary.md#materialised) attention stores the
# score of every query against every key; [**fused**](../docs/glossary.md#fused) attention computes the same without storing them (chapter 7).
# And logits may be computed for *all* tokens, or for the *last* one of each prompt, the only one that chooses a token.

# %%
rows = []
for attention in ("fused", "materialised"):
    for logits in ("last", "all"):
        phases = activation_phases(smol, 2, 256, 4, attention=attention, logits=logits)
        sizes = [f"{nbytes / 1e6:.1f}" for nbytes in phases.values()]
        rows.append((attention, logits, *sizes, max(phases, key=phases.get)))
caption = "MB in use per phase: SmolLM2, fp32, 2 prompts of 256 tokens"
Table(("attention", "logits", *phases, "widest"), rows, caption)

# %% [markdown]
# ## Prove it
#
# Weights and cache to the byte. The cache holds the two requests of 256 tokens from above. (On a CPU, our model keeps a
# second copy of its embedding, laid out for the matrix kernels that turn it into logits. It speeds the logits up, belongs
# to this processor and not to the model, and is not counted.)

# %%
estimate = calculator.estimate_total_memory(smol, batch_size=2, seq_len=256, dtype="fp32")
print("weights:", round(estimate["model"] * GB) == weights, f"({weights:,} bytes)")
print("cache:  ", round(estimate["kv_cache"] * GB) == cache.nbytes, f"({cache.nbytes:,} bytes)")

# %% [markdown]
# Activations: predicted first, then measured. On an accelerator the allocator counts; on a CPU, torch's profiler records
# every allocation. Two prompt lengths, two batch sizes.

# %%
rows = []
for batch_size, seq_len in ((1, 128), (1, 512), (2, 128), (2, 512)):
    estimate = calculator.estimate_total_memory(smol, batch_size, seq_len, "fp32")
    predicted = estimate["activation"] * 1e3
    batch = FlatBatch.pack([text[:seq_len]] * batch_size, device=model.device)
    with peak_memory(model.device) as peak:
        model(batch)
    counted = peak.nbytes / 1e6
    close = abs(predicted / counted - 1) < 0.1
    rows.append((batch_size, seq_len, f"{predicted:.1f}", f"{counted:.1f}", close))
Table(("prompts", "tokens each", "predicted MB", "measured MB", "within 10 %"), rows)

# %% [markdown]
# ## Measure it: what the two switches cost
#
# Lines are predictions, dots are measurements. Materialised scores grow with the *square* of the prompt's length.

# %%
from helpers import ops
from helpers.estimates import activation_bytes
from helpers.model import NoCache

cases = {
    "fused, last logits": ("fused", "last", "kv_cache"),
    "materialised, last logits": ("materialised", "last", "accent"),
    "fused, all logits": ("fused", "all", "activations"),
}
lengths, measured_peaks = (64, 256, 1024), {}
for name, (attention, logits, _) in cases.items():
    kernel = ops.attention if attention == "fused" else ops.materialised_attention
    for length in lengths:
        batch = FlatBatch.pack([(text * 2)[:length]], device=model.device)
        with peak_memory(model.device) as peak:
            model(batch, NoCache(kernel), logits=logits)
        measured_peaks[name, length] = peak.nbytes / 1e6

# %%
fig, ax = plots.new_figure("Activations of one prompt, SmolLM2 in fp32", "prompt tokens", "MB")
for name, (attention, logits, color) in cases.items():
    curve, options = range(32, 1025, 32), {"attention": attention, "logits": logits}
    predicted = [activation_bytes(smol, 1, n, 4, **options) / 1e6 for n in curve]
    ax.plot(curve, predicted, color=plots.COLORS[color], label=f"{name}: predicted")
    ax.plot(lengths, [measured_peaks[name, n] for n in lengths], "o", color=plots.COLORS[color])
ax.plot([], [], "o", color="black", label="measured")
plots.log_axis(ax, "y")
plots.legend(ax, loc="lower right")
plots.show(fig, alt="Predicted curves pass through the measured dots in all three cases")

# %%
worst = max(
    abs(activation_bytes(smol, 1, n, 4, attention=a, logits=w) / 1e6 / measured_peaks[name, n] - 1)
    for name, (a, w, _) in cases.items()
    for n in lengths
)
print("every prediction within 10 %:", worst < 0.1)

# %% [markdown]
# ## The example again
#
# `MemoryCalculator` still reproduces the textbook figures when it is given the textbook's four numbers. Given the whole
# shape, it derives the activations, and they are nowhere near twice the cache.

# %%
article = {"num_params": 175e9, "hidden_size": 12288, "num_layers": 96, "dtype": "fp16"}
configs = {"four numbers, 2 x KV": article, "whole shape, derived": PUBLISHED["GPT-3 175B"]}
rows = []
for name, config in configs.items():
    estimate = calculator.estimate_total_memory(config, batch_size=1, seq_len=2048)
    rows.append((name, *(f"{gigabytes:.2f}" for gigabytes in estimate.values())))
Table(("GPT-3, GB", "weights", "KV cache", "activations", "total"), rows)

# %% [markdown]
# ## Sweep it
#
# Choose a model, a weight type, a number of requests and their length. The dashed line is the accelerator's memory; the
# number of requests that fit keeps a tenth of it free. The first choice of a model with layers of its own takes a few
# seconds, in which `transformers` builds it. For **your own model**, write the path of its folder or of its
# `config.json` into the box and press Enter. Weights *as published* are what the config says, quantised ones with their
# scales; where the folder has the weights' files, their true bytes stand beside. No code of the folder runs.

# %%
from pathlib import Path

from helpers.display import SweepPanel, dropdown, power_slider, text_box
from helpers.estimates import ACCELERATORS, SizedModel
from helpers.model import config_from_file

MODELS = [*PUBLISHED, *PUBLISHED_CONFIGS]


def sized(model, dtype, path):
    """The chosen model, or the one of a config file, with the bytes of its weights."""
    dtype = None if dtype == "as published" else dtype
    if path:
        return SizedModel.of(config_from_file(Path(path).expanduser()), dtype)
    if dtype is None and model in PUBLISHED_CONFIGS:
        return SizedModel.of(published_config(model))
    return SizedModel.of(published_shape(model), dtype)


# %%
def sizes(model, batch, seq_len):
    """GB of weights, activations of a step of at most 2048 tokens, and cache."""
    estimate = calculator.estimate_total_memory(model, batch, seq_len)
    step = calculator.estimate_total_memory(model, 1, min(2048, batch * seq_len))
    cache = estimate["kv_cache"] + estimate.get("state", 0)
    return {"weights": estimate["model"], "activations": step["activation"], "cache": cache}


def numbers(model, path, batch, seq_len, memory):
    """The table's rows: what is chosen, what fits, and what the files of a folder hold."""
    chosen = {**sizes(model, batch, seq_len), "device": memory / GB}
    rows = [(name, f"{size:,.2f} GB") for name, size in chosen.items()]
    fits = calculator.max_batch_size(model, seq_len, memory)
    folder = Path(path).expanduser() if path else None
    if folder and any(folder.glob("*.safetensors")):
        rows.append(("weights in the files", f"{stored_bytes(folder) / GB:,.2f} GB"))
    return Table(("", "here"), [*rows, ("requests that fit", f"{fits:,}")])


# %%
def draw(model, dtype, batch, seq_len, device, path):
    memory, counts = ACCELERATORS[device].memory.value, range(1, 257, 5)
    shown = sized(model, dtype, path)
    curves = [sizes(shown, n, seq_len) for n in counts]
    title = f"{shown.shape.name}, {dtype} weights, on {device}"
    fig, ax = plots.new_figure(title, "requests at once", "GB", width=6)
    parts = {name: [curve[name] for curve in curves] for name in curves[0]}
    plots.stacked_areas(ax, counts, parts, colors=("weights", "activations", "kv_cache"))
    ax.axhline(memory / GB, color="black", linestyle="--", label="device memory")
    ax.axvline(batch, color="black", linestyle=":", linewidth=2, label="chosen")
    ax.set_ylim(0, 2 * memory / GB)
    plots.legend(ax, loc="upper left", ncols=2)
    return fig, numbers(shown, path, batch, seq_len, memory)


# %%
WEIGHTS = ["fp32", "bf16", "int8", "int4", "as published"]
SweepPanel(
    draw,
    {
        "model": dropdown("model", MODELS, value="Llama-3-8B"),
        "dtype": dropdown("weights", WEIGHTS, value="bf16"),
        "batch": power_slider("requests", value=16, max=256),
        "seq_len": power_slider("tokens each", value=4096, min=128, max=32768),
        "device": dropdown("device", list(ACCELERATORS), value="Ascend 910B1"),
        "path": text_box("or your own", "folder or config.json, then Enter"),
    },
    alt="Weights, activations and cache by number of requests, beside the device's memory",
)

# %% [markdown]
# A file that is no config gets one sentence, and the panel goes on:

# %%
try:
    sized("", "bf16", "../README.md")
except ValueError as refusal:
    print(refusal)

# %% [markdown]
# ## On Ascend
#
# These are the accelerators that the course knows, with the standing of each figure: *official* (read from the maker's
# files, its simulator among them), *derived* (computed from those), *reported* (said in a paper or talk), *unknown* (nothing
# usable found). Peaks of fp16 and bf16 are two figures: the maker's simulator states others for fp16 than for bf16, while
# derived ones are the same for both. For the 910B1 and the 910C die the simulator has no profile with the derived peak; its dies
# have another clock.
#
# The last column: which of the two attention operators that the course calls (chapter 7) list the product in their documents,
# as of August 2026. The 310P has no bf16, and neither of the two; the documents of FIA do not list the 950.


# %%
def told(figure, unit, digits=0):
    """A figure in a unit, with its standing."""
    value = f"{figure.value / unit:.{digits}f}" if figure.value else "?"
    return f"{value} ({figure.status})"


short = {"npu_fused_infer_attention_score": "FIA (16 bits)", "npu_fusion_attention": "fusion"}
rows = []
for item in ACCELERATORS.values():
    name, memory = item.name, told(item.memory, GiB)
    peaks = [told(item.peak("fp16"), 1e12), "none"]
    if item.bf16:
        peaks[1] = told(item.peak("bf16"), 1e12)
    listed = ", ".join(short[name] for name in item.attention) or "none"
    rows.append((name, memory, told(item.bandwidth, 1e12, 2), *peaks, listed))
headers = ("accelerator", "memory, GiB", "TB/s", "fp16, TFLOP/s", "bf16, TFLOP/s", "attention")
Table(headers, rows)

# %% [markdown]
# How many requests of 4096 tokens fit, and how long may a single one be? The calculator takes 90 % of the device (what vLLM
# takes, the last table of this chapter says), keeps the weights, sets the activations of a step of 2048 tokens aside, and gives the rest to the KV cache.

# %%
names = ("Qwen3-0.6B", "Qwen2.5-7B", "Llama-3-8B", "Qwen3-32B")
rows = []
for item in ACCELERATORS.values():
    memory = item.memory.value
    fits = [calculator.max_batch_size(PUBLISHED[name], 4096, memory) for name in names]
    longest = calculator.max_seq_len(PUBLISHED["Llama-3-8B"], 1, memory)
    rows.append((item.name, *(f"{n:,}" for n in fits), f"{longest:,}"))
headers = ("accelerator", *names, "longest Llama-3-8B context that memory allows")
Table(headers, rows, caption="requests of 4096 tokens at once, weights and cache in bf16")

# %% [markdown]
# On an NPU, torch_npu's caching allocator keeps the count: `torch.npu.memory_allocated()` for what
# tensors use, `torch.npu.max_memory_allocated()` for the peak, `torch.npu.mem_get_info()` for free
# and total memory. `peak_memory` above uses them through `torch.accelerator`, which is the same
# call on every accelerator. Expect a little more than the formula says. On the 910B, torch_npu adds
# 32 bytes to each allocation and rounds up to a multiple of 512. Attention in fp32 returns 64 bytes
# of statistics for each head and token beside its result.

# %%
from helpers.machine import total_memory, where_it_ran

print(where_it_ran(model.device))
print("the device's memory is known:", total_memory(model.device) > 0)

# %% [markdown]
# ## In production
#
# vLLM-Ascend (the plug-in that lets the vLLM engine run on NPUs) does this arithmetic when it starts. Its options are
# the terms of this chapter. Options age, so such tables are printed from dated facts of the library; all of them, with
# the files that were read, are in [options of production engines](../docs/production.md).

# %%
from helpers.production import options_table

options_table(
    {
        "--gpu-memory-utilization": "the share of the device that is used at all",
        "--max-num-batched-tokens": "the tokens of one step, hence the activations",
        "--max-model-len": "the longest request",
        "--max-num-seqs": "the number of requests at once",
        "--kv-cache-dtype": "bytes per element of the cache",
        "--quantization": "bytes per weight",
    }
)

# %% [markdown]
# ## Recap
#
# Weights are a product of two numbers once groups are counted. The KV cache follows from layers, *KV* heads and head
# dimension, and is what limits the number of requests; a latent, a window or a state of fixed size makes a layer's part
# small, and layers differ. Experts are held all and read a few. Activations are the worst moment of one layer or the logits,
# whatever the number of layers, and storing attention scores or all logits is what makes them large.
#
# **Check yourself.**
#
# 1. A model has 32 layers, 32 query heads, 4 KV heads of dimension 128, in bf16. What does a token leave in the cache?
# 2. You double the number of layers. Which of weights, KV cache and activations double?
# 3. A layer has a window of 512. A request grows from 1,000 to 2,000 tokens. How many more tokens does the layer keep?
#
# <details><summary>Answers</summary>
#
# 1. 2 x 32 x 4 x 128 x 2 bytes = 65,536 bytes. The query heads do not matter.
# 2. The KV cache doubles, the weights nearly (the embedding does not), the activations stay.
# 3. None. It kept 511 and keeps 511; the next token is the 512th that it sees.
#
# </details>
#
# Now you: [Lab 1](../labs/01_memory_math.ipynb).
# Next: [2 Prefill/decode profiling](02_prefill_decode_profiling.ipynb).
# Back: [0 Start here](00_start_here.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
