"""Lab 1: every wrong answer is refused with the message meant for it, every right one is accepted."""

import math
from itertools import product

import pytest
import torch

from helpers.checks import lab01
from helpers.checks.machinery import limit
from helpers.estimates import GiB, kv_cache_bytes
from helpers.model import LayerShape
from tests.labs.answers import NO_NUMBER, accepts, refuses, unwritten


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 1.0)


@pytest.mark.parametrize(
    "check", [lab01.check_kv_bytes, lab01.check_int4_bytes, lab01.check_crossover, lab01.check_hybrid_bytes]
)
@pytest.mark.parametrize("what", NO_NUMBER)
def test_what_gives_no_number_is_refused(check, what):
    refuses(check, *NO_NUMBER[what])


def test_1_right(capsys):
    accepts(lab01.check_token_bytes, 131072, capsys)
    accepts(lab01.check_token_bytes, 128 * 2**10 + 0.0, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (..., "there is no value yet"),
        (None, "there is no value yet"),
        (2 * 32 * 32 * 128 * 2, "Do all 32 query heads have keys and values of their own?"),
        (2 * 32 * 4096 * 2, "Do all 32 query heads have keys and values of their own?"),  # the article's
        (32 * 8 * 128 * 2, "Are both counted, keys and values"),
        (2 * 32 * 8 * 128, "with two bytes for each element?"),
        (2 * 8 * 128 * 2, "That is one layer."),
        (131.072, "Is that kB?"),
        (128, "Is that KiB?"),
        ("131072", "expected a number"),
    ],
)
def test_1_wrong(answer, words):
    refuses(lab01.check_token_bytes, answer, words)


def test_1_does_not_tell_the_answer():
    with pytest.raises(lab01.CheckFailed) as failure:
        lab01.check_token_bytes(1)
    assert "131" not in str(failure.value)


def test_2_right(capsys):
    names = {1: "int8", 2: "bf16", 4: "fp32"}
    accepts(lab01.check_kv_bytes, lambda shape, batch_size, seq_len, element_size: kv_cache_bytes(
        shape, batch_size, seq_len, names[element_size]), capsys)  # fmt: skip
    accepts(lab01.check_kv_bytes, lambda shape, batch_size, seq_len, element_size: math.prod(
        (shape.num_layers, shape.num_kv_heads, shape.head_dim, element_size, seq_len, batch_size, 2.0)), capsys)  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda s, b, n, e: 2 * b * n * s.hidden_size * s.num_layers * e, "Which width do keys have"),  # the article's
        (lambda s, b, n, e: 2 * b * n * s.num_heads * s.head_dim * s.num_layers * e, "Which heads have keys and values"),
        (lambda s, b, n, e: b * n * s.num_kv_heads * s.head_dim * s.num_layers * e, "are both counted?"),
        (lambda s, b, n, e: 2 * b * n * s.num_kv_heads * s.head_dim * e, "Is every layer counted?"),
        (lambda s, b, n, e: 2 * n * s.num_kv_heads * s.head_dim * s.num_layers * e, "every request of the batch"),
        (lambda s, b, n, e: 2 * b * n * s.num_kv_heads * s.head_dim * s.num_layers * (2 if e == 2 else 4), "Is element_size used?"),
        (lambda s, b, n, e: 2 * b * n * s.num_kv_heads * s.head_dim * s.num_layers * 2, "Is element_size used?"),
    ],
)  # fmt: skip
def test_2_wrong(answer, words):
    def named(shape, batch_size, seq_len, element_size):
        return answer(shape, batch_size, seq_len, element_size)

    refuses(lab01.check_kv_bytes, named, words)


def test_3_right(capsys):
    def by_groups(num_weights, group_size, scale_bits, zero_point_bits):
        bits = sum(4 for _ in range(num_weights % 1000)) + 4 * (num_weights - num_weights % 1000)
        return (
            bits / 8
            + math.ceil(num_weights / group_size) * scale_bits / 8
            + ((num_weights + group_size - 1) // group_size * zero_point_bits / 8)
        )

    accepts(lab01.check_int4_bytes, by_groups, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n, g, s, z: n / 2, "What do the groups add?"),
        (lambda n, g, s, z: (4 * n + math.ceil(n / g) * s) / 8, "Are both counted?"),
        (lambda n, g, s, z: 4 * n + math.ceil(n / g) * (s + z), "bits rather than bytes"),
        (lambda n, g, s, z: n * (4 + s + z) / 8, "Has each weight a scale of its own"),
        (lambda n, g, s, z: (4 * n + n // g * (s + z)) / 8, "Does it have a scale, too?"),
        (lambda n, g, s, z: (4 * n + n / g * (s + z)) / 8, "a part of a scale?"),
    ],
)
def test_3_wrong(answer, words):
    def named(num_weights, group_size, scale_bits, zero_point_bits):
        return answer(num_weights, group_size, scale_bits, zero_point_bits)

    refuses(lab01.check_int4_bytes, named, words)


def one_request(shape, seq_len, kv_bytes):
    return seq_len * kv_bytes * shape.kv_elements_per_token


def test_4_right(capsys):
    def counted(shape, seq_len, weight_size, element_size):
        weights, each, batch = shape.num_params * weight_size, one_request(shape, seq_len, element_size), 0
        step = 1 << 40
        while step:
            batch, step = (batch + step if (batch + step) * each <= weights else batch), step // 2
        return batch + 1

    accepts(lab01.check_crossover, counted, capsys)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda s, n, w, k: math.ceil(s.num_params * w / one_request(s, n, k)),
            "larger than the weights, or just as large",
        ),
        (
            lambda s, n, w, k: int(s.num_params * w // one_request(s, n, k)),
            "larger than the weights, or just as large",
        ),
        (
            lambda s, n, w, k: int(s.num_params // one_request(s, n, 1)) + 1,
            "the same number of bytes per element?",
        ),
        (lambda s, n, w, k: s.num_params * w / one_request(s, n, k), "A number of requests is whole."),
        (
            lambda s, n, w, k: int(s.num_params * w // one_request(s, 1, k)) + 1,
            "Is the length of the requests in it?",
        ),
    ],
)
def test_4_wrong(answer, words):
    def named(shape, seq_len, weight_size, element_size):
        return answer(shape, seq_len, weight_size, element_size)

    refuses(lab01.check_crossover, named, words)


def needed(shape, seq_len, requests, dtype):
    cache = requests * one_request(shape, seq_len, 2)
    return shape.num_params * {"bf16": 2.0, "int8": 1.0, "int4": 0.5195}[dtype] + cache


def choose(
    shape,
    seq_len,
    requests,
    devices,
    *,
    share=0.9,
    unit=GiB,
    order=("bf16", "int8", "int4"),
    price=2,
    cache=True,
):
    """The right choice, and with one of the options changed a wrong one."""
    for (name, gib, *_), dtype in product(sorted(devices, key=lambda d: d[price]), order):
        if needed(shape, seq_len, requests if cache else 1, dtype) <= share * gib * unit:
            return name, dtype
    return None


def test_5_right(capsys):
    accepts(lab01.check_deployment, choose, capsys)

    def all_at_once(shape, seq_len, requests, devices):
        fitting = [
            (price, quality, [name, dtype])
            for name, gib, price in devices
            for quality, dtype in enumerate(("bf16", "int8", "int4"))
            if needed(shape, seq_len, requests, dtype) / (gib * GiB) <= 0.9
        ]
        return min(fitting)[2] if fitting else None

    accepts(lab01.check_deployment, all_at_once, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 1.0}, "Is a tenth of it left free?"),
        ({"unit": 10**9}, "How many bytes is it?"),
        ({"order": ("int4", "int8", "bf16")}, "In which order are types tried?"),
        ({"order": ("bf16",)}, "costs more than needed"),
        ({"price": 0}, "costs more than needed"),
        ({"price": 1}, "costs more than needed"),
        ({"cache": False}, "Are weights and the caches of all requests counted?"),
    ],
)
def test_5_wrong(options, words):
    def wrong(shape, seq_len, requests, devices):
        return choose(shape, seq_len, requests, devices, **options)

    refuses(lab01.check_deployment, wrong, words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda **_: None, "Were all devices and all types tried?"),
        (lambda **_: "small", "The answer is a pair"),
        (lambda **_: ("tiny", "bf16"), "The answer is a pair"),
        (lambda shape, seq_len, requests, devices: devices.sort(key=lambda d: d[2]), "it changed its input"),
        (unwritten, "not done yet"),
        (lambda **_: torch.zeros(3), "The answer is a pair"),
        (lambda **_: ("small", torch.zeros(3)), "The answer is a pair"),
        (lambda **_: ("small", ["bf16"]), "The answer is a pair"),
        (lambda **_: ("small",), "The answer is a pair"),
    ],
)
def test_5_wrong_in_kind(answer, words):
    refuses(lab01.check_deployment, answer, words)


def hybrid(layers, seq_len, element_size, *, kept=lambda n, w: min(n, w - 1), latent=lambda c, r, h: c + r, state=lambda s, n, e: 4 * s,
           pairs=2):  # fmt: skip
    """The right answer, and with one of the options changed a wrong one."""
    total = 0
    for layer in layers:
        match layer:
            case {"kind": "state", "state_elements": elements}:
                total += state(elements, seq_len, element_size)
            case {"kind": "latent", "latent_dim": compressed, "rotated_dim": rotated, "num_heads": heads}:
                total += latent(compressed, rotated, heads) * seq_len * element_size
            case {"kv_heads": heads, "head_dim": width}:
                tokens = kept(seq_len, layer["window"]) if layer["kind"] == "window" else seq_len
                total += pairs * heads * width * tokens * element_size
    return total


def test_6_right(capsys):
    accepts(lab01.check_hybrid_bytes, hybrid, capsys)

    def by_shapes(layers, seq_len, element_size):
        """The library's own arithmetic."""
        found = 0.0
        for layer in layers:
            width = layer.get("head_dim", 0)
            shape = LayerShape(
                kv_heads=layer.get("kv_heads", int(layer["kind"] == "latent")), window=layer.get("window"),
                key_dim=width + layer.get("latent_dim", 0), value_dim=width + layer.get("rotated_dim", 0),
                recurrent_state=layer.get("state_elements", 0),
            )  # fmt: skip
            found += shape.cached_tokens(seq_len) * shape.token_elements * element_size
            found += shape.state_bytes(element_size)
        return found

    accepts(lab01.check_hybrid_bytes, by_shapes, capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kept": lambda n, w: min(n, w)}, "how many tokens does the next token see beside itself?"),
        ({"kept": lambda n, w: w - 1}, "A text may be shorter than the window."),
        ({"kept": lambda n, w: max(n, w - 1)}, "A text may be shorter than the window."),
        ({"kept": lambda n, w: n}, "Does its part go on growing?"),
        ({"kept": lambda n, w: max(0, n - w + 1)}, "which of them, the old ones or the new ones"),
        ({"latent": lambda c, r, h: 2 * (c + r)}, "How often is it kept?"),
        ({"latent": lambda c, r, h: h * (c + r)}, "Do the heads enter?"),
        ({"latent": lambda c, r, h: c}, "Beside the latent stands a rotated key."),
        ({"state": lambda s, n, e: 4 * s * n}, "Does it grow with the text?"),
        ({"state": lambda s, n, e: e * s}, "In which type is a state kept?"),
        ({"state": lambda s, n, e: 0}, "Is the state counted?"),
        ({"pairs": 1}, "are both counted?"),
    ],
)
def test_6_wrong(options, words):
    def wrong(layers, seq_len, element_size):
        return hybrid(layers, seq_len, element_size, **options)

    refuses(lab01.check_hybrid_bytes, wrong, words)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda layers, seq_len, element_size: hybrid(layers[:1], seq_len, element_size) * len(layers), "by its own sizes?"),
        (lambda layers, seq_len, element_size: hybrid(layers[-1:], seq_len, element_size), "by its own sizes?"),
        (lambda layers, seq_len, element_size: hybrid(layers, seq_len, element_size) if seq_len else 0, "an empty text leave?"),
        (lambda layers, seq_len, element_size: layers.clear() or 0, "it changed its input"),
        (unwritten, "not done yet"),
    ],
)  # fmt: skip
def test_6_wrong_otherwise(answer, words):
    refuses(lab01.check_hybrid_bytes, answer, words)
