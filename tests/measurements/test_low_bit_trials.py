"""What the trials of few bits reach, and that a code at a border is no failure."""

import pytest
import torch

from helpers.measurements import TOLERANCE, Trial, run_trial, trials
from helpers.ops import by_device

CPU = torch.device("cpu")


def of(operator, dtype=torch.bfloat16):
    return [trial for trial in trials(dtype) if trial.operator == operator]


def test_products_have_both_widths_offsets_and_groups():
    for dtype in TOLERANCE:
        cases = [trial.case for trial in of("linear_weight_only", dtype)]
        assert cases == ["int8", "int8, offset", "int4, groups of 32"]
    assert not of("linear_w8a8", torch.float32)


def test_caches_are_tried_with_prompts_chunks_and_decode():
    for operator in ("write_int8_rows", "write_int8_pages", "attention_int8_rows", "attention_int8_pages"):
        cases = " ".join(trial.case for trial in of(operator))
        assert all(word in cases for word in ("prompts", "chunks", "decode", "of 64", "of 128"))


def test_a_code_at_a_border_may_differ_by_a_step(monkeypatch):
    right = by_device.write_int8_pages

    def border(k, v, k_cache, v_cache, slots):
        right(k, v, k_cache, v_cache, slots)
        k_cache.codes[0, 0, 0, 0] -= torch.sign(k_cache.codes[0, 0, 0, 0])

    monkeypatch.setattr(by_device, "write_int8_pages", border)
    found = [run_trial(trial, torch.float16, CPU) for trial in of("write_int8_pages", torch.float16)]
    assert all(one.passed and one.max_error > 0 for one in found)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_only_operators_that_make_codes_may_be_off_by_a_step(dtype):
    assert Trial("linear", "", ()).tolerance(dtype) == TOLERANCE[dtype]
    assert Trial("linear_w8a8", "", (), rounds=True).tolerance(dtype) == TOLERANCE[torch.bfloat16]
