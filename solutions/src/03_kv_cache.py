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
# # Lab 3: KV cache
#
# Four exercises, about 55 minutes. You need [chapter 3](../notebooks/03_kv_cache.ipynb). Write your code where the cells say
# so, run the cell below each: it checks the answer at once and names what may be wrong. Hints are folded away under each
# exercise, from vague to concrete.

# %%
import torch

from helpers.checks import lab03, progress

# %% [markdown]
# ## 3.1 Predict what concatenation copies ●○○ 5 minutes
#
# A cache joins old and new keys with `torch.cat`, which writes a fresh tensor each time. A prompt of 100 tokens comes first (it
# is written once), then 50 decode steps. The keys of how many **tokens** are written in one layer, all in all? Set `copied` to
# a number or an expression.
#
# <details><summary>Hint 1</summary>How long is the fresh tensor of the first decode step?</details>
# <details><summary>Hint 2</summary>101, 102, ..., and the prompt itself.</details>

# %% nbgrader={"grade": false, "grade_id": "copied", "locked": false, "schema_version": 3, "solution": true, "task": false}
copied = ...
### BEGIN SOLUTION
copied = 100 + sum(100 + i for i in range(1, 50 + 1))
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "check-copied", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
lab03.check_copied(copied)

# %% [markdown]
# ## 3.2 Mend the cache ●●○ 20 minutes
#
# This cache keeps one sequence. It is wrong in three ways; the cell below it shows two of them.


# %%
class ArticleCache:
    def __init__(self, num_layers, capacity, kv_heads, head_dim):
        self.k = torch.zeros(num_layers, capacity, kv_heads, head_dim)
        self.v = torch.zeros_like(self.k)
        self.length = 0

    def update(self, layer_idx, k, v):
        end = self.length + len(k)
        self.k[layer_idx, self.length : end] = k[: self.k.shape[1] - self.length]
        self.v[layer_idx, self.length : end] = v[: self.v.shape[1] - self.length]
        self.length = end
        return self.k[layer_idx], self.v[layer_idx]


# %%
cache = ArticleCache(num_layers=3, capacity=8, kv_heads=1, head_dim=2)
for layer_idx in range(3):
    keys, values = cache.update(layer_idx, torch.ones(2, 1, 2), torch.ones(2, 1, 2))
    print(f"layer {layer_idx}: length {cache.length}, keys {keys[:, 0, 0].tolist()}")

# %% [markdown]
# Write an `update` that is right; the buffers are made as above. A pass calls `update` for layer 0, 1, 2, ... in turn, with the same number of new tokens. A token
# counts in `length` when every layer has it.
#
# <details><summary>Hint 1</summary>Which layer may move the length on?</details>
# <details><summary>Hint 2</summary>What is returned must end where the tokens end.</details>
# <details><summary>Hint 3</summary>Test the capacity before the first write, and raise <code>ValueError</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "cache", "locked": false, "schema_version": 3, "solution": true, "task": false}
class MyCache(ArticleCache):
    def update(self, layer_idx, k, v):
        """Takes in one layer's new `k`, `v` `[n, kv_heads, head_dim]`.

        Returns all keys and values of the layer so far, each `[tokens, kv_heads, head_dim]`.
        Raises ValueError, before anything changes, when they do not fit.
        """
        ### BEGIN SOLUTION
        end = self.length + len(k)
        if end > self.k.shape[1]:
            raise ValueError(f"{end} tokens do not fit")
        self.k[layer_idx, self.length : end] = k
        self.v[layer_idx, self.length : end] = v
        if layer_idx == len(self.k) - 1:
            self.length = end
        return self.k[layer_idx, :end], self.v[layer_idx, :end]
        ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-cache", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab03.check_cache(MyCache)
### BEGIN HIDDEN TESTS
hidden = MyCache(2, 4, 1, 1)
for layer_idx in (0, 1, 0, 1):
    hidden.update(layer_idx, torch.ones(2, 1, 1), torch.ones(2, 1, 1))
assert hidden.length == 4
### END HIDDEN TESTS

# %% [markdown]
# ## 3.3 A mask for a ragged batch ●●○ 15 minutes
#
# Rows of different lengths are sometimes computed in one call over the whole buffer `[B, capacity]`. Then a mask says which
# positions each query may see. Row `b` holds `lengths[b]` tokens, and `new` more follow them in this pass, in every row.
# True means: *may look*.
#
# <details><summary>Hint 1</summary>At which position of its sequence stands the <code>i</code>-th new token of row
# <code>b</code>?</details>
# <details><summary>Hint 2</summary>A token sees every position up to its own, and its own.</details>
# <details><summary>Hint 3</summary><code>torch.arange(capacity)</code> compared with the queries' positions, shaped
# <code>[B, new, 1]</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "mask", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ragged_mask(lengths, new, capacity):
    """Bool `[B, new, capacity]`, True where a new token's query may look at a position of its row.

    `lengths` is a list of B whole numbers, the tokens that the rows hold already.
    """
    ### BEGIN SOLUTION
    positions = torch.tensor(lengths)[:, None] + torch.arange(new)
    return torch.arange(capacity) <= positions[:, :, None]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-mask", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab03.check_mask(ragged_mask)

# %% [markdown]
# ## 3.4 When a cache does not pay ●●● 15 minutes
#
# Predict, with chapter 2's arithmetic, the time of a whole answer without a cache and with one. Weights are in 16 bits. A
# pass over `t` tokens after `c` cached ones takes the longer of two times: computing, two operations for each weight and
# token, and reading the weights and `kv_bytes` for each cached token. Everything else is left out. The last token of the answer
# is chosen and never sent in.
#
# <details><summary>Hint 1</summary>Write a function for one pass first. Both answers are sums over passes.</details>
# <details><summary>Hint 2</summary>There are <code>new_tokens</code> passes. Without a cache they compute
# <code>prompt</code>, <code>prompt + 1</code>, ... tokens.</details>
# <details><summary>Hint 3</summary>With a cache the first computes the prompt, after 0 cached tokens; the next computes one token
# after <code>prompt</code> cached ones.</details>


# %% nbgrader={"grade": false, "grade_id": "times", "locked": false, "schema_version": 3, "solution": true, "task": false}
def answer_times(num_params, kv_bytes, prompt, new_tokens, peak, bandwidth):
    """`(seconds without a cache, seconds with one)` for an answer of `new_tokens` tokens.

    `kv_bytes` are the bytes of a token's keys and values, `peak` is in operations per second and
    `bandwidth` in bytes per second.
    """

    ### BEGIN SOLUTION
    def one_pass(tokens, cached):
        computing = 2 * num_params * tokens / peak
        reading = (2 * num_params + kv_bytes * cached) / bandwidth
        return max(computing, reading)

    without = sum(one_pass(prompt + i, 0) for i in range(new_tokens))
    steps = sum(one_pass(1, prompt + i) for i in range(new_tokens - 1))
    return without, one_pass(prompt, 0) + steps
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-times", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab03.check_times(answer_times)

# %% [markdown]
# And now look where a cache pays, for an 8-billion-weight model on a device of 364 TFLOP/s and 1.6 TB/s.

# %%
for prompt in (10, 100, 200, 220, 400, 1600):
    without, cached = answer_times(8e9, 131072, prompt, 20, peak=364e12, bandwidth=1.6e12)
    print(f"prompt of {prompt:>4}: {1e3 * without:8.2f} ms without, {1e3 * cached:6.2f} ms with")
print(f"the ridge: {364e12 / 1.6e12:.1f} tokens")

# %% [markdown]
# Below the ridge a pass takes as long as reading the weights takes, for one token or for two hundred.
# Recomputing a short text is free; reading the cache's own bytes is not, so below the ridge the cache even loses, by a hair.
# For a single new token (scoring, classification) it is never read. Once the text is longer than the ridge, the cache pays,
# and soon there is no living without it.

# %% [markdown]
# ## How far you are
#
# Next: [4 Prefix reuse](../notebooks/04_prefix_reuse.ipynb).
# Back: [3 KV cache](../notebooks/03_kv_cache.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab03.LAB)
