"""Lab 10: every wrong answer is refused with the message meant for it, every right one is accepted."""

import itertools
import math

import pytest
import torch

from helpers.checks import lab10
from helpers.checks.machinery import limit
from helpers.compression import ascend
from tests.labs.answers import accepts, endless, refuses, unwritten


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 2.0)


def groups(weight, group, *, ends=None, steps=15, round_=torch.round, lowest=-8, told=None, size=None):
    """The right answer, by chunks of a row; with one of the options changed, a wrong one."""
    parts = weight.unfold(1, group, group)
    low, high = (ends or (lambda p: (p.amin(-1, keepdim=True), p.amax(-1, keepdim=True))))(parts)
    scale = (size or (lambda low, high: torch.where(high == low, 1.0, (high - low) / steps)))(low, high)
    codes = (round_((parts - low) / scale) + lowest).clamp(lowest, lowest + 15)
    offset = (told or (lambda low, scale: low / scale - lowest))(low, scale)
    return (
        codes.flatten(1).to(torch.int8),
        *(t[..., 0].expand(parts.shape[:2]).contiguous() for t in (scale, offset)),
    )


def over(*dims):
    return lambda p: (p.amin(dims, keepdim=True), p.amax(dims, keepdim=True))


def symmetric(parts):
    most = parts.abs().amax(-1, keepdim=True)
    return -most, most


def by_columns(weight, group):
    codes = groups(weight, group)[0]
    return codes, *(torch.ones(len(weight) // group, weight.shape[1]) for _ in "so")


def test_1_right(capsys):
    accepts(lab10.check_groups, groups, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"told": lambda low, scale: -(low / scale + 8)}, "Has your offset the other sign?"),
        ({"ends": over(0, 1, 2)}, "Is that one scale for the whole matrix?"),
        ({"ends": over(1, 2)}, "Is that one scale for a whole row?"),
        ({"lowest": 0}, "or from 0 to 15?"),
        ({"steps": 16}, "Is the range divided by 16?"),
        ({"steps": 14}, "Is one of them left out?"),
        ({"ends": symmetric}, "Is it made symmetric around 0?"),
        (
            {
                "ends": lambda p: (
                    p.amin(-1, keepdim=True).clamp(max=0),
                    p.amax(-1, keepdim=True).clamp(min=0),
                )
            },
            "Is it stretched to it?",
        ),
        ({"round_": torch.floor}, "or is the rest cut off?"),
        ({"size": lambda low, high: (high - low) / 15}, "Is something divided by it?"),
        ({"told": lambda low, scale: torch.zeros_like(low)}, "Is the offset given back?"),
        ({"told": lambda low, scale: low}, "Is it the smallest weight itself?"),
    ],
)
def test_1_wrong(options, words):
    refuses(lab10.check_groups, lambda **case: groups(**case, **options), words)


def without_minimum(weight, group):
    _codes, scale, offset = groups(weight, group)
    parts = weight.unfold(1, group, group) / scale[..., None]
    return parts.round().clamp(-8, 7).flatten(1).to(torch.int8), scale, offset * 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (without_minimum, "Is the smallest weight used?"),
        (by_columns, "Are these groups of a column?"),
        (lambda weight, group: tuple(t.t() for t in groups(weight, group)), "wrong in shape"),
        (lambda weight, group: (groups(weight, group)[0].int(), *groups(weight, group)[1:]), "torch.int8"),
        (lambda **case: groups(**case)[:2], "expected three tensors: codes, scale, offset"),
        (lambda **case: None, "Is a return missing?"),
        (lambda weight, group: groups(weight.mul_(2), group), "it changed its input"),
        (unwritten, "not done yet"),
        (endless, "Is there a loop that never ends?"),
    ],
)
def test_1_wrong_in_kind(answer, words):
    refuses(lab10.check_groups, answer, words)


def pack(codes, *, low=-8, high=7, bits=lambda code: code & 15, join=lambda a, b: b * 16 + a, halves=False):
    """The right answer in another form; with one of the options changed, a wrong one."""
    kept = [bits(sorted((low, code, high))[1]) for code in codes]
    half = len(kept) // 2
    pairs = zip(kept[:half], kept[half:], strict=True) if halves else zip(kept[::2], kept[1::2], strict=True)
    return [join(a, b) for a, b in pairs]


def test_2_right(capsys):
    accepts(lab10.check_pack, pack, capsys)
    accepts(lab10.check_pack, lambda codes: bytes(pack(codes)), capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"join": lambda a, b: a * 16 + b}, "Is it in the upper one?"),
        ({"low": -(2**63), "high": 2**63}, "is it clamped before its 4 bits are taken?"),
        ({"bits": lambda code: code}, "Its higher bits are all 1."),
        ({"bits": lambda code: code, "join": lambda a, b: a | b << 4}, "Its higher bits are all 1."),
        ({"bits": lambda code: code + 8}, "Is 8 added, so that codes begin at 0?"),
        ({"low": 0}, "Is everything below 0 cut off?"),
        ({"low": -7}, "Is the range cut to -7?"),
        ({"high": 8}, "Is a larger code let through?"),
        ({"high": 15}, "Is a larger code let through?"),
        ({"halves": True}, "neighbours, or one of each half of the row?"),
        ({"join": lambda a, b: a | b}, "Is the second code shifted by 4 bits?"),
    ],
)
def test_2_wrong(options, words):
    refuses(lab10.check_pack, lambda codes: pack(codes, **options), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda codes: [min(max(code, -8), 7) & 15 for code in codes], "Has each its own here?"),
        (lambda codes: [*pack(codes), 0], "Is each pair packed once?"),
        (lambda codes: [-1 for _ in codes[::2]], "A byte is 0 to 255."),
        (lambda codes: None, "Is a return missing?"),
        (lambda codes: "1", "expected a list of whole numbers"),
        (lambda codes: [float(one) for one in pack(codes)], "expected a list of whole numbers"),
        (lambda codes: codes.clear() or [], "it changed its input"),
        (unwritten, "not done yet"),
    ],
)
def test_2_wrong_in_kind(answer, words):
    refuses(lab10.check_pack, answer, words)


def smooth(x, weight, ratio, *, size=None, usual=torch.median, factor=None, move=None, loud=None):
    """The right answer step by step; with a step replaced, a wrong one."""
    sizes = (size or (lambda x: x.abs().max(dim=0).values))(x)
    heard = sizes if loud is None else loud(x, weight)
    outliers = [j for j, one in enumerate(heard) if one > ratio * usual(heard)]
    scale = (factor or (lambda s, w: torch.sqrt(s / w.abs().amax(0))))(sizes, weight)
    return (outliers, *(move or (lambda x, w, s: (x / s, w * s)))(x, weight, scale))


def test_3_right(capsys):
    accepts(lab10.check_smooth, smooth, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"usual": torch.mean}, "Is it compared with the median?"),
        ({"usual": torch.min}, "or the quietest?"),
        ({"loud": lambda x, w: w.abs().amax(0)}, "the activations, or the weights?"),
        ({"size": lambda x: x.abs().mean(0)}, "A channel may be loud in a single token."),
        ({"size": lambda x: x.pow(2).mean(0).sqrt()}, "A channel may be loud in a single token."),
        ({"move": lambda x, w, s: (x.clone(), w * s)}, "The weights have taken the factor, and the activations are as before"),
        ({"move": lambda x, w, s: (x / s, w.clone())}, "Are the weights multiplied?"),
        ({"move": lambda x, w, s: (x * s, w / s)}, "Is it the other way round here?"),
        ({"move": lambda x, w, s: (x / s, w / s)}, "Are both divided?"),
        ({"move": lambda x, w, s: (x + 0, w + 0)}, "Nothing is moved."),
        ({"factor": lambda s, w: s / w.abs().amax(0)}, "Without the root"),
        ({"factor": lambda s, w: s.sqrt()}, "Is the weights' size in the factor?"),
        ({"factor": lambda s, w: (s / w.abs().max()).sqrt()}, "Is that of the whole matrix taken?"),
        ({"factor": lambda s, w: (s * w.abs().amax(0)).sqrt()}, "Is one multiplied where it should divide?"),
        ({"factor": lambda s, w: (s / w.abs().amax(1).max()).sqrt()}, "Is that of the whole matrix taken?"),
        ({"factor": lambda s, w: torch.tensor(2.0)}, "x: wrong values"),
    ],
)  # fmt: skip
def test_3_wrong(options, words):
    refuses(lab10.check_smooth, lambda **case: smooth(**case, **options), words)


def only_the_loud(x, weight, ratio):
    outliers, _, _ = smooth(x, weight, ratio)
    scale = torch.ones(x.shape[1])
    scale[outliers] = (x.abs().amax(0) / weight.abs().amax(0)).sqrt()[outliers]
    return outliers, x / scale, weight * scale


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (only_the_loud, "Is it only the loud ones here?"),
        (lambda **case: ([], *smooth(**case)[1:]), "outliers: not these channels"),
        (lambda **case: (torch.zeros(2, 2), *smooth(**case)[1:]), "expected a list of channels"),
        (lambda **case: smooth(**case)[1:], "expected three things: outliers, x, weight"),
        (lambda x, weight, ratio: (list(smooth(x, weight, ratio)[0]), x[:, :1] / 1, weight * 1), "wrong in shape"),
        (lambda **case: None, "Is a return missing?"),
        (lambda x, **case: smooth(x.mul_(2), **case), "it changed its input"),
        (unwritten, "not done yet"),
    ],
)  # fmt: skip
def test_3_wrong_in_kind(answer, words):
    refuses(lab10.check_smooth, answer, words)


def plausible(x, gate_up, gate_up_scale, down, down_scale, *, own=False, left=False, wide=False):
    """The MLP of the exercise's text; each option mends one of its mistakes."""
    scale = (x.float().abs().max() / 127).repeat(len(x))
    codes = (x.float() / scale[0]).round().to(torch.int8)
    if own:
        codes, scale = ascend.npu_dynamic_quant(x)
    sums = ascend.npu_quant_matmul(codes, gate_up.t(), gate_up_scale, output_dtype=torch.int32)
    hidden, tokens = ascend.npu_dequant_swiglu_quant(
        sums, weight_scale=gate_up_scale[None], activation_scale=scale[:, None], activate_left=left, quant_mode=1
    )  # fmt: skip
    if wide:
        return ascend.npu_quant_matmul(
            hidden, down.t(), down_scale, pertoken_scale=tokens, output_dtype=x.dtype
        )
    return (ascend.npu_quant_matmul(hidden, down.t(), down_scale) * tokens[:, None]).to(x.dtype)


def test_4_right(capsys):
    accepts(lab10.check_block, lambda **case: plausible(**case, own=True, left=True, wide=True), capsys)


@pytest.mark.parametrize(
    ("mended", "words"),
    [
        ((), "Nothing is mended yet."),
        (("left", "wide"), "One scale for all tokens: a large token makes the small ones 0."),
        (("own", "wide"), "Which half goes through SiLU when `activate_left` is not given?"),
        (("own", "left"), "its sums end at 127"),
        (("wide",), "one scale for all, and the halves are the wrong way round"),
        (("left",), "one scale for all, and the last product ends at 127"),
        (("own",), "The halves are the wrong way round, and the last product ends at 127"),
    ],
)
def test_4_wrong(mended, words):
    refuses(lab10.check_block, lambda **case: plausible(**case, **dict.fromkeys(mended, True)), words)


def by_hand(
    x,
    gate_up,
    gate_up_scale,
    down,
    down_scale,
    *,
    first=1.0,
    last=1.0,
    ups=1.0,
    downs=1.0,
    x_floats=0,
    hidden_floats=0,
):
    """The right answer without the operators; a scale of 0 leaves that one out, and floats stay what they are."""

    def times(numbers, scale, wanted):
        return numbers * scale if wanted else numbers

    codes, scale = ascend.npu_dynamic_quant(x)
    codes = x / scale[:, None] if x_floats else codes
    gate, up = times(
        times(codes.double() @ gate_up.double().t(), gate_up_scale, ups), scale[:, None], first
    ).chunk(2, -1)
    hidden = torch.nn.functional.silu(gate) * up
    size = (hidden.abs().amax(-1, keepdim=True) / 127).clamp(min=1e-30)
    out = times(
        times(
            (hidden / size if hidden_floats else (hidden / size).round()) @ down.double().t(),
            down_scale.double(),
            downs,
        ),
        size.double(),
        last,
    )
    return out.to(x.dtype)


@pytest.mark.parametrize(
    ("left_out", "words"),
    [("last", "`pertoken_scale`"), ("first", "`activation_scale`"), ("ups", "`weight_scale`"), ("downs", "Are the scales of `down` multiplied?")],
)  # fmt: skip
def test_4_a_scale_left_out(left_out, words):
    refuses(lab10.check_block, lambda **case: by_hand(**case, **{left_out: 0}), words)


@pytest.mark.parametrize(
    ("floats", "words"),
    [
        ({"hidden_floats": 1}, "Do the hidden tokens stay floats between the two products?"),
        ({"x_floats": 1}, "Does x stay as it is before the first product?"),
        ({"x_floats": 1, "hidden_floats": 1}, "Nothing is int8 but the weights."),
    ],
)
def test_4_activations_that_stay_floats(floats, words):
    refuses(lab10.check_block, lambda **case: by_hand(**case, **floats), words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, **case: torch.ones(x.shape, dtype=torch.int8), "gives int8 unless told otherwise"),
        (lambda **case: by_hand(**case).float(), "The result has the type of x."),
        (lambda **case: by_hand(**case).t(), "wrong in shape"),
        (lambda x, **case: ascend.npu_dynamic_quant(x), "The operators return pairs"),
        (lambda x, gate_up, **case: ascend.npu_quant_matmul(x, gate_up.t(), torch.ones(1)), "takes int8"),
        (lambda **case: None, "Is a return missing?"),
        (unwritten, "not done yet"),
    ],
)
def test_4_wrong_in_kind(answer, words):
    refuses(lab10.check_block, answer, words)


def size(weights, bits, group, scales=2.0):
    return weights * bits / 8 + (scales * weights / group if group else 0)


def choose(parts, formats, budget, *, key=None, scales=2.0, limit=None):
    """The right answer by a search in depth; with one of the options changed, a wrong one."""
    found = []

    def further(names, chosen, left):
        if left < 0:
            return
        if not names:
            found.append(chosen)
            return
        for fmt, one in formats.items():
            more = size(parts[names[0]]["weights"], **one, scales=scales)
            further(names[1:], {**chosen, names[0]: fmt}, left - more)

    further(list(parts), {}, budget)

    def cost(choice):
        return sum(parts[name]["cost"][fmt] for name, fmt in choice.items())

    return min(found, key=lambda choice: (key or (lambda c, cost: cost))(choice, cost(choice)), default=None)


def taken(parts, formats, choice):
    return sum(size(parts[name]["weights"], **formats[fmt]) for name, fmt in choice.items())


def test_5_right(capsys):
    accepts(lab10.check_budget, choose, capsys)


def one_for_all(parts, formats, budget):
    fitting = [dict.fromkeys(parts, fmt) for fmt in formats]
    fitting = [choice for choice in fitting if taken(parts, formats, choice) <= budget]
    return min(fitting, key=lambda choice: sum(parts[n]["cost"][f] for n, f in choice.items()), default=None)


def averaged(parts, formats, budget):
    def cost(choice, _):
        return sum(parts[n]["cost"][f] * parts[n]["weights"] for n, f in choice.items())

    return choose(parts, formats, budget, key=cost)


def one_after_the_other(parts, formats, budget):
    choice = choose(parts, formats, budget, key=lambda c, _: taken(parts, formats, c))
    for name in choice or ():
        options = [{**choice, name: fmt} for fmt in formats]
        fitting = [one for one in options if taken(parts, formats, one) <= budget]
        choice = min(fitting, key=lambda one: parts[name]["cost"][one[name]])
    return choice


def greedy(parts, formats, budget):
    choice = choose(parts, formats, budget, key=lambda c, _: taken(parts, formats, c))
    while choice:
        now, steps = taken(parts, formats, choice), []
        for name, fmt in itertools.product(parts, formats):
            other = {**choice, name: fmt}
            gain = parts[name]["cost"][choice[name]] - parts[name]["cost"][fmt]
            if gain > 0 and taken(parts, formats, other) <= budget:
                steps.append((gain / max(1e-9, taken(parts, formats, other) - now), name, fmt))
        if not steps:
            break
        choice = {**choice, max(steps)[1]: max(steps)[2]}
    return choice


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (one_for_all, "May each have its own?"),
        (
            lambda parts, formats, budget: choose(
                parts, formats, budget, key=lambda c, _: taken(parts, formats, c)
            ),
            "These are the smallest formats.",
        ),
        (
            lambda parts, formats, budget: choose(
                parts, formats, budget, key=lambda c, cost: (-taken(parts, formats, c), cost)
            ),
            "Does the choice that takes most cost least?",
        ),
        (averaged, "It is that of the whole part already."),
        (one_after_the_other, "Are the parts served in order?"),
        (greedy, "What was best alone may not be so in company."),
        (lambda **case: choose(**case, scales=0), "Are the scales counted? 4 bits with groups of 32 are 4.5."),
        (lambda parts, formats, budget: choose(parts, formats, budget - 1e-6), "May a choice take exactly the budget?"),
        (lambda parts, formats, budget: dict.fromkeys(parts, "int5"), "that is no format of this case"),
        (lambda parts, formats, budget: "int4", "expected a dictionary with a format for each part"),
        (lambda parts, formats, budget: {}, "expected a dictionary with a format for each part"),
        (lambda **case: None, "Is a return missing?"),
        (lambda parts, formats, budget: parts.popitem() and None, "it changed its input"),
        (unwritten, "not done yet"),
    ],
)  # fmt: skip
def test_5_wrong(answer, words):
    refuses(lab10.check_budget, answer, words)


def int8_cache(
    heads, head_dim, layers, weight_bytes, bandwidth, unpack, speedup, *, beside=2, kinds=2, weights=1.0, up=math.ceil,
    unpacked=lambda numbers, nbytes: numbers, wide=2, never=True, scaled=lambda heads, head_dim: heads,
):  # fmt: skip
    """The right answer with times in seconds; with one of the options changed, a wrong one."""
    numbers = kinds * heads * head_dim * layers
    narrow = numbers + beside * kinds * layers * scaled(heads, head_dim)
    slow, quick = wide * numbers / bandwidth, narrow / bandwidth + unpacked(numbers, narrow) / unpack
    more = wide * numbers / narrow
    if slow <= speedup * quick and never:
        return more, None
    read = weights * weight_bytes / bandwidth * (speedup - 1)
    return more, max(1, up(read / (slow - speedup * quick)))


def test_6_right(capsys):
    accepts(lab10.check_cache, int8_cache, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beside": 0}, "8 bits have scales beside them."),
        ({"scaled": lambda heads, dim: 1}, "Is it one for all heads?"),
        ({"scaled": lambda heads, dim: heads * dim}, "Has every number its own here?"),
        ({"beside": 1}, "How many bytes has it?"),
        ({"beside": 4}, "A scale is a bf16 number. How many bytes has it?"),
        ({"wide": 4}, "Is it compared with 32?"),
        ({"kinds": 1}, "Is one left out?"),
        ({"unpacked": lambda numbers, nbytes: 0}, "Is the time for that in it?"),
        ({"unpacked": lambda numbers, nbytes: nbytes}, "Are bytes divided?"),
        ({"weights": 0}, "Are they in it?"),
        ({"up": math.floor}, "Is it rounded up?"),
        ({"up": round}, "Is it rounded up?"),
        ({"never": False}, "Is a number below 1 let through?"),
    ],
)
def test_6_wrong(options, words):
    refuses(lab10.check_cache, lambda **case: int8_cache(**case, **options), words)


def saves_at_all(**case):
    more, _ = int8_cache(**case)
    bare = int8_cache(**{**case, "speedup": 1.0})
    if bare[1] is None:
        return more, None
    numbers = 2 * case["heads"] * case["head_dim"] * case["layers"]
    narrow = numbers + 4 * case["heads"] * case["layers"]
    gain = 2 * numbers - narrow - numbers * case["bandwidth"] / case["unpack"]
    return more, math.ceil(case["weight_bytes"] * (case["speedup"] - 1) / gain)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (saves_at_all, "or from which the step is `speedup` times as fast?"),
        (lambda **case: (int8_cache(**case)[0], None), "There is such a length."),
        (lambda **case: (int8_cache(**case)[0], int8_cache(**case)[1] or 10**9), "Does int8 ever reach this speed-up here"),
        (lambda **case: (int8_cache(**case)[0], (int8_cache(**case)[1] or 1) - 0.5), "A cache holds whole tokens."),
        (lambda **case: int8_cache(**case)[0], "expected two things: more, tokens"),
        (lambda **case: ("2", 3), "more: expected a number"),
        (lambda **case: None, "Is a return missing?"),
        (unwritten, "not done yet"),
    ],
)  # fmt: skip
def test_6_wrong_in_kind(answer, words):
    refuses(lab10.check_cache, answer, words)
