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
# # Lab 9: Operator fusion and graph capture
#
# Five exercises, about 80 minutes. You need [chapter 9](../notebooks/09_operator_fusion.ipynb). Write your code where the
# cells say so, run the cell below each: it checks the answer at once and names what may be wrong. Hints are folded away under
# each exercise, from vague to concrete. No model is needed here.

# %%
import torch

from helpers.checks import lab09, progress

# %% [markdown]
# ## 9.1 Count the calls ●●○ 15 minutes
#
# A pass is a list of **groups** of operators. Each group is one kernel: a group of one operator is an ordinary launch, a group of
# several operators is a fused kernel. An operator names the tensors that it `reads`, and the one that it `writes`. Each tensor is
# written once.
#
# How many launches are there, and how many bytes move between memory and the chip?
#
# - A kernel reads from memory the tensors that its operators read, but not those that an operator *of the same kernel* wrote. It
#   reads each of them once, however many of its operators need it.
# - Of the tensors that it makes, a kernel writes to memory those that a *later* kernel reads, and those that are `needed` at the
#   end of the pass. All others stay on the chip.
#
# <details><summary>Hint 1</summary>Take one group. Which names does it read that it does not write?</details>
# <details><summary>Hint 2</summary>Sets help: a name is in them once. Which names do all later groups read?</details>
# <details><summary>Hint 3</summary><code>outside = {names read} - {names written}</code>, and of the names written those that
# are in <code>{read later} | {needed}</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "count", "locked": false, "schema_version": 3, "solution": true, "task": false}
def count(groups, sizes, needed):
    """`(launches, bytes)` of a pass, two whole numbers.

    `groups` is a list of lists of operators, dictionaries with `reads` (a list of names) and
    `writes` (a name). `sizes` gives each tensor's bytes by name, 1 or more. `needed` is a list of
    different names, and inputs of the pass may be among them.
    """
    ### BEGIN SOLUTION
    moved = 0
    for i, group in enumerate(groups):
        made = {operator["writes"] for operator in group}
        read = {name for operator in group for name in operator["reads"]}
        later = {name for other in groups[i + 1 :] for one in other for name in one["reads"]}
        moved += sum(sizes[name] for name in read - made)
        moved += sum(sizes[name] for name in made if name in later or name in needed)
    return len(groups), moved
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-count", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab09.check_count(count)

# %% [markdown]
# Here are add and RMSNorm of 576 fp32 numbers: operator by operator, in two kernels, and in one. The sum is needed afterwards,
# too.

# %%
sizes = dict.fromkeys(("x", "residual", "total", "square", "scaled", "weight", "y"), 4 * 576)
sizes |= {"mean": 4, "inverse": 4}
norm = [
    {"reads": ["x", "residual"], "writes": "total"},
    {"reads": ["total"], "writes": "square"},
    {"reads": ["square"], "writes": "mean"},
    {"reads": ["mean"], "writes": "inverse"},
    {"reads": ["total", "inverse"], "writes": "scaled"},
    {"reads": ["scaled", "weight"], "writes": "y"},
]
for name, groups in (
    ("apart", [[one] for one in norm]),
    ("add, then norm", [norm[:1], norm[1:]]),
    ("fused", [norm]),
):
    launches, moved = count(groups, sizes, ["total", "y"])
    print(f"{name:15} {launches} launches, {moved:6,} bytes")

# %% [markdown]
# What is left in the fused kernel is what must move: three inputs, two results.
#
# ## 9.2 Fuse add and norm ●●○ 15 minutes
#
# Write the function that a fused kernel computes. It has two results. The first one is the sum of `x` and `residual`, divided by
# its root mean square and multiplied by the weight. The second one is the sum itself. The numbers may have 16 bits: the square of
# 300 does not fit into fp16, so take the mean of the squares in fp32.
#
# <details><summary>Hint 1</summary>Two results. The first one is <code>total / sqrt(mean of squares + eps) *
# weight</code>.</details>
# <details><summary>Hint 2</summary>The mean is one number for each token: <code>mean(-1, keepdim=True)</code>.</details>
# <details><summary>Hint 3</summary><code>wide = total.float()</code> before the squares, <code>.to(x.dtype)</code> at the
# end.</details>


# %% nbgrader={"grade": false, "grade_id": "norm", "locked": false, "schema_version": 3, "solution": true, "task": false}
def add_rms_norm(x, residual, weight, eps):
    """`(normed, total)`, both `[tokens, hidden]` in the type of x; `total` is `x + residual`.

    `x`, `residual` are `[tokens, hidden]`, `weight` is `[hidden]`, all fp32, fp16 or bf16. The mean
    is taken in fp32, with `eps` inside the root. The residual's memory may be used up.
    """
    ### BEGIN SOLUTION
    total = x + residual
    wide = total.float()
    mean = (wide * wide).mean(-1, keepdim=True)
    return (wide / torch.sqrt(mean + eps) * weight).to(x.dtype), total
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-norm", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab09.check_norm(add_rms_norm)
### BEGIN HIDDEN TESTS
assert add_rms_norm(*torch.full((2, 1, 2), 300.0).half(), torch.ones(2).half(), 1e-5)[
    0
].tolist() == [[1.0, 1.0]]
### END HIDDEN TESTS

# %% [markdown]
# What does a wrong residual change? The cell runs eight layers, each of which adds a hundredth of its normed input to the stream:


# %%
def layers(norm):
    """The stream after eight layers."""
    stream, delta = torch.ones(1, 4), torch.zeros(1, 4)
    for _ in range(8):
        normed, stream = norm(delta, stream, torch.ones(4), 1e-5)
        delta = normed / 100
    return stream[0, 0].item()


print(f"your pair:         {layers(add_rms_norm):.4f}")
print(f"the residual lost: {layers(lambda *given: (add_rms_norm(*given)[0], given[1])):.4f}")

# %% [markdown]
# With the wrong residual nothing fails and the shapes fit, but the layers add nothing.
#
# ## 9.3 Choose the capture sizes ●●● 20 minutes
#
# A histogram says how many steps had which batch size. At most `count` graphs can be captured, each for one size. A step runs at
# the smallest size that holds its batch, and the rest of the rows are padding. Choose the sizes with the fewest padded rows over
# all steps. Every batch must fit into some size.
#
# <details><summary>Hint 1</summary>Which size must be there? And why is a size of no use when no step has exactly that
# batch?</details>
# <details><summary>Hint 2</summary>Up to a dozen different batches: one may try all choices
# (<code>itertools.combinations</code>).</details>
# <details><summary>Hint 3</summary>The largest batch and up to <code>count - 1</code> of the others. For each choice, the
# padding is the sum of <code>(size - batch) * steps</code>.</details>

# %%
import itertools


# %% nbgrader={"grade": false, "grade_id": "sizes", "locked": false, "schema_version": 3, "solution": true, "task": false}
def capture_sizes(histogram, count):
    """At most `count` sizes, a list of whole numbers, with the fewest padded rows.

    `histogram` maps a batch, in requests, to its number of steps, 1 or more; it has up to twelve
    entries. `count` is 1 or more. Of several best choices any will do.
    """

    ### BEGIN SOLUTION
    def padded(sizes):
        return sum(
            (min(size for size in sizes if size >= batch) - batch) * steps
            for batch, steps in histogram.items()
        )

    *others, largest = sorted(histogram)
    more = min(count - 1, len(others))
    choices = ([*some, largest] for some in itertools.combinations(others, more))
    return min(choices, key=padded)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-sizes", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab09.check_sizes(capture_sizes)

# %% [markdown]
# How much does one more graph save?

# %%
day = {1: 40, 3: 70, 5: 95, 6: 60, 7: 30, 9: 55, 13: 20, 18: 45, 25: 12, 40: 3}
for count_ in (1, 2, 3, 4, 6, 10):
    sizes_ = capture_sizes(day, count_)
    rows = sum((min(s for s in sizes_ if s >= b) - b) * n for b, n in day.items())
    print(f"{count_:2} sizes: {rows:6,} padded rows, {sizes_}")

# %% [markdown]
# The first few sizes save nearly all of the padding. In an engine each further size costs memory, and time at the start.
#
# ## 9.4 Find the stale length ●●○ 15 minutes
#
# A captured graph repeats launches with the arguments that they had. An argument is the **memory** of a tensor (an address) or a
# **number** that the host gave. Some arguments must be updated, or copied into the captured memory, before a replay. To find
# them, one captures the same step twice, at different lengths, and compares. Here is such a pair of captures:

# %%
first = [
    {"operator": "linear", "memory": {"x": 512, "weight": 4096}, "numbers": {}},
    {
        "operator": "attention",
        "memory": {"q": 640, "k": 8192},
        "numbers": {"lengths": [9, 4], "scale": 0.125},
    },
]
second = [
    {"operator": "linear", "memory": {"x": 768, "weight": 4096}, "numbers": {}},
    {
        "operator": "attention",
        "memory": {"q": 640, "k": 8192},
        "numbers": {"lengths": [10, 5], "scale": 0.125},
    },
]

# %% [markdown]
# In the second capture the input of the first launch has another address, and attention has other lengths. The order of the
# pairs does not matter. So the answer is `[(0, "x"), (1, "lengths")]`.
#
# <details><summary>Hint 1</summary>First see whether both have the same operators, in the same order.</details>
# <details><summary>Hint 2</summary>Then go through both side by side, and through both kinds of arguments.</details>


# %% nbgrader={"grade": false, "grade_id": "stale", "locked": false, "schema_version": 3, "solution": true, "task": false}
def stale(first, second):
    """The arguments that differ: pairs of the launch's number, from 0, and the argument's name.

    Both captures are lists of launches, dictionaries with `operator` (a name), `memory` (addresses
    by argument) and `numbers` (whole numbers, floats or lists of them, by argument); no name is in
    both. Launches of the same place and operator have the same arguments. Raises ValueError when
    the captures do not have the same operators in the same order: then they are of two different
    steps.
    """
    ### BEGIN SOLUTION
    if [launch["operator"] for launch in first] != [launch["operator"] for launch in second]:
        raise ValueError("these captures are of two different steps")
    found = []
    for i, (one, other) in enumerate(zip(first, second)):
        for kind in ("memory", "numbers"):
            found += [(i, name) for name, value in one[kind].items() if value != other[kind][name]]
    return found
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-stale", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab09.check_stale(stale)

# %% [markdown]
# Now a real recording: a step of attention over a row that grows. The cell captures it at two lengths and prints what your
# function finds:

# %%
from helpers.graphs import Recording


def capture(length):
    """A recording of attention over the first keys of a row, in the form above."""
    cache, q = torch.ones(1, 1, 16, 4), torch.ones(1, 1, 1, 4)
    attention = torch.nn.functional.scaled_dot_product_attention
    recording = Recording(lambda: attention(q, cache[:, :, :length], cache[:, :, :length]) + 1)
    launches = []
    for call in recording.calls:
        given = [x for x in call.args if isinstance(x, torch.Tensor)]
        sizes = {f"size of input {i}": list(x.shape) for i, x in enumerate(given)}
        name = call.operator.overloadpacket.__name__
        launches.append({"operator": name, "memory": {}, "numbers": sizes})
    return launches


print(stale(capture(9), capture(10)))

# %% [markdown]
# Inputs 1 and 2 of launch 0 are the keys and the values of attention: their captured size is out of date. The addition after it
# has the same sizes in both captures.
#
# ## 9.5 Order the loops ●●● 15 minutes
#
# A kernel multiplies a matrix by a vector: `y[row] += matrix[row, column] * x[column]`. The matrix is one piece of memory, row
# after row, and comes in cache lines of `per_line` numbers. The cache is empty at first and holds `kept` lines. When it is full
# and one more line is fetched, it drops the line that was used least recently. (Only the matrix counts here; the vectors stay in
# registers.)
#
# There are three loops. The outer one goes over blocks of `tile` columns, the middle one over all rows, the inner one over the
# columns of the block. So `tile = columns` walks along the rows, and `tile = 1` goes down one column after the other. How many
# lines are fetched?
#
# <details><summary>Hint 1</summary>Write the three loops first. In which line does <code>matrix[row, column]</code>
# lie?</details>
# <details><summary>Hint 2</summary>The number's place in memory is <code>row * columns + column</code>, and a line has
# <code>per_line</code> of them.</details>
# <details><summary>Hint 3</summary>Keep the lines in a list, the last used one at its end. A line that is used moves to the
# end; the list is cut at its beginning.</details>


# %% nbgrader={"grade": false, "grade_id": "lines", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fetched(rows, columns, tile, per_line, kept):
    """The number of cache lines that the kernel fetches, a whole number.

    All arguments are 1 or more. The last block has fewer columns where `tile` does not divide their
    number. The matrix begins with a line.
    """
    ### BEGIN SOLUTION
    lines, count = [], 0
    for start in range(0, columns, tile):
        for row in range(rows):
            for column in range(start, min(start + tile, columns)):
                line = (row * columns + column) // per_line
                count += line not in lines
                lines = [*(other for other in lines if other != line), line][-kept:]
    return count
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-lines", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab09.check_lines(fetched)

# %% [markdown]
# The cell reads a matrix of 64 x 64 in lines of 16 numbers, with caches of three sizes:

# %%
for tile in (1, 4, 16, 64):
    found = [f"{fetched(64, 64, tile, 16, kept):5,}" for kept in (8, 63, 64)]
    print(f"tiles of {tile:2} columns: {', '.join(found)} lines with room for 8, 63 and 64")

# %% [markdown]
# Along the rows, or in tiles as wide as a line, each line comes once, whatever the cache holds. Down the columns (`tile = 1`) a
# cache helps only if it holds all 64 lines of a column. With room for 63, each line is dropped just before it would be used
# again.

# %% [markdown]
# ## How far you are
#
# Next: [10 Quantisation and pruning](../notebooks/10_quantisation.ipynb).
# Back: [9 Operator fusion and graph capture](../notebooks/09_operator_fusion.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab09.LAB)
