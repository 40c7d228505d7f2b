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
# # 0 Start here
#
# **Promise.** In ten minutes you will have run a real language model on this machine, counted how much work one
# short answer costs, and seen how this course goes about making it cheaper.
#
# **You need** Python and a first acquaintance with PyTorch. About 10 minutes. No accelerator, no network: the model is
# on your disk.
#
# **We measure** the tokens that pass through the model for one answer, and the time they take.

# %% [markdown]
# ## Where you are
#
# Run each cell with <kbd>Shift</kbd>+<kbd>Enter</kbd>. Every notebook starts with the library `helpers`, which holds all
# that the course builds, and prints its versions once.

# %% tags=["nbval-ignore-output"]
from helpers.measurements import environment_report

environment_report()

# %% [markdown]
# The course is about serving language models on Huawei Ascend [**NPU**](../docs/glossary.md#npu)s (neural processing units: accelerators built
# around a matrix unit). Everything runs on a CPU too, with the same code; only the operators underneath differ.
# On a CPU some operators are *native kernels*: C++ that is compiled on this machine, once. Without a compiler, PyTorch's own
# operators compute the same.

# %%
from helpers.machine import choose_device, where_it_ran

print(where_it_ran(choose_device()))

# %% [markdown]
# ## A real model answers
#
# The model is SmolLM2-135M-Instruct: small, but a language model like the large ones. Its architecture is Llama's,
# and its weights came with the set-up.

# %%
from helpers.model import PUBLISHED, checkpoint

model, tokenizer = checkpoint.load()
shape = PUBLISHED["SmolLM2-135M"]
print(f"{sum(p.numel() for p in model.parameters()):,} weights in {shape.num_layers} layers")

# %% [markdown]
# A language model reads [**tokens**](../docs/glossary.md#tokens): numbers that stand for words or pieces of words. A chat model wants them in the
# format that it was trained on, with marks for who is speaking.

# %%
from helpers.model import chat_prompt, generate

prompt = chat_prompt(tokenizer, "What is the capital of France?")
print(len(prompt), "tokens:", prompt[-8:], "...")
print(tokenizer.decode(prompt))

# %% [markdown]
# Now the answer. [**Greedy**](../docs/glossary.md#greedy) generation takes the likeliest token, adds it to the text, and asks again.

# %%
answer = generate(model, prompt, max_new_tokens=20, stop_ids=[tokenizer.eos_token_id])
print(answer.text(tokenizer))
print("every choice was clear:", answer.min_margin > 0.05)

# %% [markdown]
# The last line matters for a course whose outputs are checked on other machines. Processors round differently; where
# two tokens are nearly equally likely, another processor may take the other one. So we look at the [**margin**](../docs/glossary.md#margin), the
# distance between the two best scores. `answer.text` refuses to show a text whose margin is 0.05 or less somewhere.

# %% [markdown]
# ## What one step does
#
# One pass through the model gives a [**logit**](../docs/glossary.md#logit) for each token of the vocabulary: a score, which softmax turns into a
# probability. Here are the favourites for the first token of the answer.

# %%
from helpers.display import Table
from helpers.model import FlatBatch

logits = model(FlatBatch.pack([prompt]))  # a batch of one text; logits come for its last token
best = logits[0].softmax(dim=-1).topk(5)
favourites = zip(best.indices.tolist(), best.values.tolist())
rows = [(repr(tokenizer.decode(token)), f"{probability:.2f}") for token, probability in favourites]
print("logits:", tuple(logits.shape))
Table(("token", "probability"), rows)

# %% [markdown]
# ## The problem of this course
#
# To choose the second token, the loop above sent the *whole text* through the model again, and again for the third.
# The answer object kept count.

# %%
new, sent = len(answer.token_ids), answer.tokens_computed
print(f"{new} tokens answered, {sent} tokens computed")
print("prompt + prompt + 1 + prompt + 2 ...:", sum(len(prompt) + i for i in range(new)) == sent)

# %% [markdown]
# A [**KV cache**](../docs/glossary.md#kv-cache) keeps what earlier tokens left behind (their *keys* and *values*, which later tokens look at), so that
# each pass computes new tokens only. Chapter 3 builds one. The library's simplest cache is enough to see the effect.

# %%
from helpers.model import ConcatCache

cached = generate(model, prompt, 20, cache=ConcatCache(), stop_ids=[tokenizer.eos_token_id])
print("same tokens:", cached.token_ids == answer.token_ids)
print(f"{cached.tokens_computed} tokens computed instead of {answer.tokens_computed}")

# %% [markdown]
# The claim was not "it should be the same": the cell compared every token. That is how each technique in this course is
# introduced: **break** the plausible version, **build** the right one, **prove** it equal to the plain path, **measure**.

# %%
from helpers.display import measured
from helpers.machine import Stopwatch

for name, make_cache in (("no cache", lambda: None), ("KV cache", ConcatCache)):
    with Stopwatch(model.device) as watch:
        generate(model, prompt, 20, cache=make_cache(), stop_ids=[tokenizer.eos_token_id])
    print(f"{name}: {measured(watch.seconds, 's')}")

# %% [markdown]
# Seven times less work, and yet not seven times as fast: a pass over one token takes nearly as long as a pass over forty.
# Chapter 2 finds out why.
#
# Numbers that come from a clock are marked *measured*: yours differ from the ones saved here. Every other number must
# come out the same on your machine, and a test checks that it does.

# %% [markdown]
# ## A panel to play with
#
# How much does the cache save for longer answers? Without one, an answer of $n$ tokens to a prompt of $p$ tokens sends
# $p + (p+1) + \dots + (p+n-1)$ tokens through the model; with one, $p + n - 1$. Move the sliders.

# %%
from helpers.display import SweepPanel, int_slider, plots


def work(prompt_len, new_tokens):
    """Tokens sent through the model so far, after each new token: (without a cache, with one)."""
    without = [sum(prompt_len + j for j in range(i + 1)) for i in range(new_tokens)]
    return without, [prompt_len + i for i in range(new_tokens)]


# %%
def draw(prompt_len, new_tokens):
    without, with_cache = work(prompt_len, new_tokens)
    fig, ax = plots.new_figure("Work for one answer", "tokens answered", "tokens computed")
    steps = range(1, new_tokens + 1)
    ax.plot(steps, without, color=plots.COLORS["muted"], label="no cache")
    ax.plot(steps, with_cache, color=plots.COLORS["kv_cache"], label="KV cache")
    plots.legend(ax)
    rows = [("no cache", f"{without[-1]:,}"), ("KV cache", f"{with_cache[-1]:,}")]
    rows.append(("saved", f"{without[-1] / with_cache[-1]:.1f} x"))
    return fig, Table(("", "tokens computed"), rows)


SweepPanel(
    draw,
    {
        "prompt_len": int_slider("prompt tokens", value=37, min=1, max=512),
        "new_tokens": int_slider("new tokens", value=64, min=1, max=256),
    },
    alt="Tokens computed: a steep curve without a cache, a nearly flat one with it",
)

# %% [markdown]
# A formula in a panel is a claim, too. Against the counts of the real runs above:

# %%
without, with_cache = work(len(prompt), len(answer.token_ids))
print("no cache:", without[-1] == answer.tokens_computed)
print("KV cache:", with_cache[-1] == cached.tokens_computed)

# %% [markdown]
# ## The way through the course
#
# | | chapter | what you will have proved at its end |
# |---|---|---|
# | 1 | [Memory math](01_memory_math.ipynb) | what a model, its cache and a forward pass take, to the byte |
# | 2 | [Prefill/decode profiling](02_prefill_decode_profiling.ipynb) | why decode is slow, predicted from bytes and bandwidth |
# | 3 | [KV cache](03_kv_cache.ipynb) | the same tokens at a flat price per token |
# | 4 | [Prefix reuse](04_prefix_reuse.ipynb) | what a known beginning saves, and that nobody's words leak |
# | 5 | [Continuous batching](05_continuous_batching.ipynb) | that no request waits for the longest answer, and no request's tokens change |
# | 6 | [Paged attention](06_paged_attention.ipynb) | how many more requests a memory holds in pages than in rows |
# | 7 | [Flash attention](07_flash_attention.ipynb) | exact attention without storing a score |
# | 8 | [Scheduling](08_scheduling.ipynb) | who waits under which policy, simulated and measured |
# | 9 | [Operator fusion and graph capture](09_operator_fusion.ipynb) | where a thousand calls for a token go, and that fewer give the same tokens |
# | 10 | [Quantisation and pruning](10_quantisation.ipynb) | what 4 bits cost, what they save, and why the default model is a trap |
# | 11 | [Tensor and pipeline parallelism](11_parallelism.ipynb) | one model on several devices: the same tokens, every message counted |
# | 12 | [Serving and load balancing](12_serving.ipynb) | streams, cancellation and refusals from outside; conversations that find the engine that knows them |
#
# Each chapter has the same order: a promise, the problem felt, the idea in a picture, the build, the proof, the
# measurement, a panel, the operators on Ascend, the option in production, a recap.

# %% [markdown]
# ## Recap
#
# A language model turns the tokens so far into a score for every possible next token. Generation repeats that, and done
# plainly it computes the same tokens again and again. Serving well means never computing, storing or moving anything
# twice; this course builds the techniques for it, and proves each against the plain path.
#
# **Check yourself.**
#
# 1. A prompt has 100 tokens and the answer 3. How many tokens go through the model without a cache, and with one?
# 2. Why does this course show a model's text only where the margin stays above 0.05?
#
# <details><summary>Answers</summary>
#
# 1. 100 + 101 + 102 = 303 without, 100 + 1 + 1 = 102 with one: the last token is chosen and never sent in.
# 2. Below that, rounding on another processor may turn the choice, and the output on your machine would differ from the
#    one saved here without anything being wrong.
#
# </details>
#
# Next: [1 Memory math](01_memory_math.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).
