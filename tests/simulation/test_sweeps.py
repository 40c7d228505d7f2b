"""Sweeps give each setting its own report, in one process or in several."""

import pytest

from helpers.estimates import Ceilings
from helpers.model import PUBLISHED
from helpers.simulation import RooflineTime, Setting, sweep
from helpers.traffic import (
    Lengths,
    Mix,
    poisson,
)

SMALL = Mix(Lengths(12, 0.7, 1, 40), Lengths(6, 0.8, 1, 30), ("a", "a", "b", "c"), (0, 1, 2))


def test_sweeps_run_alike_in_processes():
    roofline = RooflineTime(PUBLISHED["Llama-3-8B"], Ceilings(1e12, 1e14))
    settings_of = {
        (policy, rate): Setting(poisson(30, rate, SMALL), roofline, dict(policy=policy, max_batch_size=4))
        for policy in ("fcfs", "sjf")
        for rate in (5.0, 50.0)
    }
    alone, parallel = sweep(settings_of), sweep(settings_of, workers=2)
    assert list(alone) == list(parallel) == list(settings_of)
    assert alone == parallel
    with pytest.raises(ValueError, match="workers"):
        sweep(settings_of, workers=0)
