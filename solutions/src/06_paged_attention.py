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
# # Lab 6: Paged attention
#
# Five exercises, about 70 minutes. You need [chapter 6](../notebooks/06_paged_attention.ipynb). Write your code where
# the cells say so, run the cell below each: it checks the answer at once and names what may be wrong. Hints are
# folded away under each exercise, from vague to concrete.

# %%
import random

import torch

from helpers.checks import lab06, progress

# %% [markdown]
# ## 6.1 Predict the pages ●○○ 5 minutes
#
# Pages have 16 slots. A prompt of 100 tokens is computed, and then forked twice, so that three requests continue it:
# the parent and two children. Each of the three writes 30 tokens more. Shared pages are copied only when a request
# writes into them. How many pages are in use in the end? Set `pages` to a number or an expression.
#
# <details><summary>Hint 1</summary>Which of the prompt's pages will never be written again?</details>
# <details><summary>Hint 2</summary>How many pages has each of the three in its table, and how many of them are the same
# in all tables?</details>

# %% nbgrader={"grade": false, "grade_id": "pages", "locked": false, "schema_version": 3, "solution": true, "task": false}
pages = ...
### BEGIN SOLUTION
full = 100 // 16  # shared by all three
pages = full + 3 * (-(-130 // 16) - full)
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "check-pages", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
lab06.check_pages(pages)

# %% [markdown]
# ## 6.2 Append without over-allocating ●○○ 10 minutes
#
# A request has a table of pages and a number of tokens. Room for `new` tokens more is needed. This version takes too
# much:


# %%
def append_too_much(table, length, new, page_size, free):
    room = len(table) * page_size
    while len(table) * page_size < room + new:
        table, free = [*table, free[0]], free[1:]
    return table


table = append_too_much([0, 1, 2, 3, 4, 5, 6], 100, 50, 16, free=[7, 8, 9, 10, 11])
print(f"{100 + 50} tokens in {len(table)} pages of 16:", table)

# %% [markdown]
# That is one page too many. Write the right one. Pages are taken from the front of `free`, as many as are needed
# and no more. If there are too few, raise `ValueError`.
#
# <details><summary>Hint 1</summary>How many pages do all the tokens need, old and new ones together?</details>
# <details><summary>Hint 2</summary><code>-(-a // b)</code> is a / b rounded up.</details>
# <details><summary>Hint 3</summary>Whatever is in the table already need not be taken.</details>


# %% nbgrader={"grade": false, "grade_id": "append", "locked": false, "schema_version": 3, "solution": true, "task": false}
def append_tokens(table, length, new, page_size, free):
    """The request's table (a new list) with room for `new` tokens after its `length` tokens.

    `table` are its pages in order, `free` the pages that may be taken, the first one first.
    Neither list is changed. Raises ValueError when there are too few free pages.
    """
    ### BEGIN SOLUTION
    needed = -(-(length + new) // page_size) - len(table)
    if needed > len(free):
        raise ValueError(f"{needed} more pages are needed, {len(free)} are free")
    return table + free[: max(0, needed)]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-append", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab06.check_append(append_tokens)
### BEGIN HIDDEN TESTS
assert append_tokens([3], 4, 1, 4, [9, 8]) == [3, 9]
### END HIDDEN TESTS

# %% [markdown]
# ## 6.3 Gather by block table ●●○ 15 minutes
#
# Keys lie in pages, `[num_pages, page_size, kv_heads, head_dim]`. Collect those of one request, in the order of its
# tokens, without the unused slots of its last page.
#
# <details><summary>Hint 1</summary>In which page is token <code>t</code>, and in which slot of it?</details>
# <details><summary>Hint 2</summary>A tensor can be indexed by a list of pages: <code>cache[table]</code>.</details>
# <details><summary>Hint 3</summary>Then pages and their slots become one dimension (<code>flatten</code>), which is cut
# at the request's length.</details>


# %% nbgrader={"grade": false, "grade_id": "gather", "locked": false, "schema_version": 3, "solution": true, "task": false}
def gather(cache, table, length):
    """The keys of one request, `[length, kv_heads, head_dim]`.

    `cache` is `[num_pages, page_size, kv_heads, head_dim]`, `table` the list of the request's
    pages, `length` the number of its tokens.
    """
    ### BEGIN SOLUTION
    return cache[table].flatten(0, 1)[:length]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-gather", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab06.check_gather(gather)

# %% [markdown]
# ## 6.4 Copy on write ●●● 25 minutes
#
# A small pool, with numbers in place of keys and values.


# %%
class Pages:
    """`num_pages` pages of `page_size` slots, each with room for a number."""

    def __init__(self, num_pages, page_size):
        self.page_size = page_size
        self.values = torch.zeros(num_pages, page_size)
        self.refs = [0] * num_pages  # how many tables name each page
        self.tables = {}  # for each request its pages, in order
        self.lengths = {}  # for each request its number of tokens

    def take(self):
        """A page that no table names."""
        page = self.refs.index(0)
        self.refs[page] = 1
        return page

    def start(self, name):
        """Begins a request without tokens."""
        self.tables[name], self.lengths[name] = [], 0


# %%
class Pool(Pages):
    def read(self, name):
        """All values of a request."""
        return self.values[self.tables[name]].flatten()[: self.lengths[name]].tolist()

    def append(self, name, value):
        """Writes one value behind the others."""
        place = self.lengths[name] % self.page_size
        if place == 0:
            self.tables[name].append(self.take())
        self.values[self.tables[name][-1], place] = value
        self.lengths[name] += 1


# %% [markdown]
# That is right as long as no page is shared. Here B goes on from A's first two values, in A's page:

# %%
pool = Pool(num_pages=8, page_size=4)
pool.start("A")
pool.append("A", 1)
pool.append("A", 2)
pool.tables["B"], pool.lengths["B"] = pool.tables["A"][:], pool.lengths["A"]
pool.append("A", 3)
pool.append("B", 4)
print("A wrote 1, 2, 3 and reads", pool.read("A"))

# %% [markdown]
# Write `fork`, `append` and `free`, so that requests share pages and each reads its own values. A fork takes no page and copies no
# value. A page is copied when its owner is about to write into it and others name it, too: only that page, and only then.
# `refs` is right after every call, and a page without references can be taken again.
#
# <details><summary>Hint 1</summary>When a request forks, what happens to <code>refs</code>? And when a request stops using a
# page?</details>
# <details><summary>Hint 2</summary>Which page can be shared <i>and</i> written? Only the last one, while it is not
# full.</details>
# <details><summary>Hint 3</summary>Before writing: if <code>refs</code> of the last page is above 1, take a new page, copy the
# values, put it into the table in the old one's place, and let go of the old one.</details>


# %% nbgrader={"grade": false, "grade_id": "cow-fork", "locked": false, "schema_version": 3, "solution": true, "task": false}
class Forking(Pool):
    def fork(self, parent, child):
        """Begins a request `child` with all tokens of `parent`; takes no page.

        ValueError if there is a request of the name `child` already.
        """
        ### BEGIN SOLUTION
        if child in self.tables:
            raise ValueError(f"there is a request {child!r} already")
        self.tables[child] = list(self.tables[parent])
        self.lengths[child] = self.lengths[parent]
        for page in self.tables[child]:
            self.refs[page] += 1
        ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "cow-append", "locked": false, "schema_version": 3, "solution": true, "task": false}
class Copying(Forking):
    def append(self, name, value):
        """Writes one value behind the request's others, into a page that no other request names."""
        ### BEGIN SOLUTION
        table, place = self.tables[name], self.lengths[name] % self.page_size
        if place == 0:
            table.append(self.take())
        elif self.refs[table[-1]] > 1:
            old, table[-1] = table[-1], self.take()
            self.values[table[-1]] = self.values[old]
            self.refs[old] -= 1
        self.values[table[-1], place] = value
        self.lengths[name] += 1
        ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "cow-free", "locked": false, "schema_version": 3, "solution": true, "task": false}
class MyPool(Copying):
    def free(self, name):
        """Ends a request, its table and its length; ValueError if there is none of that name."""
        ### BEGIN SOLUTION
        if name not in self.tables:
            raise ValueError(f"no request {name!r}")
        for page in self.tables.pop(name):
            self.refs[page] -= 1
        del self.lengths[name]
        ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-cow", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab06.check_copy_on_write(MyPool)

# %% [markdown]
# What it is for: several answers to one prompt. Here are pages of 16 for a prompt of 100 tokens and answers of 30, forked
# and each by itself.

# %%
for answers in (2, 4, 8):
    pool = MyPool(num_pages=80, page_size=16)
    pool.start(0)
    for t in range(100):
        pool.append(0, t)
    for child in range(1, answers):
        pool.fork(0, child)
    for name in pool.tables:
        for t in range(100, 130):
            pool.append(name, t)
    used = sum(count > 0 for count in pool.refs)
    print(f"{answers} answers: {used} pages, {answers * -(-130 // 16)} without sharing")

# %% [markdown]
# ## 6.5 Find the page size ●●○ 15 minutes
#
# Large pages suit the device, small ones waste less. For a workload, find the largest page size whose waste is
# acceptable. All requests begin with the same `shared` tokens. Full pages of that beginning exist once and are in all
# tables; every request has pages of its own for the rest. The waste: of all slots of the pages in use, the share that
# holds no token.
#
# <details><summary>Hint 1</summary>For one page size: how many pages are there in all, and how many of their slots hold
# a token?</details>
# <details><summary>Hint 2</summary>Of the beginning, <code>shared // size</code> pages are full. What is left of it, each
# request holds for itself.</details>
# <details><summary>Hint 3</summary>Waste = 1 - filled / (pages * size). A token in a full shared page fills one slot. What
# is left of the beginning fills slots in every request's own page.</details>


# %% nbgrader={"grade": false, "grade_id": "size", "locked": false, "schema_version": 3, "solution": true, "task": false}
def find_page_size(lengths, shared, sizes, most_wasted):
    """The largest of `sizes` whose waste is at most `most_wasted` (a share, 0.1 is 10 %), or None.

    `lengths` are the requests' tokens, the `shared` ones that all begin with included.
    """

    ### BEGIN SOLUTION
    def waste(size):
        common = shared // size * size
        own = [length - common for length in lengths]
        pages = shared // size + sum(-(-rest // size) for rest in own)
        return 1 - (common + sum(own)) / (pages * size)

    return max((size for size in sizes if waste(size) <= most_wasted), default=None)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-size", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab06.check_page_size(find_page_size)

# %% [markdown]
# Three workloads, and what they want:

# %%
rng = random.Random(6)
workloads = {
    "chat, short": ([40 + rng.randrange(200) for _ in range(50)], 30),
    "chat, long instructions": ([700 + rng.randrange(200) for _ in range(50)], 650),
    "documents": ([2000 + rng.randrange(6000) for _ in range(50)], 0),
}
for name, (lengths, shared) in workloads.items():
    size = find_page_size(lengths, shared, (16, 32, 64, 128, 256), most_wasted=0.1)
    print(f"{name:24} {sum(lengths) / 50:6,.0f} tokens on average: pages of {size}")

# %% [markdown]
# With long documents, large pages cost next to nothing; short questions pay for them with memory. Ascend's operators want
# 128. That can be the right choice even where it wastes: count what the waste costs (requests that do not fit at the same
# time) against what reading small pages costs.

# %% [markdown]
# ## How far you are
#
# Next: [7 Flash attention](../notebooks/07_flash_attention.ipynb).
# Back: [6 Paged attention](../notebooks/06_paged_attention.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab06.LAB)
