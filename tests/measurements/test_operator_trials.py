"""Every operator is tried on the device, and a wrong one is told."""

import pytest
import torch

from helpers import ops
from helpers.measurements import TOLERANCE, Trial, operator_trials, run_trial, trials
from helpers.ops import by_device

CPU = torch.device("cpu")
# `likeliest` gives lists on the host, no tensor to compare.
NO_TRIAL = {"BlockTables", "Int8", "check_heads", "check_pages", "likeliest", "packed_from", "quantise_int8"}
OPERATORS = set(ops.__all__) - NO_TRIAL
OF_16_BITS = {"linear_w8a8"}  # activations become int8 from 16-bit types alone


def test_every_operator_is_tried_in_every_type_and_passes(outcomes):
    assert {o.operator for o in outcomes} == OPERATORS
    for dtype in ("float32", "float16", "bfloat16"):
        wanted = OPERATORS - (OF_16_BITS if dtype == "float32" else set())
        assert {o.operator for o in outcomes if o.dtype == dtype} == wanted
    assert [o for o in outcomes if not o.passed] == []
    assert all(o.problem is None and o.seconds > 0 and 0 <= o.max_error <= o.tolerance for o in outcomes)
    assert len({(o.operator, o.case, o.dtype) for o in outcomes}) == len(outcomes)


def test_trials_are_the_same_in_every_run():
    first, second = (list(trials(torch.float32)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert (a.operator, a.case) == (b.operator, b.case)
        for x, y in zip(a.arguments, b.arguments, strict=True):
            assert not isinstance(x, torch.Tensor) or torch.equal(x, y)


def test_trials_reach_what_operators_do_differently():
    cases = {(t.operator, t.case) for t in trials(torch.float32)}
    for operator in (
        "attention",
        "attention_rows",
        "attention_pages",
        "write_kv_pages",
        "attention_int8_pages",
    ):
        own = " ".join(case for name, case in cases if name == operator)
        assert all(word in own for word in ("prompts", "chunks", "decode", "of 64", "of 128"))
    assert any("pages of 16" in case for _, case in cases)
    assert any("all keys" in case for _, case in cases)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", sorted(OPERATORS - {"pack_weight"}))
def test_a_wrong_operator_is_told(name, dtype, monkeypatch):
    """Off by a little more than rounding in one number, in what is returned or what is written."""
    if dtype == torch.float32 and name in OF_16_BITS:
        pytest.skip("its activations have 16 bits")
    right = getattr(by_device, name)
    bound = max(trial.tolerance(dtype) for trial in trials(dtype) if trial.operator == name)

    def wrong(first, *arguments):
        result = right(first, *arguments)
        if "write_int8" in name:
            arguments[1].scale.mul_(1.2)
            return result
        spoilt = first if result is None else result[-1] if isinstance(result, tuple) else result
        last = (-1,) * spoilt.dim()
        spoilt[last] += 3 * bound * (1 + spoilt[last].abs())
        return result

    monkeypatch.setattr(by_device, name, wrong)
    found = [run_trial(trial, dtype, CPU) for trial in trials(dtype) if trial.operator == name]
    assert found
    assert not any(o.passed for o in found)
    assert all(o.problem is None and o.max_error > o.tolerance for o in found)


def test_pack_weight_is_tried_through_a_product(monkeypatch):
    monkeypatch.setattr(operator_trials, "pack_weight", lambda weight: weight * 1.1)
    (trial,) = (t for t in trials(torch.float32) if t.operator == "pack_weight")
    assert not run_trial(trial, torch.float32, CPU).passed


def _outcome(monkeypatch, answer):
    """The outcome of a trial of swiglu when it answers so."""
    monkeypatch.setattr(by_device, "swiglu", answer)
    return run_trial(Trial("swiglu", "case", (torch.ones(2, 4),)), torch.float32, CPU)


def test_no_number_is_a_failure(monkeypatch):
    for value in (float("nan"), float("inf")):
        outcome = _outcome(monkeypatch, lambda x, value=value: torch.tensor([[value, 1], [1, 1]]))
        assert (outcome.passed, outcome.max_error) == (False, None)


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (lambda x: torch.ones(2, 3), "float32 [2, 3]"),
        (lambda x: torch.ones(2, 2).half(), "float16 [2, 2]"),
        (lambda x: (torch.ones(2, 2), torch.ones(1)), "float32 [2, 2], float32 [1]"),
    ],
)
def test_another_shape_type_or_count_is_a_failure(monkeypatch, answer, got):
    outcome = _outcome(monkeypatch, answer)
    assert (outcome.passed, outcome.problem) == (False, f"expected float32 [2, 2], got {got}")


def test_what_is_raised_is_an_outcome(monkeypatch):
    def broken(x):
        raise RuntimeError("aclnn error 561002")

    outcome = _outcome(monkeypatch, broken)
    assert (outcome.passed, outcome.problem) == (False, "RuntimeError: aclnn error 561002")
    assert outcome.max_error is outcome.seconds is None


def test_the_arguments_of_a_trial_are_not_spent():
    (trial,) = (t for t in trials(torch.float32) if t.operator == "add_rms_norm")
    before = [x.clone() for x in trial.arguments if isinstance(x, torch.Tensor)]
    assert run_trial(trial, torch.float32, CPU).passed
    after = [x for x in trial.arguments if isinstance(x, torch.Tensor)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
