"""A trial says what is tried, and how exact the result must be."""

import torch

from helpers.measurements import TOLERANCE, Trial


def test_a_trial_returns_its_result_unless_told_what_is_written():
    trial = Trial("swiglu", "case", (torch.ones(2, 4),))
    assert (trial.written, trial.rounds) == ((), False)


def test_codes_of_8_bits_are_as_exact_as_a_step_of_theirs():
    coarse = max(TOLERANCE.values())
    for dtype, bound in TOLERANCE.items():
        assert Trial("a", "", ()).tolerance(dtype) == bound
        assert Trial("a", "", (), rounds=True).tolerance(dtype) == coarse
