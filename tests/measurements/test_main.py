"""`python -m helpers.measurements`: which command runs, with which arguments and exit status."""

import runpy
import sys

import pytest

from helpers.measurements import device_report, environment


@pytest.mark.parametrize(
    ("arguments", "ran"),
    [
        ([], ("environment", 3)),
        (["environment"], ("environment", 3)),
        (["operators"], (("operators", []), 4)),
        (["operators", "report.json"], (("operators", ["report.json"]), 4)),
    ],
)
def test_the_first_argument_names_what_runs(monkeypatch, arguments, ran):
    called = []
    monkeypatch.setattr(environment, "main", lambda: called.append("environment") or 3)
    monkeypatch.setattr(device_report, "main", lambda rest: called.append(("operators", rest)) or 4)
    monkeypatch.setattr(sys, "argv", ["helpers.measurements", *arguments])
    with pytest.raises(SystemExit) as status:
        runpy.run_module("helpers.measurements", run_name="__main__")
    assert (called, status.value.code) == ([ran[0]], ran[1])
