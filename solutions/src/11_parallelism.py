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
# # Lab 11: Tensor and pipeline parallelism
#
# Five exercises, about 80 minutes. You need [chapter 11](../notebooks/11_parallelism.ipynb). Write your code where the cells say
# so, run the cell below each: it checks the answer at once and names what may be wrong. Hints are folded away under each
# exercise, from vague to concrete. No model and no second process is needed here: a check runs your function as each rank in turn.

# %%
import itertools

import torch

from helpers.checks import lab11, progress

# %% [markdown]
# ## 11.1 Split a layer ●●○ 15 minutes
#
# Queries, keys and values share one matrix. Its rows are those of all query heads, then those of all key heads, then those of all
# value heads; each head has `head_dim` rows. A KV head is a key head and the value head of the same number. It is read by query heads
# that follow one another: with 6 query heads and 3 KV heads, query heads 0 and 1 read KV head 0.
#
# Several ranks share the layer:
#
# - KV heads go to the ranks in order, as evenly as whole heads allow. Where it does not come out even, the first ranks have one more.
# - A rank has the query heads that read its KV heads. So it needs nothing from other ranks until attention is done.
#
# Which rows of the matrix has a rank?
#
# <details><summary>Hint 1</summary>First find the rank's KV heads. Which query heads follow from them?</details>
# <details><summary>Hint 2</summary><code>each, more = divmod(kv_heads, world)</code>: the first <code>more</code> ranks have
# <code>each + 1</code>. How many KV heads stand before those of this rank?</details>
# <details><summary>Hint 3</summary>Count in heads: in the matrix, key heads begin at number <code>heads</code>, value heads at
# <code>heads + kv_heads</code>. At the end make <code>head_dim</code> rows of each head.</details>


# %% nbgrader={"grade": false, "grade_id": "rows", "locked": false, "schema_version": 3, "solution": true, "task": false}
def own_rows(heads, kv_heads, head_dim, world, rank):
    """The numbers of the rows that a rank has, a list: its queries, then its keys, then its values.

    `heads` is a multiple of `kv_heads`. There are `world` ranks, not more than KV heads; `rank` is
    counted from 0.
    """
    ### BEGIN SOLUTION
    each, more = divmod(kv_heads, world)
    first = rank * each + min(rank, more)
    own = range(first, first + each + (rank < more))
    group = heads // kv_heads
    queries = range(own.start * group, own.stop * group)
    keys = range(heads + own.start, heads + own.stop)
    values = range(heads + kv_heads + own.start, heads + kv_heads + own.stop)
    found = (*queries, *keys, *values)
    return [head * head_dim + i for head in found for i in range(head_dim)]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-rows", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab11.check_rows(own_rows)
### BEGIN HIDDEN TESTS
assert own_rows(4, 2, 1, 2, 1) == [2, 3, 5, 7]
### END HIDDEN TESTS

# %% [markdown]
# The course's model has 9 query heads and 3 KV heads of 64 numbers. What do two ranks get, and what would they get if the matrix were
# just cut in the middle?


# %%
def heads_in(rows):
    """How many heads' rows these are, of queries, keys and values."""
    edges = (0, 9 * 64, 12 * 64, 15 * 64)
    return [sum(a <= row < b for row in rows) / 64 for a, b in itertools.pairwise(edges)]


for rank in range(2):
    print(f"rank {rank}, by heads:       {heads_in(own_rows(9, 3, 64, 2, rank))}")
for rank in range(2):
    print(f"rank {rank}, in the middle:  {heads_in(range(rank * 480, (rank + 1) * 480))}")

# %% [markdown]
# Cut in the middle, rank 0 has queries alone, and a half head among them. The shapes fit, nothing fails, and the numbers mean nothing.
#
# ## 11.2 Where the sum goes ●●○ 15 minutes
#
# An MLP multiplies by `up`, applies `relu`, multiplies by `down`, and adds a bias. The result is added to the residual stream. Each rank
# has some of the columns between the two matrices: some rows of `up`, and the same columns of `down`. So a rank's product by `down` is a
# summand of the whole product. What is not split is whole on every rank: the input, the residual and the bias.
#
# Write the function that each rank calls. `all_reduce(t)` returns the sum of all ranks' `t`, the same on each; `t` itself stays as it is.
# A sum costs time, so ask for one only.
#
# <details><summary>Hint 1</summary>On one rank: <code>residual + torch.relu(x @ up.T) @ down.T + bias</code>. What of that is a
# summand, and what is whole already?</details>
# <details><summary>Hint 2</summary>With two ranks, how often is the bias in the sum if each rank adds it before?</details>
# <details><summary>Hint 3</summary>Sum the product by <code>down</code>, and add all else to the sum.</details>


# %% nbgrader={"grade": false, "grade_id": "mlp", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mlp(x, residual, up, down, bias, rank, all_reduce):
    """The new residual stream `[tokens, hidden]`, the same on every rank.

    `x` and `residual` are `[tokens, hidden]`, `up` is `[own, hidden]`, `down` is `[hidden, own]`,
    `bias` is `[hidden]`. Ranks may have different numbers of own columns. `rank` is counted from 0.
    The result may use up the memory of `residual`; all else stays as it is.
    """
    ### BEGIN SOLUTION
    product = torch.relu(x @ up.T) @ down.T
    return residual + all_reduce(product) + bias
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-mlp", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab11.check_mlp(mlp)

# %% [markdown]
# `lab11.as_ranks` splits a layer and runs your function as each rank. A bias that each of four ranks adds before the sum counts four
# times. What does that change?

# %%
torch.manual_seed(0)
sizes = {"x": (3, 8), "residual": (3, 8), "up": (16, 8), "down": (8, 16)}
layer = {name: torch.randn(size) for name, size in sizes.items()} | {"bias": torch.full((8,), 0.1)}
whole = lab11.as_ranks(mlp, layer, 1)[0]
for world in (1, 2, 4):
    right = lab11.as_ranks(mlp, layer, world)[0]
    early = lab11.as_ranks(mlp, layer | {"bias": layer["bias"] * world}, world)[0]
    same = torch.allclose(right, whole, atol=1e-4)
    print(f"{world} ranks: as one rank {same}, bias too early: off by {(early - whole).max():.2f}")

# %% [markdown]
# One rank is right in both ways. So such a mistake passes every test on a single device.
#
# ## 11.3 The bubble of a schedule ●●○ 15 minutes
#
# A pipeline has a stage on each device. A pass of a group of requests goes through all stages, and stage `i` takes `seconds[i]` for it,
# whatever the group. Each stage computes one group at a time. The groups take turns: the first pass of all groups, in order, then their
# second pass, and so on, `passes` each. A group's next pass needs the token that the last stage has made in its pass before. A stage
# computes as soon as it is free and its input is there; messages take no time.
#
# Which share of the time are the stages idle, all of them together, from the beginning to the end of the last pass?
#
# <details><summary>Hint 1</summary>Go through the passes in their order. When does stage 0 begin with one? When does stage 1?</details>
# <details><summary>Hint 2</summary>Keep two lists: when each stage is free, and when each group's last token came.</details>
# <details><summary>Hint 3</summary>A stage begins at the later one of two moments: it is free, and the stage before it is done. The
# stages together have <code>len(seconds) * end</code> seconds.</details>


# %% nbgrader={"grade": false, "grade_id": "idle", "locked": false, "schema_version": 3, "solution": true, "task": false}
def idle(seconds, groups, passes):
    """The idle share of all stages together, from 0 to 1.

    `seconds` is a list with a number above 0 for each stage; `groups` and `passes` are 1 or more.
    """
    ### BEGIN SOLUTION
    free, token = [0.0] * len(seconds), [0.0] * groups
    for _ in range(passes):
        for group in range(groups):
            now = token[group]
            for stage, cost in enumerate(seconds):
                now = free[stage] = max(now, free[stage]) + cost
            token[group] = now
    return 1 - groups * passes * sum(seconds) / (len(seconds) * free[-1])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-idle", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab11.check_idle(idle)

# %% [markdown]
# How many groups does a pipeline need? The head of the course's model, which is in the last stage, costs as much as 8 layers:

# %%
for name, seconds in (
    ("three equal stages", [10, 10, 10]),
    ("15 and 15 layers", [15, 15 + 8]),
    ("19 and 11 layers", [19, 11 + 8]),
):
    shares = [f"{idle(seconds, groups, 24):4.0%}" for groups in (1, 2, 3, 4)]
    print(f"{name:18}, idle with 1 to 4 groups: {', '.join(shares)}")

# %% [markdown]
# As many groups as stages keep equal stages busy. Against unequal stages more groups do not help: with 15 and 15 layers, the share
# stays where two groups have brought it.
#
# ## 11.4 Balance the stages ●●○ 10 minutes
#
# A model has `layers` layers that weigh 1 each, and a head that weighs `head` and stands in the last stage. Layers stay in order, and each
# stage has one at least. Share them out so that the heaviest stage is as light as possible.
#
# <details><summary>Hint 1</summary>How many layers can the last stage have? There are not many possibilities.</details>
# <details><summary>Hint 2</summary>If the last stage has <code>last</code> layers, the others share the rest as evenly as they
# can.</details>


# %% nbgrader={"grade": false, "grade_id": "balance", "locked": false, "schema_version": 3, "solution": true, "task": false}
def stage_layers(layers, head, stages):
    """The number of layers of each stage, a list of whole numbers, the stage with the head last.

    `head` is a number of layers, 0 or more, not always whole. `stages` is not more than `layers`.
    Of several best splits any will do.
    """
    ### BEGIN SOLUTION
    if stages == 1:
        return [layers]
    found = []
    for last in range(1, layers - stages + 2):
        each, more = divmod(layers - last, stages - 1)
        found.append([each + (stage < more) for stage in range(stages - 1)] + [last])
    return min(found, key=lambda split: max([*split, split[-1] + head]))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-balance", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab11.check_balance(stage_layers)

# %%
for stages in (2, 3, 4):
    split = stage_layers(30, 8, stages)
    speed = (30 + 8) / max(*split[:-1], split[-1] + 8)
    print(f"{stages} stages: {split}, {speed:.2f} times as fast as one device")

# %% [markdown]
# ## 11.5 Choose ranks, stages and replicas ●●● 25 minutes
#
# A plan is three numbers: `tp` ranks share each stage, `pp` stages make a replica, and there are `replicas` of them. Each rank has a
# device of its own. The rules:
#
# - `tp` is a number that `sums` names, and it divides `kv_heads`. There are not more stages than layers. The plan needs
#   `tp * pp * replicas` devices, and the machine has `devices`.
# - A replica serves `pp` groups of equally many requests. Its devices share the weights and the caches of *all* groups evenly, and they
#   must fit into the `memory` of each.
# - A token of a group goes through all stages. Together, the stages read the weights once, and the caches of *this* group. The `tp` ranks
#   of a stage read their parts at the same time, each at the `bandwidth` of its device. Each layer has two sums over the ranks, which take
#   `sums[tp]` microseconds each. Between two stages a message takes `hop` microseconds.
# - Each token must come within `limit` microseconds.
#
# Which plan serves the most requests at once?
#
# <details><summary>Hint 1</summary>There are few plans: try all of them. How large can a group be in one of them?</details>
# <details><summary>Hint 2</summary>Two bounds for the requests of a group, one from the memory, one from the time. The smaller one
# counts, rounded down, and a negative one is 0.</details>
# <details><summary>Hint 3</summary>Memory: <code>weights + pp * group * cache &lt;= memory * tp * pp</code>. Time: <code>(weights +
# group * cache) / (tp * bandwidth) + 2 * layers * sums[tp] + (pp - 1) * hop &lt;= limit</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "choose", "locked": false, "schema_version": 3, "solution": true, "task": false}
def choose(model, machine, limit):
    """`(tp, pp, replicas)` with the most requests at once; None where no plan serves any.

    `model`: `weights` in bytes, `layers`, `kv_heads`, and `cache`, the bytes of one request's keys
    and values. `machine`: `devices`, `memory` in bytes, `bandwidth` in bytes a microsecond, `sums`
    (microseconds by number of ranks; `sums[1]` is 0) and `hop`. Of several best plans any will do.
    """
    ### BEGIN SOLUTION
    best, sums, weights, cache = (0, None), machine["sums"], model["weights"], model["cache"]
    for tp, pp in itertools.product(sums, range(1, model["layers"] + 1)):
        if model["kv_heads"] % tp:
            continue
        replicas = machine["devices"] // (tp * pp)
        left = limit - 2 * model["layers"] * sums[tp] - (pp - 1) * machine["hop"]
        room = (machine["memory"] * tp * pp - weights) // (pp * cache)
        reads = (left * machine["bandwidth"] * tp - weights) // cache
        plan = (replicas * pp * min(room, reads), (tp, pp, replicas))
        best = max(best, plan, key=lambda one: one[0])
    return best[1]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-choose", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab11.check_choose(choose)

# %% [markdown]
# Three models on eight devices of 64 GB, with limits from generous to tight. (The times of sums and messages are assumptions.)

# %%
machine = {"devices": 8, "memory": 64 * 10**9, "bandwidth": 1_600_000, "hop": 500}
machine["sums"] = {1: 0, 2: 20, 4: 40, 8: 100}
models = {
    "16 GB of weights": {"weights": 16 * 10**9, "layers": 32, "kv_heads": 8, "cache": 500 * 10**6},
    "65 GB of weights": {"weights": 65 * 10**9, "layers": 64, "kv_heads": 8, "cache": 10**9},
    "141 GB of weights": {"weights": 141 * 10**9, "layers": 80, "kv_heads": 8, "cache": 10**9},
}
for name, model in models.items():
    found = [
        f"{limit // 1000} ms {choose(model, machine, limit)}" for limit in (150_000, 50_000, 25_000)
    ]
    print(f"{name}: {', '.join(found)}")

# %% [markdown]
# With time enough the memory decides: one replica holds the weights once, and leaves the most for caches. Whether ranks or stages
# share the weights then hardly matters. A tight limit asks for more ranks to a stage, because they are what makes a single token
# faster. At the tightest one two replicas share the requests: a large group would be too slow. And where even eight ranks are too slow,
# no plan helps.

# %% [markdown]
# ## How far you are
#
# Next: [12 Serving and load balancing](../notebooks/12_serving.ipynb).
# Back: [11 Tensor and pipeline parallelism](../notebooks/11_parallelism.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab11.LAB)
