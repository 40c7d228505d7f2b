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
# # Lab 10: Quantisation and pruning
#
# Six exercises, about 90 minutes. You need [chapter 10](../notebooks/10_quantisation.ipynb). Write your code where the
# cells say so, run the cell below each: it checks the answer at once and names what may be wrong. Hints are folded away under
# each exercise, from vague to concrete. No model is needed here.

# %%
import torch

from helpers.checks import lab10, progress

# %% [markdown]
# ## 10.1 Quantise by groups ●●○ 15 minutes
#
# Store weights in 4 bits, in the form that Ascend's `npu_weight_quant_batchmatmul` reads. Each group of neighbours in a row has a
# grid of its own:
#
# $$w \approx (\mathrm{code} + \mathrm{offset}) \cdot \mathrm{scale}$$
#
# Codes are whole numbers from -8 to 7. The smallest weight of a group gets the code -8, the largest gets 7, and the others get
# the nearest code. Offset and scale are not rounded.
#
# <details><summary>Hint 1</summary>16 codes have 15 steps between them. How large is a step, if the grid reaches from the
# smallest weight to the largest?</details>
# <details><summary>Hint 2</summary>Solve the formula for the offset, with the smallest weight and the code -8. Then solve it for
# the code.</details>
# <details><summary>Hint 3</summary><code>weight.reshape(rows, -1, group)</code>, then <code>amin(-1, keepdim=True)</code>,
# <code>scale = (high - low) / 15</code>, <code>offset = low / scale + 8</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "groups", "locked": false, "schema_version": 3, "solution": true, "task": false}
def quantise_groups(weight, group):
    """`(codes, scale, offset)`: codes int8 like weight, the others fp32 `[rows, columns / group]`.

    `weight` is fp32 `[rows, columns]`, and `group` divides `columns`. A group of equal weights has
    the scale 1 and the codes -8.
    """
    ### BEGIN SOLUTION
    groups = weight.reshape(len(weight), -1, group)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    scale = torch.where(high > low, (high - low) / 15, 1.0)
    offset = low / scale + 8
    codes = (groups / scale - offset).round()
    return codes.to(torch.int8).reshape(weight.shape), scale.squeeze(-1), offset.squeeze(-1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-groups", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab10.check_groups(quantise_groups)

# %% [markdown]
# In AWQ's and GPTQ's files there is a zero point, which is *subtracted*. What happens when such a file's zero points are given to
# Ascend's operator as they are?

# %%
generator = torch.Generator().manual_seed(0)
weight = torch.randn(64, 256, generator=generator) + 0.5
codes, scale, offset = quantise_groups(weight, 32)


def farthest(offset):
    """The largest error of a weight, in steps of its group."""
    numbers = (codes.reshape(64, -1, 32) + offset[..., None]) * scale[..., None]
    return ((numbers - weight.reshape(64, -1, 32)).abs() / scale[..., None]).max()


print(f"farthest weight: {farthest(offset):.1f} steps; with the other sign {farthest(-offset):.0f}")

# %% [markdown]
# ## 10.2 Pack two codes in a byte ●○○ 10 minutes
#
# No processor has numbers of 4 bits in memory, so two codes share a byte. The first code of each pair lies in the lower half. The
# halves are two's complement, as in Ascend's int4: -1 is `0xF`, -8 is `0x8`. Some methods (GPTQ) make codes outside -8 to 7.
# Such a code becomes the nearest end of the range.
#
# <details><summary>Hint 1</summary>What does Python give for <code>-1 & 15</code>? And what becomes of 9 if only its lowest 4
# bits are kept?</details>
# <details><summary>Hint 2</summary>First the range, then the bits, then <code>first | second &lt;&lt; 4</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "pack", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pack(codes):
    """A list of bytes, whole numbers without a sign, with two codes each.

    `codes` is a list of whole numbers that fit into 64 bits, and their number is even.
    """
    ### BEGIN SOLUTION
    nibbles = [min(max(code, -8), 7) & 15 for code in codes]
    return [first | second << 4 for first, second in zip(nibbles[::2], nibbles[1::2])]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-pack", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
lab10.check_pack(pack)
### BEGIN HIDDEN TESTS
assert pack([5, -3, 20, -20]) == [0xD5, 0x87]
### END HIDDEN TESTS

# %% [markdown]
# What if the reader takes the upper half first? Each pair of neighbours changes places:

# %%
row = [1, -2, 3, -4, 7, -8]
packed = pack(row)
nibbles = [(byte >> shift) & 15 for byte in packed for shift in (4, 0)]
print("bytes:", " ".join(f"{byte:02X}" for byte in packed))
print("read upper half first:", [code - 16 if code > 7 else code for code in nibbles])

# %% [markdown]
# Nothing fails, and all codes are in range: such an error is only seen in the outputs.
#
# ## 10.3 Find the outliers and smooth them ●●○ 15 minutes
#
# The columns of the activations `x` are **channels**. A channel's size is its largest absolute value. A channel is an outlier
# when its size is more than `ratio` times that of the median channel.
#
# Smoothing gives each channel a factor, the root of its size over the largest absolute weight that reads it:
#
# $$s_j = \sqrt{\max_t |x_{tj}| \;/\; \max_i |w_{ij}|}$$
#
# The activations of a channel are divided by its factor, and its weights are multiplied by it, so that the product
# `x @ weight.T` stays the same.
#
# <details><summary>Hint 1</summary>Which axis of <code>x</code> has the channels? And which one of <code>weight</code>?</details>
# <details><summary>Hint 2</summary>Both have them in their columns: <code>abs().amax(0)</code>.</details>
# <details><summary>Hint 3</summary><code>(sizes > ratio * sizes.median()).nonzero().flatten().tolist()</code> are the
# outliers.</details>


# %% nbgrader={"grade": false, "grade_id": "smooth", "locked": false, "schema_version": 3, "solution": true, "task": false}
def smooth(x, weight, ratio):
    """`(outliers, x, weight)`: a list of channels' numbers, and both factors of an equal product.

    `x` is fp32 `[tokens, channels]`, `weight` fp32 `[outputs, channels]`. The number of channels is
    odd, and no channel is all zeros, neither in `x` nor in `weight`.
    """
    ### BEGIN SOLUTION
    sizes, weights = x.abs().amax(0), weight.abs().amax(0)
    outliers = (sizes > ratio * sizes.median()).nonzero().flatten().tolist()
    factor = (sizes / weights).sqrt()
    return outliers, x / factor, weight * factor
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-smooth", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab10.check_smooth(smooth)

# %% [markdown]
# How much does it help? The cell multiplies in int8, with one scale a token and one an output, before and after smoothing. And it
# shows what the usual mistake costs: weights that are smoothed, and activations that are not.

# %%
from helpers.compression import dynamic_int8

x = torch.randn(32, 127, generator=generator)
x[:, 5] *= 300
weight = torch.randn(64, 127, generator=generator)


# %%
def int8_error(left, right):
    """Relative error of an int8 product, against the exact product of x and weight."""
    a, b = ((codes.double() * scale) for codes, scale in map(dynamic_int8, (left, right)))
    exact = x.double() @ weight.double().T
    return float((a @ b.T - exact).norm() / exact.norm())


outliers, smooth_x, smooth_weight = smooth(x, weight, 10.0)
print("outliers:", outliers)

# %%
for name, left, right in (
    ("as it is", x, weight),
    ("smoothed", smooth_x, smooth_weight),
    ("weights alone", x, smooth_weight),
):
    print(f"{name:14} error {int8_error(left, right):.2g}")

# %% [markdown]
# ## 10.4 Mend the int8 MLP ●●● 20 minutes
#
# `helpers.compression.ascend` has three operators of torch_npu in plain torch, with their defaults and their refusals. Look at
# their docstrings. With them one writes an MLP in W8A8. Here is a plausible one. It has three mistakes, and no operator refuses
# them.

# %%
import inspect

from helpers.compression import ascend

for operator in (
    ascend.npu_dynamic_quant,
    ascend.npu_quant_matmul,
    ascend.npu_dequant_swiglu_quant,
):
    print(operator.__name__, inspect.signature(operator), sep="")
    print(inspect.getdoc(operator), end="\n\n")


# %%
def plausible_mlp(x, gate_up, gate_up_scale, down, down_scale):
    token_scale = x.float().abs().max() / 127
    codes = (x.float() / token_scale).round().to(torch.int8)
    sums = ascend.npu_quant_matmul(codes, gate_up.t(), gate_up_scale, output_dtype=torch.int32)
    hidden, hidden_scale = ascend.npu_dequant_swiglu_quant(
        sums,
        weight_scale=gate_up_scale[None],
        activation_scale=token_scale.repeat(len(x), 1),
        quant_mode=1,
    )
    out = ascend.npu_quant_matmul(hidden, down.t(), down_scale)
    return (out * hidden_scale[:, None]).to(x.dtype)


# %% [markdown]
# <details><summary>Hint 1</summary>What happens to a small token beside a token with numbers a hundred times as
# large?</details>
# <details><summary>Hint 2</summary>Which half of <code>gate_up</code> is the gate? Which half does the operator put through
# SiLU?</details>
# <details><summary>Hint 3</summary>Which type has the last product, and what is the largest number of this type?
# <code>pertoken_scale</code> needs an <code>output_dtype</code>.</details>


# %% nbgrader={"grade": false, "grade_id": "block", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mlp(x, gate_up, gate_up_scale, down, down_scale):
    """The output of an MLP in int8, `[tokens, hidden]` in bf16: `down(silu(gate(x)) * up(x))`.

    `x` is bf16 `[tokens, hidden]`; a token may be all zeros. `gate_up` is int8 `[2 * inner,
    hidden]`, the rows of the gate first, then those of up; `down` is int8 `[hidden, inner]`. Their
    scales are fp32, one for each row.
    """
    ### BEGIN SOLUTION
    codes, token_scale = ascend.npu_dynamic_quant(x)
    sums = ascend.npu_quant_matmul(codes, gate_up.t(), gate_up_scale, output_dtype=torch.int32)
    given = {"weight_scale": gate_up_scale[None], "activation_scale": token_scale[:, None]}
    hidden, hidden_scale = ascend.npu_dequant_swiglu_quant(
        sums, **given, activate_left=True, quant_mode=1
    )
    return ascend.npu_quant_matmul(
        hidden, down.t(), down_scale, pertoken_scale=hidden_scale, output_dtype=x.dtype
    )
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-block", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab10.check_block(mlp)

# %% [markdown]
# Both beside the same MLP in fp32. The second of two tokens is a hundred times as large as the first:

# %%
x = (torch.randn(2, 64, generator=generator) * torch.tensor([[1.0], [100.0]])).to(torch.bfloat16)
gate_up = torch.randint(-127, 128, (256, 64), generator=generator, dtype=torch.int8)
down = torch.randint(-127, 128, (64, 128), generator=generator, dtype=torch.int8)
scales = torch.full((256,), 1e-3), torch.full((64,), 1e-3)
gate, up = ((gate_up.float() * 1e-3) @ x.float().T).chunk(2)
exact = ((down.float() * 1e-3) @ (torch.nn.functional.silu(gate) * up)).T
for name, one in (("plausible", plausible_mlp), ("yours", mlp)):
    error = (one(x, gate_up, scales[0], down, scales[1]).float() - exact).norm(dim=1)
    print(name.ljust(10), ", ".join(f"{share:4.0%}" for share in error / exact.norm(dim=1)))

# %% [markdown]
# ## 10.5 Spend a budget ●●● 15 minutes
#
# A model has some parts, and each part gets one of the formats. `cost` says what a format costs in quality, for the *whole*
# part, in thousandths of a nat. We take it that costs add up; for small ones this is nearly so. Choose a format for each part, so
# that all parts together fit into `budget` bytes and cost as little as possible. Of several best choices any will do.
#
# A format has `bits` a weight. Where its `group` is not 0, each group of so many weights has a scale of 16 bits besides. `group`
# always divides the number of weights.
#
# <details><summary>Hint 1</summary>How many choices are there for 4 parts and 4 formats?</details>
# <details><summary>Hint 2</summary>256: one may try all of them, <code>itertools.product(formats, repeat=len(parts))</code>.</details>
# <details><summary>Hint 3</summary>Bytes: <code>weights * bits / 8</code>, and <code>2 * weights / group</code> for the
# scales. A choice may take exactly the budget. <code>min(..., default=None)</code> gives None for no choice at all.</details>

# %%
import itertools


# %% nbgrader={"grade": false, "grade_id": "budget", "locked": false, "schema_version": 3, "solution": true, "task": false}
def choose(parts, formats, budget):
    """The choice that costs least: a dictionary, part -> format; None when no choice fits.

    `parts`: name -> `{"weights": number, "cost": {format: 0 or more}}`, `formats`: name ->
    `{"bits": bits, "group": weights of a group, or 0}`, up to four of each. `budget` is in bytes.
    """

    ### BEGIN SOLUTION
    def nbytes(weights, bits, group):
        return weights * bits / 8 + (2 * weights / group if group else 0)

    def taken(choice):
        return sum(nbytes(parts[name]["weights"], **formats[fmt]) for name, fmt in choice.items())

    def cost(choice):
        return sum(parts[name]["cost"][fmt] for name, fmt in choice.items())

    found = (dict(zip(parts, many)) for many in itertools.product(formats, repeat=len(parts)))
    return min((one for one in found if taken(one) <= budget), key=cost, default=None)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-budget", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
lab10.check_budget(choose)

# %% [markdown]
# An invented model of three parts. The output matrix (`head`) is small, but it does not like few bits:

# %%
formats = {"bf16": {"bits": 16, "group": 0}, "int8": {"bits": 8, "group": 64}}
formats |= {"int4": {"bits": 4, "group": 32}}
parts = {
    "attention": {"weights": 4_000_000, "cost": {"bf16": 0, "int8": 2, "int4": 30}},
    "mlp": {"weights": 10_000_000, "cost": {"bf16": 0, "int8": 3, "int4": 60}},
    "head": {"weights": 2_000_000, "cost": {"bf16": 0, "int8": 1, "int4": 90}},
}
for megabytes in (8, 9, 10, 12, 16, 18, 24, 32):
    choice = choose(parts, formats, megabytes * 1e6)
    spent = sum(parts[name]["cost"][fmt] for name, fmt in (choice or {}).items())
    print(f"{megabytes:2} MB:", f"{spent:3} thousandths, {choice}" if choice else "nothing fits")

# %% [markdown]
# 16 million weights of 4 bits do not fit into 8 MB: with their scales they are 4.5 bits each. The first memory that is left over
# goes to the part that needs it most, not to the largest. And at 16 MB attention goes *back* to int4, so that the MLP can have
# int8: to add one step after the other does not find that.
#
# ## 10.6 When int8 keys and values help ●●○ 15 minutes
#
# A cache can hold keys and values in 8 bits, with a scale in bf16 for each token and head: one for the key, one for the value.
# `Int8PagedKVCache` is such a cache. It replaces a cache of 16 bits. A decode step then takes
#
# - the bytes of the weights and of the whole cache, over the `bandwidth`,
# - and with int8 besides: all numbers of keys and values, over `unpack`, the numbers that are unpacked in a second.
#
# How many times as many tokens fit into the same memory? And from how many tokens in the cache on (those of all requests
# together) is a step at least `speedup` times as fast as with 16 bits?
#
# <details><summary>Hint 1</summary>Count the bytes of one token first, for both caches. Keys and values: the factor
# 2.</details>
# <details><summary>Hint 2</summary>Write both times for <code>n</code> tokens. The step with 16 bits must take at least
# <code>speedup</code> times as long as the other one: solve this for <code>n</code>.</details>
# <details><summary>Hint 3</summary><code>weights * (speedup - 1) / (wide - speedup * (narrow + numbers * bandwidth /
# unpack))</code>, rounded up. What if the divisor is not above 0?</details>

# %%
import math


# %% nbgrader={"grade": false, "grade_id": "cache", "locked": false, "schema_version": 3, "solution": true, "task": false}
def int8_cache(heads, head_dim, layers, weight_bytes, bandwidth, unpack, speedup):
    """`(more, tokens)`: how many times as many tokens fit, and from which number on int8 pays.

    `heads` are the heads of keys and values of a layer, `bandwidth` is in bytes a second, `unpack`
    in numbers a second, `speedup` is above 1. `tokens` is a whole number of 1 or more; None when no
    number of tokens suffices.
    """
    ### BEGIN SOLUTION
    numbers = 2 * heads * head_dim * layers
    wide, narrow = 2 * numbers, numbers + 4 * heads * layers
    gain = wide - speedup * (narrow + numbers * bandwidth / unpack)
    tokens = math.ceil(weight_bytes * (speedup - 1) / gain) if gain > 0 else None
    return wide / narrow, tokens
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-cache", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
lab10.check_cache(int8_cache)

# %% [markdown]
# A published model on an accelerator. How fast it unpacks is invented, from as fast as numbers of 16 bits come from memory to ten
# times that:

# %%
from helpers.estimates import accelerator_ceilings
from helpers.model import PUBLISHED

shape = PUBLISHED["Llama-3-8B"]
bandwidth = accelerator_ceilings("Ascend 910B4").bandwidth
for times in (0.5, 1, 2, 5):
    found = [
        int8_cache(8, 128, 32, 2 * shape.num_params, bandwidth, times * bandwidth, speedup)
        for speedup in (1.05, 1.25, 1.5)
    ]
    told = ["never" if tokens is None else f"{tokens:,}" for _, tokens in found]
    print(f"unpacks {times:3} x bandwidth: {found[0][0]:.2f} x the tokens; from {told}")

# %% [markdown]
# More tokens fit in any case. A step gets faster only where unpacking is quick *and* the cache is large beside the weights: one
# request with a short context gains nothing.

# %% [markdown]
# ## How far you are
#
# Next: [11 Tensor and pipeline parallelism](../notebooks/11_parallelism.ipynb).
# Back: [10 Quantisation and pruning](../notebooks/10_quantisation.ipynb).
# Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md). All chapters: [contents](../README.md#chapters).

# %%
progress(lab10.LAB)
