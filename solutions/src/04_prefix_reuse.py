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
# # Lab 4: Prefix reuse
#
# Five exercises, about 70 minutes. You need [chapter 4](../notebooks/04_prefix_reuse.ipynb). Write your code where the cells
# say so, run the cell below each: it checks the answer at once and names what may be wrong. Hints are folded away under
# each exercise, from vague to concrete. No model is needed here: tokens are plain numbers.

# %%
from helpers.checks import lab04, progress

# %% [markdown]
# ## 4.1 The longest match ●○○ 10 minutes
#
# A store keeps the keys and values of some texts, in whole pages of `page_size` tokens. A prompt comes. How many of its tokens can be
# taken from the store?
#
# <details><summary>Hint 1</summary>For one stored text: how far do the two agree from the start?</details>
# <details><summary>Hint 2</summary>Only whole pages are kept, so the answer is a multiple of the page size.</details>
# <details><summary>Hint 3</summary>What must be computed even when everything is stored?</details>


# %% nbgrader={"grade": false, "grade_id": "match", "locked": false, "schema_version": 3, "solution": true, "task": false}
def longest_match(prompt, stored, page_size):
    """Tokens of `prompt` (a list of numbers) that need not be computed.

    `stored` is a list of texts, each a list of numbers. Returns a whole number.
    """
    ### BEGIN SOLUTION
    best = 0
    for text in stored:
        same = 0
        for a, b in zip(prompt[:-1], text):
            if a != b:
                break
            same += 1
        best = max(best, same // page_size * page_size)
    return best
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-match", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab04.check_match(longest_match)
### BEGIN HIDDEN TESTS
assert longest_match([1, 2, 3, 4, 5], [[1, 2, 3, 9], [1, 2, 3, 4, 5]], 2) == 4
assert longest_match([1, 2, 3, 4], [[1, 2, 3, 4]], 2) == 2
### END HIDDEN TESTS

# %% [markdown]
# ## 4.2 Evict without sawing off branches ●●○ 20 minutes
#
# A radix tree is given as a dictionary from a node's name to what is known of it: `parent` (a name, or None for a child of the root),
# `pages` (how many it holds), `last_use` (a time) and `pins` (how many requests use the text that ends here). Room is needed. Which
# nodes go, in which order?
#
# - Only whole nodes go, until they have freed `wanted` pages or more, or until no other node may go.
# - Only a leaf may go. When its last child has gone, a node is a leaf.
# - A node that is pinned stays, and so does everything above it.
# - Of those that may go, the one with the oldest use goes first. No two nodes have the same `last_use`.
#
# <details><summary>Hint 1</summary>Do it one node at a time: who may go now? Take the oldest, look again.</details>
# <details><summary>Hint 2</summary>A leaf is a node that is no other node's parent, among those that are left.</details>
# <details><summary>Hint 3</summary>If leaves alone may go, what is above a pinned node is safe, without a rule of its own.</details>


# %% nbgrader={"grade": false, "grade_id": "evict", "locked": false, "schema_version": 3, "solution": true, "task": false}
def evict(nodes, wanted):
    """The names of the nodes that go, in order. `nodes` itself is not changed."""
    ### BEGIN SOLUTION
    left, gone, freed = dict(nodes), [], 0
    while freed < wanted:
        parents = {node["parent"] for node in left.values()}
        leaves = [n for n, node in left.items() if n not in parents and not node["pins"]]
        if not leaves:
            break
        oldest = min(leaves, key=lambda name: left[name]["last_use"])
        freed += left.pop(oldest)["pages"]
        gone.append(oldest)
    return gone
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-evict", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab04.check_evict(evict)

# %% [markdown]
# ## 4.3 Predict a hit rate ●●○ 15 minutes
#
# Prompts come one after the other into an empty store, large enough to keep everything. Afterwards each stays stored. The hit rate
# is the share of **all tokens that came** that were taken from the store. Use your `longest_match`.
#
# <details><summary>Hint 1</summary>What is stored when the third prompt comes?</details>
# <details><summary>Hint 2</summary>Add up tokens, not rates: a long prompt counts for more.</details>


# %% nbgrader={"grade": false, "grade_id": "rate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def hit_rate(prompts, page_size):
    """The reused share of all prompt tokens, from 0 to 1; 0 when no token came.

    `prompts` is a list of prompts, each a list of numbers.
    """
    ### BEGIN SOLUTION
    reused = sum(longest_match(p, prompts[:i], page_size) for i, p in enumerate(prompts))
    total = sum(len(p) for p in prompts)
    return reused / total if total else 0.0
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-rate", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab04.check_rate(hit_rate)

# %% [markdown]
# What does a page size cost? Here are 20 prompts with 1,000 tokens in common, and then 30 of their own.

# %%
shared = [[*range(1000), *range(10_000 * i, 10_000 * i + 30)] for i in range(1, 20 + 1)]
for page_size in (1, 16, 64, 128, 512):
    print(f"pages of {page_size:>3}: {100 * hit_rate(shared, page_size):.1f} %")

# %% [markdown]
# ## 4.4 Read what you cannot see ●●○ 15 minutes
#
# A server shares prefixes among all its guests, in pages of one token. You are one of them; you see the time to *your* first token
# and nothing else. Another guest has sent `known` followed by a secret of `length` tokens out of `alphabet`. Find it.
#
# `alphabet` is a list of different whole numbers from 0 on, in any order and with gaps. You may send any whole number as a token,
# also one that is not in `alphabet`. Servers differ: some are fast, some slow. Every time is a bit off, by less than one token
# takes. A server answers up to 3 questions for each token of the secret and of `alphabet` (3 x 4 x 10 for 4 tokens out of 10), and
# 10 more.
#
# <details><summary>Hint 1</summary>A prompt that is known gets its first token sooner.</details>
# <details><summary>Hint 2</summary>Find one token at a time: <code>known + [guess]</code>, and something behind it,
# because a prompt's last token is always computed.</details>
# <details><summary>Hint 3</summary>Your own tries are stored as well. What stands behind a try must not look like the next token
# of a secret.</details>


# %% nbgrader={"grade": false, "grade_id": "secret", "locked": false, "schema_version": 3, "solution": true, "task": false}
def recover(ask, known, alphabet, length):
    """The secret, a list of `length` tokens of the list `alphabet`.

    `ask(prompt)` sends a list of tokens and returns the seconds to the first token of the answer.
    """
    ### BEGIN SOLUTION
    secret, behind = [], max(alphabet) + 1  # no token of a secret: the tries are stored, too
    for _ in range(length):
        seconds = {token: ask([*known, *secret, token, behind]) for token in alphabet}
        secret.append(min(seconds, key=seconds.get))
    return secret
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-secret", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab04.check_secret(recover)

# %% [markdown]
# ## 4.5 Salt it ●●○ 10 minutes
#
# The server finds pages by **keys**. A text's pages get their keys in order; each depends on the one before, so that equal keys mean
# equal texts from the start. Write the key of a page so that two tenants never have the same key, and equal texts of one tenant
# always have the same. A tenant may have any text as its salt, also one that looks like a part of a key.
#
# <details><summary>Hint 1</summary>Where must the salt go in, so that it reaches all pages of a text?</details>
# <details><summary>Hint 2</summary>A key need not be a number: a tuple compares part by part, and nothing can collide.</details>
# <details><summary>Hint 3</summary>The first page has no key before it. Which text must its key depend on instead?</details>


# %% nbgrader={"grade": false, "grade_id": "key", "locked": false, "schema_version": 3, "solution": true, "task": false}
def page_key(before, tokens, salt):
    """Something hashable that stands for a page.

    `before` is the key of the page before, None for a text's first page; `tokens` is a tuple of the
    page's tokens; `salt` is the tenant's, a string.
    """
    ### BEGIN SOLUTION
    return (salt if before is None else before), tokens
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-key", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab04.check_key(page_key)

# %% [markdown]
# With your keys, the attack of 4.4 finds nothing:

# %%
server = lab04.Server(page_key)
server.ask([5, 6, 7, 8, 9, 0], salt="Petra")
stolen = recover(lambda prompt: server.ask(prompt, salt="me"), [5, 6], list(range(10)), 3)
print("hidden from another tenant:", stolen != [7, 8, 9])
own = recover(lambda prompt: server.ask(prompt, salt="Petra"), [5, 6], list(range(10)), 3)
print("found by a colleague:      ", own == [7, 8, 9])

# %% [markdown]
# ## How far you are
#
# Next: [5 Continuous batching](../notebooks/05_continuous_batching.ipynb).
# Back: [4 Prefix reuse](../notebooks/04_prefix_reuse.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab04.LAB)
