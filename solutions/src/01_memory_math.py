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
# # Lab 1: Memory math
#
# Six exercises, about 55 minutes. You need [chapter 1](../notebooks/01_memory_math.ipynb). Write your code where the
# cells say so, run the cell below each: it checks the answer at once and names what may be wrong. It never changes your
# code. Hints are folded away under each exercise, from vague to concrete.

# %%
from helpers.checks import lab01, progress
from helpers.estimates import GiB
from helpers.model import PUBLISHED

# %% [markdown]
# ## 1.1 Predict a token's share of the cache ●○○ 5 minutes
#
# Llama-3-8B has 32 layers, 32 query heads, 8 KV heads and a head dimension of 128. How many **bytes** does *one token* of
# one request leave in its KV cache, in bf16? Set `token_bytes` to a number or an expression.
#
# <details><summary>Hint 1</summary>What does a layer keep of a token?</details>
# <details><summary>Hint 2</summary>Two vectors for each KV head. How many heads, layers, bytes?</details>

# %% nbgrader={"grade": false, "grade_id": "token-bytes", "locked": false, "schema_version": 3, "solution": true, "task": false}
token_bytes = ...
### BEGIN SOLUTION
token_bytes = 2 * 32 * 8 * 128 * 2
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "check-token-bytes", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
lab01.check_token_bytes(token_bytes)

# %% [markdown]
# ## 1.2 Mend the KV cache formula ●○○ 10 minutes
#
# This function has stood in many articles. For GPT-3 it is right. Run the cell, then write `kv_bytes`, which is right for
# every model of the table.


# %%
def article_kv_bytes(shape, batch_size, seq_len, element_size):
    """Bytes of the KV cache, taken from the hidden size."""
    return 2 * batch_size * seq_len * shape.hidden_size * shape.num_layers * element_size


for name in ("GPT-3 175B", "Llama-3-8B", "Qwen2.5-7B"):
    print(f"{name}: {article_kv_bytes(PUBLISHED[name], 1, 1, 2):,} bytes per token")

# %% [markdown]
# <details><summary>Hint 1</summary>Which heads have keys and values?</details>
# <details><summary>Hint 2</summary>A shape has <code>num_layers</code>, <code>num_heads</code>,
# <code>num_kv_heads</code> and <code>head_dim</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "kv-bytes", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kv_bytes(shape, batch_size, seq_len, element_size):
    """Bytes of keys and values of `batch_size` requests of `seq_len` tokens.

    `shape` is a `ModelShape`; `element_size` is in bytes. Any of the counts may be 0.
    """
    ### BEGIN SOLUTION
    per_layer = 2 * shape.num_kv_heads * shape.head_dim
    return batch_size * seq_len * shape.num_layers * per_layer * element_size
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-kv-bytes", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab01.check_kv_bytes(kv_bytes)
### BEGIN HIDDEN TESTS
assert kv_bytes(PUBLISHED["Llama-3-70B"], 7, 321, 2) == 7 * 321 * 80 * 2 * 8 * 128 * 2
### END HIDDEN TESTS

# %% [markdown]
# ## 1.3 Four bits in groups ●●○ 10 minutes
#
# Weights of 4 bits, in groups. Each group has one scale and one zero point, a last, incomplete group as well. Write
# the bytes they take. The result may be a fraction; nothing is padded.
#
# <details><summary>Hint 1</summary>Three terms: weights, scales, zero points. All are given in bits.</details>
# <details><summary>Hint 2</summary>129 weights in groups of 128 are two groups.</details>


# %% nbgrader={"grade": false, "grade_id": "int4-bytes", "locked": false, "schema_version": 3, "solution": true, "task": false}
def int4_bytes(num_weights, group_size, scale_bits, zero_point_bits):
    """Bytes of 4-bit weights in groups of `group_size`, scales and zero points included."""
    ### BEGIN SOLUTION
    groups = -(-num_weights // group_size)
    return (4 * num_weights + groups * (scale_bits + zero_point_bits)) / 8
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-int4-bytes", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab01.check_int4_bytes(int4_bytes)
### BEGIN HIDDEN TESTS
assert int4_bytes(1001, 100, 32, 8) == (4004 + 11 * 40) / 8
### END HIDDEN TESTS

# %% [markdown]
# ## 1.4 When the cache outgrows the weights ●●○ 10 minutes
#
# With enough requests the KV cache is larger than the weights. Find the **smallest** number of requests of `seq_len` tokens
# for which it is. Use the shape's `num_params`; weights and cache may differ in bytes per element.
#
# <details><summary>Hint 1</summary>Divide the weights by the cache of one request. Then?</details>
# <details><summary>Hint 2</summary>What if the division comes out even? The cache must be <em>larger</em>.</details>


# %% nbgrader={"grade": false, "grade_id": "crossover", "locked": false, "schema_version": 3, "solution": true, "task": false}
def crossover_batch(shape, seq_len, weight_size, element_size):
    """The smallest number of requests whose KV cache is larger than the weights.

    `weight_size` and `element_size` are bytes per weight and per element of the cache.
    """
    ### BEGIN SOLUTION
    weights = shape.num_params * weight_size
    one_request = (
        2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * seq_len * element_size
    )
    return int(weights // one_request) + 1
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-crossover", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab01.check_crossover(crossover_batch)

# %% [markdown]
# ## 1.5 Choose a deployment ●●● 10 minutes
#
# You must serve `requests` requests of `seq_len` tokens at once. Each device has a name, a memory in GiB and a price. Weights
# can be kept in bf16, int8 or int4 (best quality first, with 2, 1 and 0.5195 bytes per weight); the cache takes two bytes per
# element. A tenth of the memory stays free, activations are small enough to be left out here. Choose the **cheapest**
# device on which it fits, and on it the **best** type that fits. If it fits nowhere, the answer is `None`.
#
# <details><summary>Hint 1</summary>Two loops: devices by price, types by quality. The first that fits is the answer.</details>
# <details><summary>Hint 2</summary>GiB are 2**30 bytes; <code>GiB</code> is imported above.</details>

# %% nbgrader={"grade": false, "grade_id": "deployment", "locked": false, "schema_version": 3, "solution": true, "task": false}
BYTES_PER_WEIGHT = {"bf16": 2.0, "int8": 1.0, "int4": 0.5195}


def choose_deployment(shape, seq_len, requests, devices):
    """`(device name, weight type)`, or None when it fits nowhere.

    `devices` is a list of `(name, memory in GiB, price)`, in any order.
    """
    ### BEGIN SOLUTION
    cache = requests * seq_len * 2 * 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim
    for name, gib, _ in sorted(devices, key=lambda device: device[2]):
        for dtype, size in BYTES_PER_WEIGHT.items():
            if shape.num_params * size + cache <= 0.9 * gib * GiB:
                return name, dtype
    return None
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-deployment", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab01.check_deployment(choose_deployment)

# %% [markdown]
# ## 1.6 Size a hybrid ●●● 10 minutes
#
# In today's models layers differ. Here a model is a list of layers, each a dict with its `kind` and its sizes:
#
# | `kind` | sizes | what the layer keeps of one request |
# |---|---|---|
# | `"full"` | `kv_heads`, `head_dim` | keys and values of every token |
# | `"window"` | `kv_heads`, `head_dim`, `window` | the same, but only what the *next* token will see beside itself: it sees `window` tokens, its own included |
# | `"latent"` | `latent_dim`, `rotated_dim`, `num_heads` | for every token one latent and one rotated key, which all heads share |
# | `"state"` | `state_elements` | a state of fixed size in fp32, whatever `seq_len` is |
#
# Write the bytes that the whole model keeps of one request of `seq_len` tokens. Keys, values, latents and rotated keys
# take `element_size` bytes per element. `seq_len` may be 0.
#
# <details><summary>Hint 1</summary>One line for each kind; then add the layers up.</details>
# <details><summary>Hint 2</summary>Of a window of 128, a text of 1000 tokens leaves 127. What does a text of 5 leave?</details>
# <details><summary>Hint 3</summary>Which of the sizes in the third row is not needed?</details>


# %% nbgrader={"grade": false, "grade_id": "hybrid-bytes", "locked": false, "schema_version": 3, "solution": true, "task": false}
def hybrid_bytes(layers, seq_len, element_size):
    """Bytes that all layers keep of one request of `seq_len` tokens."""
    ### BEGIN SOLUTION
    total = 0
    for layer in layers:
        if layer["kind"] == "state":
            total += layer["state_elements"] * 4
        elif layer["kind"] == "latent":
            total += seq_len * (layer["latent_dim"] + layer["rotated_dim"]) * element_size
        else:
            tokens = min(seq_len, layer["window"] - 1) if layer["kind"] == "window" else seq_len
            total += 2 * tokens * layer["kv_heads"] * layer["head_dim"] * element_size
    return total
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-hybrid-bytes", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab01.check_hybrid_bytes(hybrid_bytes)
### BEGIN HIDDEN TESTS
assert hybrid_bytes([{"kind": "window", "kv_heads": 3, "head_dim": 5, "window": 9}], 20, 1) == 240
### END HIDDEN TESTS

# %% [markdown]
# ## How far you are
#
# `progress()` without a name shows all labs; `reset_progress()` forgets what you have done.
#
# Next: [2 Prefill/decode profiling](../notebooks/02_prefill_decode_profiling.ipynb).
# Back: [1 Memory math](../notebooks/01_memory_math.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab01.LAB)
