"""How waiting threads wait: for microseconds, then asleep, unless a user has asked for another way."""

import os
import subprocess
import sys

import pytest

PRINT = "import helpers, os; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, "passive 500"),
        ({"OMP_WAIT_POLICY": "active"}, "active None"),
        ({"GOMP_SPINCOUNT": "7"}, "passive 7"),
    ],
    ids=["nothing", "to spin on", "a length"],
)
def test_the_library_sets_what_is_not_set(asked, found):
    rest = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    said = subprocess.run(
        [sys.executable, "-c", PRINT], env=rest | asked, capture_output=True, text=True, check=True
    )
    assert said.stdout.split("\n")[0] == found
