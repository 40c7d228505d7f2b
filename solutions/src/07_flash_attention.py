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
# # Lab 7: Flash attention
#
# Five exercises, about 70 minutes. You need [chapter 7](../notebooks/07_flash_attention.ipynb). Write your code where the
# cells say so, run the cell below each: it checks the answer at once and names what may be wrong. Hints are folded away under
# each exercise, from vague to concrete. No model is needed here.

# %%
import torch

from helpers.checks import lab07, progress

# %% [markdown]
# ## 7.1 Count the bytes ●○○ 10 minutes
#
# One head's attention, tile by tile, on one core; every query sees every key. The core keeps one block of `query_block` queries and their
# results. For each such block (the last one may be shorter) all keys and values pass through the core once; scores never leave it.
# Each query is read once, each result is written once. How many bytes move between the device's memory and the core?
#
# <details><summary>Hint 1</summary>What moves once, and what moves once for each block of queries?</details>
# <details><summary>Hint 2</summary>Four kinds of vectors of <code>head_dim</code> elements move: queries, keys, values,
# results.</details>
# <details><summary>Hint 3</summary>The number of blocks is rounded up: <code>-(-q_len // query_block)</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "traffic", "locked": false, "schema_version": 3, "solution": true, "task": false}
def traffic(q_len, kv_len, head_dim, query_block, element_bytes):
    """Bytes moved, a whole number.

    `q_len` queries and `kv_len` keys of `head_dim` elements, `element_bytes` bytes each.
    """
    ### BEGIN SOLUTION
    blocks = -(-q_len // query_block)
    return (2 * q_len + 2 * blocks * kv_len) * head_dim * element_bytes
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-traffic", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab07.check_traffic(traffic)
### BEGIN HIDDEN TESTS
assert traffic(10, 7, 3, 4, 2) == (2 * 10 + 2 * 3 * 7) * 3 * 2
### END HIDDEN TESTS

# %% [markdown]
# Flash attention's *memory* grows with the length. Does its traffic? Twice the length, block sizes unchanged:

# %%
for n in (1024, 2048, 4096, 8192, 16384):
    moved = traffic(n, n, 128, 128, 2)
    times = moved / traffic(n // 2, n // 2, 128, 128, 2)
    print(f"{n:6} tokens: {moved / 1e6:8.1f} MB moved, {times:.2f} times those of half the length")
print(f"blocks of 256: {traffic(16384, 16384, 128, 256, 2) / 1e6:8.1f} MB for 16384 tokens")

# %% [markdown]
# The traffic grows with the *square* of the length. What helps is a larger block of queries: twice as large, about half the traffic. How
# large it may be is 7.5's question.
#
# ## 7.2 Mend the update ●●○ 15 minutes
#
# Online softmax: keys come block by block, and three running numbers are kept for each query: the largest score so far
# (`maximum`), the sum of `exp(score - maximum)` (`total`), and the values, weighted by the same (`weighted`). This version
# is wrong in several ways. The cell below it shows what comes out.


# %%
def plausible_update(maximum, total, weighted, scores, values):
    new = scores.amax(dim=1, keepdim=True)
    weights = (scores - new).exp()
    total = total + weights.sum(dim=1, keepdim=True)
    weighted = weighted + weights @ values
    return new, total, weighted


# %%
def attend_in_blocks(update, scores, values, size):
    """Attention of `scores [queries, keys]` over `values [keys, dim]`, `size` keys at a time."""
    state = torch.full((len(scores), 1), float("-inf")), torch.zeros(len(scores), 1), 0.0
    state = (*state[:2], torch.zeros(len(scores), values.shape[1]))
    for start in range(0, len(values), size):
        block = slice(start, start + size)
        state = update(*state, scores[:, block], values[block])
    return state[2] / state[1]


scores = torch.tensor([[1.0, 2.0, 5.0, 6.0], [6.0, 5.0, 2.0, 1.0]])
values = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
right = (scores.softmax(dim=1) @ values).flatten().tolist()
shown = attend_in_blocks(plausible_update, scores, values, 2).flatten().tolist()
print("right:", *(f"{x:.2f}" for x in right))
print("so:   ", *(f"{x:.2f}" for x in shown))

# %% [markdown]
# Write it right. Three things can happen to you that do not happen here: a block that is all hidden from a query (scores of minus
# infinity) before it has seen any key; scores of several hundred; scores and values in half precision, while the running numbers are fp32.
#
# <details><summary>Hint 1</summary>When the maximum grows, what was added before is too large. By which factor?</details>
# <details><summary>Hint 2</summary>The factor is <code>exp(old maximum - new maximum)</code>, for sum and weighted values
# alike.</details>
# <details><summary>Hint 3</summary><code>-inf - (-inf)</code> is NaN. Subtract a 0 instead where the new maximum still is minus infinity:
# <code>torch.where(new == float("-inf"), 0.0, new)</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "update", "locked": false, "schema_version": 3, "solution": true, "task": false}
def update(maximum, total, weighted, scores, values):
    """`(maximum, total, weighted)` after one more block of keys; the arguments are not changed.

    `maximum` and `total` are `[queries, 1]`, `weighted` is `[queries, dim]`, fp32; before the first
    key they are minus infinity, 0 and 0. `scores` `[queries, keys]` (minus infinity: hidden) and
    `values` `[keys, dim]` are of any floating-point type; everything is computed in fp32.
    """
    ### BEGIN SOLUTION
    scores, values = scores.float(), values.float()
    new = torch.maximum(maximum, scores.amax(dim=1, keepdim=True))
    shift = torch.where(new == float("-inf"), 0.0, new)
    weights, factor = (scores - shift).exp(), (maximum - shift).exp()
    total = total * factor + weights.sum(dim=1, keepdim=True)
    return new, total, weighted * factor + weights @ values
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-update", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab07.check_update(update)

# %% [markdown]
# Your update on 1,000 keys, in blocks of every kind, against one softmax in fp64:

# %%
draw = torch.Generator().manual_seed(0)
scores, values = (torch.randn(size, generator=draw) for size in ((64, 1000), (1000, 16)))
exact = (4 * scores.double()).softmax(dim=1) @ values.double()
for size in (1, 7, 64, 1000):
    error = float((attend_in_blocks(update, 4 * scores, values, size) - exact).abs().max())
    print(f"blocks of {size:4}: within 0.00001 of the exact result:", error < 1e-5)

# %% [markdown]
# ## 7.3 Skip tiles ●●○ 15 minutes
#
# Causal attention of `q_len` queries over `kv_len` keys. The queries are the *last* tokens of the text: the last query sees the last key, each
# earlier one a key less. Scores are cut into tiles of `query_block` by `key_block`; the last ones may be smaller. Which tiles must be
# computed, and which of these need a mask, because some query of the tile does not see some key of it?
#
# <details><summary>Hint 1</summary>Query <code>i</code> stands at position <code>i + kv_len - q_len</code> of the text.</details>
# <details><summary>Hint 2</summary>Of a block of queries, the last one sees furthest: it decides what is computed. The first one sees
# least: it decides what is masked.</details>
# <details><summary>Hint 3</summary>A tile is computed if its first key is not behind the last query's position, and masked if its last key
# is behind the first query's.</details>


# %% nbgrader={"grade": false, "grade_id": "tiles", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tiles(q_len, kv_len, query_block, key_block):
    """A list of `(q_start, k_start, masked)`: block of queries by block of queries, left to right.

    `q_start` and `k_start` are the tile's first query and key; `masked` is True or False. With more
    queries than keys, the first queries see nothing.
    """
    ### BEGIN SOLUTION
    found = []
    for q_start in range(0, q_len, query_block):
        first = q_start + kv_len - q_len
        last = min(q_start + query_block, q_len) - 1 + kv_len - q_len
        for k_start in range(0, min(kv_len, last + 1), key_block):
            k_last = min(k_start + key_block, kv_len) - 1
            found.append((q_start, k_start, k_last > first))
    return found
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-tiles", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab07.check_tiles(tiles)

# %% [markdown]
# What is it worth? A whole prompt, the last quarter of it as a chunk, and a single decoded token:

# %%
for q_len, kv_len in ((4096, 4096), (1024, 4096), (1, 4096)):
    for size in (128, 512):
        found = tiles(q_len, kv_len, size, size)
        everything = -(-q_len // size) * (kv_len // size)
        print(f"{q_len:4} queries, tiles of {size}: {everything:4} tiles,", end=" ")
        print(f"{len(found):3} computed, {sum(masked for *_, masked in found):2} of them masked")

# %% [markdown]
# Nearly half of a prompt's tiles are skipped, the more the smaller they are; a chunk at the end skips little, a single
# token nothing.
#
# ## 7.4 Merge two parts ●●○ 10 minutes
#
# When there is one query and a long text, the keys are cut into parts, so that every core has some. Each part gives its attention, `out`,
# and `lse`, the logarithm of the sum of `exp(score)` over its keys. What is the attention over all keys?
#
# <details><summary>Hint 1</summary>A part with more weight counts more. Its weight, before any division, was the sum of
# <code>exp(score)</code>.</details>
# <details><summary>Hint 2</summary><code>exp(lse)</code> overflows for an lse of 100. Only differences matter.</details>
# <details><summary>Hint 3</summary><code>torch.logaddexp</code> gives the lse of both. A part's share is <code>exp</code> of its own lse minus that;
# where both are minus infinity, subtract 0.</details>


# %% nbgrader={"grade": false, "grade_id": "merge", "locked": false, "schema_version": 3, "solution": true, "task": false}
def merge(out_a, lse_a, out_b, lse_b):
    """`(out, lse)` over the keys of both parts, fp32; the parts are of any floating-point type.

    `out` is `[queries, dim]`, `lse` is `[queries]`. A query that sees no key of a part has 0 in its
    `out` and an `lse` of minus infinity; so it is in the result if it sees none in both.
    """
    ### BEGIN SOLUTION
    out_a, lse_a, out_b, lse_b = (part.float() for part in (out_a, lse_a, out_b, lse_b))
    lse = torch.logaddexp(lse_a, lse_b)
    shift = torch.where(lse == float("-inf"), 0.0, lse)
    share_a, share_b = ((part - shift).exp()[:, None] for part in (lse_a, lse_b))
    return share_a * out_a + share_b * out_b, lse
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-merge", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab07.check_merge(merge)

# %% [markdown]
# The keys of 7.2 in parts of very different lengths, merged one after the other:

# %%
for ends in ((500, 1000), (1, 17, 300, 1000), tuple(range(40, 1001, 40))):
    so_far, start = (torch.zeros(64, 16), torch.full((64,), float("-inf"))), 0
    for end in ends:
        part = 4 * scores[:, start:end]
        out = part.softmax(dim=1) @ values[start:end]
        so_far, start = merge(*so_far, out, part.logsumexp(dim=1)), end
    close = float((so_far[0] - exact).abs().max()) < 1e-5
    print(f"{len(ends):2} parts: within 0.00001 of the exact result:", close)

# %% [markdown]
# ## 7.5 Choose tiles for a core ●●● 20 minutes
#
# A core of an Ascend NPU multiplies matrices in its cube unit: the left factor comes from the buffer L0A, the right one from L0B, the result goes into
# L0C. L1 feeds L0A and L0B. Two vector units do the softmax. Each has a buffer UB of its
# own (`ub` bytes) and takes half of a tile's queries. Inputs and weights have
# 2 bytes for each element, scores and other results are fp32. A simple kernel brings whole blocks to the units; at its worst moment
#
# | buffer | holds |
# |---|---|
# | L0A | a block of queries `[query_block, head_dim]`; or, in the second product, their weights `[query_block, key_block]` |
# | L0B | a block of keys, or in the second product of values `[key_block, head_dim]` |
# | L0C | the scores `[query_block, key_block]`, or the weighted values `[query_block, head_dim]` |
# | L1 | the block of queries, their weights, two blocks of keys and two of values (one in use, one arriving) |
# | UB | scores and weights, for the half of a tile's queries that this vector unit has |
#
# Both sizes are multiples of 16, since the cube unit multiplies pieces of 16 x 16. Choose the tile that moves the fewest bytes (7.1); among
# those, the one with the largest block of keys, which makes the fewest steps. Leave everything else out.
#
# <details><summary>Hint 1</summary>Write five inequalities, one for each buffer.</details>
# <details><summary>Hint 2</summary>The larger the block of queries, the fewer bytes move. The number of keys in a block changes nothing
# about that.</details>
# <details><summary>Hint 3</summary>Try all pairs of multiples of 16: <code>query_block * head_dim * 2</code> is at most L0A,
# <code>key_block * head_dim * 2</code> at most L0B. Keep those that fit; the <code>max</code> of pairs compares first numbers first.</details>


# %% nbgrader={"grade": false, "grade_id": "choose", "locked": false, "schema_version": 3, "solution": true, "task": false}
def choose(head_dim, l0a, l0b, l0c, l1, ub):
    """`(query_block, key_block)`, or None where no tile fits; buffers have so many bytes."""
    ### BEGIN SOLUTION
    fitting = []
    for q in range(16, l0a // (2 * head_dim) + 1, 16):
        for k in range(16, l0b // (2 * head_dim) + 1, 16):
            small = 2 * q * k <= l0a and 4 * q * max(head_dim, k) <= l0c
            in_l1 = 2 * (q * head_dim + q * k + 4 * k * head_dim) <= l1
            if small and in_l1 and (4 + 2) * q * k // 2 <= ub:
                fitting.append((q, k))
    return max(fitting, default=None)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-choose", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab07.check_choose(choose)

# %% [markdown]
# Your choice for a core of a 910B3, and what a prompt of 32,768 tokens moves with it, per head:

# %%
from dataclasses import asdict

from helpers.estimates import ACCELERATORS

chosen = {}
for name, device in ACCELERATORS.items():
    sizes = {buffer: 1024 * kib for buffer, kib in asdict(device.buffers).items()}
    chosen[name] = [choose(head_dim, **sizes) for head_dim in (64, 128, 192, 256)]
for head_dim, tile in zip((64, 128, 192, 256), chosen["Ascend 910B3"]):
    moved = traffic(32768, 32768, head_dim, tile[0], 2) / 1e9
    print(f"head size {head_dim:3}: {tile[0]:3} x {tile[1]:3}, {moved:5.2f} GB moved")
same = [tiles == chosen["Ascend 910B3"] for tiles in chosen.values()]
print(f"the same tiles on {sum(same)} of {len(same)} devices of the course's table")

# %% [markdown]
# Half the head size: half the bytes for each key, and room for twice as many queries, so a quarter of the traffic. That is the
# $d^2 / M$ of chapter 7.
#
# A real kernel goes further: it keeps a longer block of queries in L1 and brings it to L0A in pieces of 128 x 128, each twice, so that one
# is filled while the other is used; and it overlaps the two products of neighbouring tiles with the softmax between them.

# %% [markdown]
# ## How far you are
#
# Next: [8 Scheduling](../notebooks/08_scheduling.ipynb).
# Back: [7 Flash attention](../notebooks/07_flash_attention.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab07.LAB)
