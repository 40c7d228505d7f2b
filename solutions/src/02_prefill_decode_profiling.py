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
# # Lab 2: prefill/decode profiling
#
# Five exercises, about 55 minutes. You need [chapter 2](../notebooks/02_prefill_decode_profiling.ipynb). Write your code
# where the cells say so, run the cell below each: it checks the answer at once and names what may be wrong. Hints are
# folded away under each exercise, from vague to concrete.

# %%
from helpers.checks import lab02, progress
from helpers.estimates import ACCELERATORS
from helpers.model import PUBLISHED

# %% [markdown]
# ## 2.1 Predict a decode step ●○○ 5 minutes
#
# Qwen2.5-7B has 7,615,616,512 weights. They are kept in int8, on a device that reads 1.6 TB/s. How many **milliseconds**
# does a decode step take at best, for one request with hardly any context? Set `step_ms` to a number or an expression.
#
# <details><summary>Hint 1</summary>Is a decode step of one request bound by memory or by compute?</details>
# <details><summary>Hint 2</summary>Bytes over bytes per second.</details>

# %% nbgrader={"grade": false, "grade_id": "step-time", "locked": false, "schema_version": 3, "solution": true, "task": false}
step_ms = ...
### BEGIN SOLUTION
step_ms = 7_615_616_512 * 1 / 1.6e12 * 1000
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "check-step-time", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
lab02.check_step_time(step_ms)

# %% [markdown]
# ## 2.2 A profiler that measures ●●○ 20 minutes
#
# A pretended engine stands in for a model on an accelerator. Nothing is computed; a virtual clock says how long it would
# have taken, so that the check knows the right answer exactly. Here is what it can do.

# %%
from helpers.checks import PretendEngine

for call in ("start(prompt)", "next(token)", "wait()", "clock()", "calendar()"):
    method = getattr(PretendEngine, call.split("(")[0])
    print(f"engine.{call}: {method.__doc__}")

# %% [markdown]
# This profiler has been used on it. Run it, and believe none of its numbers.


# %%
def article_profile(engine, prompt, max_new_tokens):
    """Time per token, and the tokens."""
    start, tokens = engine.calendar(), []
    token = engine.start(prompt)
    for _ in range(max_new_tokens):
        token = engine.start([token])
        tokens.append(token)
    return {"tpot": (engine.calendar() - start) / max_new_tokens, "tokens": tokens}


print(article_profile(PretendEngine(), prompt=[5] * 100, max_new_tokens=4))

# %% [markdown]
# Write one that gives the answer's tokens, the time to first token and the time per output token of an engine that is warm.
#
# <details><summary>Hint 1</summary>Five things are wrong with the profiler above. The chapter lists them.</details>
# <details><summary>Hint 2</summary>Before the clock is read: was everything done that had been ordered?</details>
# <details><summary>Hint 3</summary>Warm up both, a prefill and a decode step, and wait. Then start the request that
# counts.</details>


# %% nbgrader={"grade": false, "grade_id": "profiler", "locked": false, "schema_version": 3, "solution": true, "task": false}
def profile(engine, prompt, max_new_tokens):
    """A dict with `ttft` and `tpot` in seconds, and the list `tokens` of all new tokens.

    Times come from the engine's clocks. `tpot` is the mean over the tokens after the first, 0.0
    when there is only one.
    """
    ### BEGIN SOLUTION
    engine.next(engine.start(prompt))
    engine.wait()
    begin = engine.clock()
    tokens = [engine.start(prompt)]
    engine.wait()
    first = engine.clock()
    for _ in range(max_new_tokens - 1):
        tokens.append(engine.next(tokens[-1]))
        engine.wait()
    steps = max(1, max_new_tokens - 1)
    tpot = (engine.clock() - first) / steps
    return {"ttft": first - begin, "tpot": tpot, "tokens": tokens}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-profiler", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab02.check_profiler(profile)
### BEGIN HIDDEN TESTS
assert abs(profile(PretendEngine(decode=0.07), [1] * 30, 9)["tpot"] - 0.07) < 0.001
### END HIDDEN TESTS

# %% [markdown]
# ## 2.3 MFU and MBU ●○○ 10 minutes
#
# A decode step of `batch_size` requests, each with `context` cached tokens, took `seconds`. Weights, cache and all else are
# in 16 bits. Write both utilisations as shares between 0 and 1. Count two operations for each weight and request, and as
# bytes the weights and the caches; leave attention's own operations, the activations, and the new tokens' own entries in the
# caches out.
#
# <details><summary>Hint 1</summary>What is done once for each request, and what once for all of them?</details>
# <details><summary>Hint 2</summary>Lab 1 has the bytes of the cache: layers, KV heads, <code>head_dim</code>, keys and
# values.</details>


# %% nbgrader={"grade": false, "grade_id": "utilisation", "locked": false, "schema_version": 3, "solution": true, "task": false}
def utilisation(shape, batch_size, context, seconds, peak, bandwidth):
    """`(MFU, MBU)` of a decode step.

    `shape` is a `ModelShape`, `peak` is in operations per second, `bandwidth` in bytes per second.
    """
    ### BEGIN SOLUTION
    flops = 2 * shape.num_params * batch_size
    per_token = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim
    nbytes = 2 * shape.num_params + 2 * batch_size * context * per_token
    return flops / seconds / peak, nbytes / seconds / bandwidth
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-utilisation", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab02.check_utilisation(utilisation)

# %% [markdown]
# ## 2.4 A device that is not here ●●○ 10 minutes
#
# Predict the time of a decode step on any accelerator of the course's table, in fp16, with the counts of 2.3. A figure of
# the table has a `value` and a `status`; the value of an *unknown* one is `None`. No row of the table has an unknown bandwidth today;
# the check brings one.

# %%
device = ACCELERATORS["Ascend 910C (one die)"]
print(device.bandwidth)
print(device.peak("fp16"))
print(ACCELERATORS["Ascend 910B3"].bandwidth)

# %% [markdown]
# <details><summary>Hint 1</summary>The device reads and computes at the same time. When is it done?</details>
# <details><summary>Hint 2</summary>Two times; the longer one decides.</details>


# %% nbgrader={"grade": false, "grade_id": "other-device", "locked": false, "schema_version": 3, "solution": true, "task": false}
def best_step_seconds(shape, batch_size, context, device):
    """Seconds that a decode step takes at best, or None where the device's bandwidth is unknown.

    `shape` is a `ModelShape`, `device` an `Accelerator`; 16-bit numbers everywhere.
    """
    ### BEGIN SOLUTION
    if device.bandwidth.value is None:
        return None
    per_token = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim
    nbytes = 2 * shape.num_params + 2 * batch_size * context * per_token
    flops = 2 * shape.num_params * batch_size
    return max(nbytes / device.bandwidth.value, flops / device.peak("fp16").value)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-other-device", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab02.check_other_device(best_step_seconds)

# %%
for name, item in ACCELERATORS.items():
    seconds = best_step_seconds(PUBLISHED["Llama-3-8B"], 16, 1024, item)
    print(f"{name}: {'unknown' if seconds is None else f'{1000 * seconds:.1f} ms'}")

# %% [markdown]
# ## 2.5 Read an operator table ●●○ 10 minutes
#
# A profiler lists operators with two times: *total*, with everything that the operator called, and *self*, without. You get
# faster versions of some operators. How many times as fast does the **whole pass** become? `wall` is the pass by the
# clock; what no operator accounts for is Python, and stays.

# %%
from helpers.display import Table

wall = 25.0
rows = [
    ("linear", 121, 14.0, 0.8),
    ("addmm", 121, 13.2, 13.2),
    ("silu", 30, 0.5, 0.5),
]
Table(
    ("operator", "calls", "total, ms", "self, ms"),
    rows,
    caption=f"a pass of {wall:.0f} ms; addmm is what linear calls",
)

# %% [markdown]
# <details><summary>Hint 1</summary>How many milliseconds are saved?</details>
# <details><summary>Hint 2</summary>Which of the two times may be added up? <code>addmm</code> is inside
# <code>linear</code>.</details>
# <details><summary>Hint 3</summary>This is Amdahl's law: old time over new time.</details>


# %% nbgrader={"grade": false, "grade_id": "speedup", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pass_speedup(rows, wall, names, factor):
    """How many times as fast the pass becomes when the operators in `names` are sped up.

    Their own time (self) shrinks by `factor`, what they call keeps its time. `rows` holds
    `(name, calls, total, self)`, times for all calls together, in milliseconds like `wall`.
    """
    ### BEGIN SOLUTION
    own = sum(self_time for name, _, _, self_time in rows if name in names)
    return wall / (wall - own + own / factor)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-speedup", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab02.check_speedup(pass_speedup)

# %% [markdown]
# ## How far you are
#
# Next: [3 KV cache](../notebooks/03_kv_cache.ipynb).
# Back: [2 Prefill/decode profiling](../notebooks/02_prefill_decode_profiling.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab02.LAB)
