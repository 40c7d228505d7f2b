"""Lab 2: every wrong answer is refused with the message meant for it, every right one is accepted."""

import statistics
import time
from itertools import pairwise

import pytest
import torch

from helpers.checks import PretendEngine, lab02
from helpers.checks.machinery import limit
from helpers.estimates import decode_cost
from helpers.model import PUBLISHED
from tests.labs.answers import NO_NUMBER, accepts, refuses, unwritten


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 1.0)


@pytest.mark.parametrize("check", [lab02.check_other_device, lab02.check_speedup])
@pytest.mark.parametrize("what", NO_NUMBER)
def test_what_gives_no_number_is_refused(check, what):
    refuses(check, *NO_NUMBER[what])


def test_1_right(capsys):
    accepts(lab02.check_step_time, 4.76, capsys)
    accepts(lab02.check_step_time, 7_615_616_512 / 1.6e9, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (..., "there is no value yet"),
        (9.52, "How many bytes has an int8 weight?"),
        (0.00476, "Is that seconds?"),
        (7_615_616_512 / 1.6e12, "Is that seconds?"),
        (1.6e12 / 7_615_616_512, "Are those tokens per second?"),
        (4_759.76, "Is that microseconds?"),
        ("4.76", "expected a number"),
        (5.5, "the value is wrong"),
    ],
)
def test_1_wrong(answer, words):
    if words.startswith(("How", "Are", "Is")):  # these want the exact slip
        answer = {9.52: 2, 0.00476: 1e-3, 4_759.76: 1e3}.get(answer, 0) * 7_615_616_512 / 1.6e9 or answer
    refuses(lab02.check_step_time, answer, words)


def profile(engine, prompt, max_new_tokens, *, warm=True, warm_decode=True, waits=True, clock="clock", forget=False,
            drop_first=False, one_less=False, one_more=False, mean_with_prefill=False, over_all=False, total=False,
            restart=True, stop_late=False, impatient=False, other_clock=False):  # fmt: skip
    """The right answer, and with one of the options changed a wrong one."""
    read = time.perf_counter if other_clock else getattr(engine, clock)
    wait = engine.wait if waits else lambda: None
    if warm:
        token = engine.start(prompt)
        if warm_decode:
            engine.next(token)
        if not impatient:
            engine.wait()
    times = [read()]
    tokens = [engine.start(prompt) if restart else engine.next(token)]
    if not stop_late:
        wait()
        times.append(read())
    while len(tokens) < max_new_tokens + one_more - one_less:
        tokens.append(engine.start(tokens[-1:]) if forget else engine.next(tokens[-1]))
        if stop_late and len(tokens) == 2:
            wait()
            times.append(read())
            continue
        wait()
        times.append(read())
    if len(times) == 1:
        wait()
        times.append(read())
    first, *steps = (b - a for a, b in pairwise(times))
    tpot = statistics.fmean(steps) if steps else 0.0
    if mean_with_prefill and steps:
        tpot = (first + sum(steps)) / max_new_tokens
    if over_all and steps:
        tpot = sum(steps) / max_new_tokens
    if total:
        tpot = sum(steps)
    return {"ttft": first, "tpot": tpot, "tokens": tokens[1:] if drop_first else tokens}


def test_2_right(capsys):
    accepts(lab02.check_profiler, profile, capsys)

    def waits_once(engine, prompt, max_new_tokens):
        """Warms up with another prompt, and waits for the decode steps together."""
        engine.next(engine.next(engine.start([1, 2, 3])))
        engine.wait()
        start = engine.clock()
        tokens = (engine.start(prompt),)
        engine.wait()
        middle = engine.clock()
        for _ in range(max_new_tokens - 1):
            tokens += (engine.next(tokens[-1]),)
        engine.wait()
        steps = max(1, max_new_tokens - 1)
        return {"tokens": tokens, "ttft": middle - start, "tpot": (engine.clock() - middle) / steps, "n": 1}

    accepts(lab02.check_profiler, waits_once, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"forget": True}, "the answer ignores the prompt"),  # the article's
        ({"drop_first": True}, "The first token is missing"),  # the article's
        ({"forget": True, "drop_first": True}, "the answer ignores the prompt"),
        ({"warm": False}, "Was there one before that did not count?"),
        ({"warm_decode": False}, "Does the warm-up have one?"),
        ({"waits": False}, "Does the code wait for the device?"),
        ({"clock": "calendar"}, "Which one cannot?"),
        ({"one_less": True}, "Does the loop end too early?"),
        ({"one_more": True}, "How many does the prefill give"),
        ({"mean_with_prefill": True}, "Is the prefill in it?"),
        ({"over_all": True}, "The first token is not theirs."),
        ({"total": True}, "TPOT is the mean."),
        ({"restart": False}, "Does the request begin with start, after the warm-up?"),
        ({"stop_late": True}, "Is a decode step in it?"),
        ({"impatient": True}, "Was the warm-up done when the clock was first read?"),
        ({"other_clock": True}, "The engine has clocks of its own."),
    ],
)
def test_2_wrong(options, words):
    def named(engine, prompt, max_new_tokens):
        return profile(engine, prompt, max_new_tokens, **options)

    refuses(lab02.check_profiler, named, words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing?"),
        (lambda **_: (1, 2, 3), "expected a dict with ttft, tpot and tokens"),
        (lambda **_: {"ttft": 1.0, "tpot": 1.0}, "expected a dict"),
        (lambda **_: {"ttft": 1.0, "tpot": 1.0, "tokens": 3}, "tokens is not a list"),
        (lambda **_: {"ttft": 1.0, "tpot": 1.0, "tokens": [1, 2]}, "the token that came last?"),
        (lambda **_: {"ttft": 1.0, "tpot": 1.0, "tokens": torch.zeros(3)}, "tokens is not a list"),
        (
            lambda engine, prompt, max_new_tokens: (profile(engine, prompt, max_new_tokens), prompt.clear())[
                0
            ],
            "it changed its input",
        ),
        (lambda **_: [][0], "it raised IndexError"),
        (3, "expected a function"),
    ],
)
def test_2_wrong_in_kind(answer, words):
    refuses(lab02.check_profiler, answer, words)


def test_2_missing_numbers_are_named():
    def timeless(engine, prompt, max_new_tokens):
        return {**profile(engine, prompt, max_new_tokens), "ttft": None}

    refuses(lab02.check_profiler, timeless, "there is no value yet")


def test_the_pretended_engine_takes_the_time_it_says():
    engine = PretendEngine(prefill=0.4, decode=0.02)
    engine.next(engine.start([1] * 100))
    engine.wait()
    before = engine.clock()
    engine.start([1] * 50)
    assert engine.clock() - before < 1e-3, "an order takes no time"
    engine.wait()
    assert engine.clock() - before == pytest.approx(0.2, rel=1e-3)


def utilisation(shape, batch_size, context, seconds, peak, bandwidth, *, weights=1, caches=None, ops=2, swap=False,
                percent=1, size=2, pairs=2, requests=None):  # fmt: skip
    """The right answer, and with one of the options changed a wrong one."""
    one = pairs * shape.num_layers * shape.num_kv_heads * shape.head_dim * context
    nbytes = size * (weights * shape.num_params + (batch_size if caches is None else caches) * one)
    mfu = percent * ops * shape.num_params * (requests or batch_size) / (seconds * peak)
    mbu = percent * nbytes / (seconds * bandwidth)
    return [mbu, mfu] if swap else [mfu, mbu]


def test_3_right(capsys):
    accepts(lab02.check_utilisation, utilisation, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"swap": True}, "MFU comes first"),
        ({"percent": 100}, "Is that percent?"),
        ({"ops": 1}, "A multiply-add is two operations"),
        ({"requests": 1}, "Does each request of the batch have its own operations?"),
        ({"caches": 0}, "Decode reads the cache, too"),
        ({"caches": 1}, "Does each request of the batch have a cache of its own"),
        ({"size": 1}, "How many bytes has a 16-bit number?"),
        ({"pairs": 1}, "Are keys and values both read?"),
    ],
)
def test_3_wrong(options, words):
    def named(shape, batch_size, context, seconds, peak, bandwidth):
        return utilisation(shape, batch_size, context, seconds, peak, bandwidth, **options)

    refuses(lab02.check_utilisation, named, words)


def test_3_weights_read_for_each_request():
    def named(shape, batch_size, context, seconds, peak, bandwidth):
        return utilisation(shape, batch_size, context, seconds, peak, bandwidth, weights=batch_size)

    refuses(lab02.check_utilisation, named, "How often are the weights read in one pass")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (unwritten, "not done yet"),
        (lambda **_: None, "Is a return missing?"),
        (lambda **_: 0.5, "expected two numbers"),
        (lambda **given: (utilisation(**given)[0], "x"), "MBU: the value is wrong"),
        (lambda **_: torch.zeros(2, 2), "expected two numbers"),
    ],
)
def test_3_wrong_in_kind(answer, words):
    refuses(lab02.check_utilisation, answer, words)


def other_device(shape, batch_size, context, device, *, combine=max, cache=1, ops=2, requests=None, weights=1,
                 peak="fp16", unknown=None, one_cache=False):  # fmt: skip
    """The right answer, and with one of the options changed a wrong one."""
    if device.bandwidth.value is None:
        return unknown
    caches = 1 if one_cache else batch_size
    kv = cache * caches * context * 4 * shape.num_layers * shape.num_kv_heads * shape.head_dim
    read = (2 * shape.num_params * weights + kv) / device.bandwidth.value
    compute = ops * shape.num_params * (requests or batch_size) / device.peak(peak).value
    return combine(read, compute)


def test_4_right(capsys):
    accepts(lab02.check_other_device, other_device, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"combine": lambda a, b: a + b}, "Do their times add up?"),
        ({"combine": min}, "Which of the two decides?"),
        ({"combine": lambda a, b: a}, "Which of the two decides?"),
        ({"cache": 0}, "Is the KV cache read, too?"),
        ({"one_cache": True}, "Are the caches of all requests read?"),
        ({"ops": 1}, "A multiply-add is two operations"),
        ({"requests": 1}, "Which of the two decides?"),
        ({"unknown": 0.0}, "This device's bandwidth is not published"),
        ({"unknown": float("inf")}, "This device's bandwidth is not published"),
    ],
)
def test_4_wrong(options, words):
    def named(shape, batch_size, context, device):
        return other_device(shape, batch_size, context, device, **options)

    refuses(lab02.check_other_device, named, words)


def test_4_weights_read_for_each_request():
    def named(shape, batch_size, context, device):
        return other_device(shape, batch_size, context, device, weights=batch_size)

    refuses(lab02.check_other_device, named, "How often are the weights read in one pass?")


def test_4_no_bandwidth_is_no_error_of_the_learner():
    def named(shape, batch_size, context, device):
        return 2 * shape.num_params / device.bandwidth.value

    refuses(lab02.check_other_device, named, "Is the KV cache read, too?")


def speedup(
    rows,
    wall,
    names,
    factor,
    *,
    column=3,
    times_calls=False,
    listed=False,
    share=False,
    whole=False,
    gone=False,
    widest=False,
):
    """The right answer, and with one of the options changed a wrong one."""
    own = sum(row[column] * (row[1] if times_calls else 1) for row in rows if row[0] in names)
    if whole:
        return factor if names else 1.0
    if widest:
        own = max((row[2] for row in rows if row[0] in names), default=0.0)
    if listed:
        wall = sum(row[3] for row in rows)
    left = wall - own + (0 if gone else own / factor)
    return left / wall if share and names else wall / left if left > 0 else 0.0


def test_5_right(capsys):
    accepts(lab02.check_speedup, speedup, capsys)

    def amdahl(rows, wall, names, factor):
        part = sum(own for name, _, _, own in rows if name in set(names)) / wall
        return 1 / ((1 - part) + part / factor)

    accepts(lab02.check_speedup, amdahl, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column": 2}, "Is time counted twice?"),
        ({"widest": True}, "Is time counted twice?"),
        ({"times_calls": True}, "Is the time for all calls, or for one?"),
        ({"listed": True}, "Between operators there is Python"),
        ({"whole": True}, "Does the rest of the pass become faster, too?"),
        ({"share": True}, "the share of the time that is left"),
        ({"gone": True}, "What remains of the operators' time"),
    ],
)
def test_5_wrong(options, words):
    def named(rows, wall, names, factor):
        return speedup(rows, wall, names, factor, **options)

    refuses(lab02.check_speedup, named, words)


def test_5_nothing_chosen_is_no_speedup():
    def named(rows, wall, names, factor):
        return speedup(rows, wall, names, factor) if names else factor

    refuses(lab02.check_speedup, named, "Nothing became faster here")


def test_the_labs_simple_count_agrees_with_the_library():
    """The lab leaves activations, norms and attention's operations out; that must stay a small matter."""
    for shape in [PUBLISHED["Llama-3-8B"]]:
        full = decode_cost(shape, 1000, 8)
        simple = 2 * shape.num_params + 8 * 1000 * 2 * shape.kv_elements_per_token
        assert simple == pytest.approx(full.nbytes, rel=0.1)
