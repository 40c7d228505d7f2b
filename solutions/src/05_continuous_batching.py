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
# # Lab 5: Continuous batching
#
# Four exercises, about 65 minutes. You need [chapter 5](../notebooks/05_continuous_batching.ipynb). Write your code where the
# cells say so, run the cell below each: it checks the answer at once and names what may be wrong. Hints are folded away under
# each exercise, from vague to concrete. No model is needed here: tokens are plain numbers.

# %%
from helpers.checks import lab05, progress

# %% [markdown]
# ## 5.1 Count the padding ●○○ 10 minutes
#
# A server takes requests in the order given, `batch_size` at a time (the last batch may be smaller). In each batch all prompts are padded to
# the longest of that batch and computed in one pass, which also gives each request's first token. Then the whole batch decodes, one token for every
# row and pass, until its longest answer is complete. How many computed tokens are **wasted**?
#
# A request needs its prompt and its answer computed, except the answer's last token, which is never sent in.
#
# <details><summary>Hint 1</summary>Count what is computed and what is needed, and subtract.</details>
# <details><summary>Hint 2</summary>In one batch: how many rows, and how many tokens in each?</details>
# <details><summary>Hint 3</summary>A row has <code>longest prompt + longest answer - 1</code> tokens.</details>


# %% nbgrader={"grade": false, "grade_id": "padding", "locked": false, "schema_version": 3, "solution": true, "task": false}
def padding(prompts, answers, batch_size):
    """Wasted tokens, computed and not needed: a whole number.

    `prompts` and `answers` are lists of lengths in tokens, one of each per request, all at least 1;
    both are empty when no request came.
    """
    ### BEGIN SOLUTION
    wasted = 0
    for i in range(0, len(prompts), batch_size):
        p, a = prompts[i : i + batch_size], answers[i : i + batch_size]
        wasted += len(p) * (max(p) + max(a) - 1) - (sum(p) + sum(a) - len(a))
    return wasted
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-padding", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab05.check_padding(padding)
### BEGIN HIDDEN TESTS
assert padding([1, 2, 3, 4], [4, 3, 2, 1], 3) == 6
### END HIDDEN TESTS

# %% [markdown]
# Would it help to sort the requests by length first? By which length?

# %%
lengths = [(192, 40), (768, 12), (256, 56), (1536, 24), (128, 8), (512, 48), (64, 16), (1024, 60)]
for name, key in (("as they come", None), ("prompt", lambda x: x[0]), ("answer", lambda x: x[1])):
    p, a = zip(*(lengths if key is None else sorted(lengths, key=key)))
    print(f"{name:12}: {padding(list(p), list(a), 4):5} wasted tokens")

# %% [markdown]
# By prompts, yes. But the length of an answer is known only afterwards, and who is sorted to the end waits.
#
# ## 5.2 Mend the positions ●●○ 15 minutes
#
# Several requests share one pass: one flat list of new tokens, and for each token its position in its own text. This version is
# wrong in three ways; the cell below it shows what comes out.


# %%
def plausible_pack(requests):
    tokens, positions, rows = [], [], {}
    for i, request in enumerate(requests):
        text = request["prompt"] + request["answer"]
        new = text[request["computed"] : request["computed"] + request["count"]]
        start = len(request["answer"])
        rows[i] = i
        tokens += new
        positions += range(start, start + len(new))
    return tokens, positions, rows


# %%
reading = {"prompt": [5, 6, 7, 8, 9], "answer": [], "computed": 2, "count": 2}
speaking = {"prompt": [1, 2, 3], "answer": [4], "computed": 3, "count": 1}
print("it gives:", plausible_pack([reading, speaking]))
print("right:   ", ([7, 8, 4], [2, 3, 3], {1: 2}))

# %% [markdown]
# Write it right. Each request is a dictionary: its `prompt` and the `answer` so far (lists of tokens), how many tokens of the two are
# `computed` already, and the `count` to be computed now, at most as many as are left. After a preemption the answer so far is computed
# again, too, in one or more passes; the request gets its next token when all of its text is computed. The pass gives one row of logits for each token of the flat list. `rows` says, for the
# requests that get a new token from this pass, which row it is chosen from.
#
# <details><summary>Hint 1</summary>Which position has the first new token of <code>reading</code>, if two are computed
# already?</details>
# <details><summary>Hint 2</summary>A row stands for a token of the flat list, not for a request.</details>
# <details><summary>Hint 3</summary><code>reading</code> still lacks a token of its prompt after this pass. What would its logits
# say?</details>


# %% nbgrader={"grade": false, "grade_id": "pack", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pack(requests):
    """`(tokens, positions, rows)` of a pass.

    `tokens` and `positions` are lists of equal length. `rows` is a dictionary from a request's
    index in `requests` to the row of logits that its next token is chosen from, if it gets one.
    """
    ### BEGIN SOLUTION
    tokens, positions, rows = [], [], {}
    for i, request in enumerate(requests):
        text = request["prompt"] + request["answer"]
        start, end = request["computed"], request["computed"] + request["count"]
        tokens += text[start:end]
        positions += range(start, end)
        if end == len(text):
            rows[i] = len(tokens) - 1
    return tokens, positions, rows
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-pack", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab05.check_pack(pack)

# %% [markdown]
# ## 5.3 Schedule under a budget ●●● 25 minutes
#
# Who computes how many tokens in the next pass? A request is a dictionary with `name`, `length` (tokens of its text so far) and
# `computed` (how many of them the cache holds).
#
# - `running` and `waiting` are lists of requests; every request lacks at least one token. A waiting request may have `computed`
#   above 0, too, when the cache holds the beginning of its text already.
# - A pass has at most `token_budget` tokens, and at most `chunk_size` of one request.
# - Running requests come first, in order; each gets what it lacks, as far as budget and chunk allow. They have their pages already.
# - Then waiting requests are admitted, in order, as long as there is budget and fewer than `seats` are running. Every running request
#   holds a seat, a place in the batch, in this pass or not.
# - An admitted request takes pages for its **whole** text at once: `page_size` tokens fit on one, and `free_pages` are left. If they do
#   not suffice, it keeps waiting, and no other request overtakes it.
#
# <details><summary>Hint 1</summary>Two loops, one for each list, and a budget that both of them reduce.</details>
# <details><summary>Hint 2</summary>One <code>min</code> of three numbers says what a request gets.</details>
# <details><summary>Hint 3</summary>The second loop has four reasons to stop: no budget, no seat, no pages, no request left. Pages round
# up: <code>-(-length // page_size)</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "plan", "locked": false, "schema_version": 3, "solution": true, "task": false}
def plan(running, waiting, token_budget, chunk_size, seats, free_pages, page_size):
    """The next pass: a list of `(name, tokens)`, in order, 1 token or more each; no side effect."""
    ### BEGIN SOLUTION
    planned, left = [], token_budget
    for request in running:
        count = min(request["length"] - request["computed"], chunk_size, left)
        planned += [(request["name"], count)] if count else []
        left -= count
    taken = len(running)
    for request in waiting:
        pages = -(-request["length"] // page_size)
        if not left or taken == seats or pages > free_pages:
            break
        count = min(request["length"] - request["computed"], chunk_size, left)
        planned.append((request["name"], count))
        left, taken, free_pages = left - count, taken + 1, free_pages - pages
    return planned
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-plan", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab05.check_plan(plan)

# %% [markdown]
# Let your scheduler serve eight requests with the lengths of 5.1, four seats, at most 256 tokens in a pass. The longest
# pass is the longest silence. Each of the four may bring a chunk to the same pass.

# %%
for chunk_size in (256, 64, 16):
    sizes = lab05.serve(plan, lengths, token_budget=256, chunk_size=chunk_size, seats=4)
    print(f"chunks of {chunk_size:3}: {len(sizes)} passes, {max(sizes)} tokens in the longest")

# %% [markdown]
# ## 5.4 Choose the chunk ●●○ 15 minutes
#
# `decoding` requests are being answered, each with `context` cached tokens. A long prompt has come and is computed in chunks beside them, so
# every pass has `decoding` tokens and the chunk's. The users want a new token every `target` seconds. What is the largest chunk?
#
# A pass takes the longer of two times: computing, two operations for each weight and token; and reading the weights, two bytes each, and
# `kv_bytes` for each cached token of the decoding requests. Leave everything else out.
#
# <details><summary>Hint 1</summary>Reading does not depend on the chunk. Is it fast enough?</details>
# <details><summary>Hint 2</summary>How many tokens can be computed within the target? Some of them belong to the answers.</details>
# <details><summary>Hint 3</summary>A chunk is a whole number, and never negative.</details>


# %% nbgrader={"grade": false, "grade_id": "chunk", "locked": false, "schema_version": 3, "solution": true, "task": false}
def largest_chunk(num_params, kv_bytes, decoding, context, target, peak, bandwidth):
    """Tokens of the largest chunk whose pass stays within `target` seconds; 0 when none does.

    `kv_bytes` are the bytes of a token's keys and values, `peak` is in operations per second and
    `bandwidth` in bytes per second.
    """
    ### BEGIN SOLUTION
    reading = (2 * num_params + kv_bytes * context * decoding) / bandwidth
    if reading > target:
        return 0
    return max(0, int(target * peak / (2 * num_params)) - decoding)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-chunk", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab05.check_chunk(largest_chunk)

# %% [markdown]
# An 8-billion-weight model on a device of 364 TFLOP/s and 1.6 TB/s, 32 requests with 2,000 tokens each. What does a calmer
# stream of tokens cost the newcomer with 8,000 tokens?

# %%
for target in (10.0, 16.0, 20.0, 40.0, 100.0):
    chunk = largest_chunk(8e9, 131072, 32, 2000, target / 1000, peak=364e12, bandwidth=1.6e12)
    passes = -(-8000 // chunk) if chunk else 0
    first = (
        f"first token after {passes * target / 1000:.2f} s" if chunk else "no chunk is small enough"
    )
    print(f"a token every {target:5.1f} ms: chunk {chunk:4}, {passes:2} passes, {first}")

# %% [markdown]
# Below the time that reading takes, no chunk helps: then there are too many requests, or the device is too slow. Above it, a larger chunk
# brings the newcomer's first token hardly any sooner: the same arithmetic is done, in fewer passes. Here, calm costs next to nothing.

# %% [markdown]
# ## How far you are
#
# Next: [6 Paged attention](../notebooks/06_paged_attention.ipynb).
# Back: [5 Continuous batching](../notebooks/05_continuous_batching.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab05.LAB)
