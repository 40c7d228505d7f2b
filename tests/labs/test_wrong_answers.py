"""Wrong answers of every kind are refused, each with the words meant for it."""

import importlib

import pytest

from tests.labs.answers import refuses
from tests.labs.wrong_answers import WRONG


@pytest.mark.parametrize(("check", "name", "code", "words"), WRONG, ids=[entry[0] for entry in WRONG])
def test_a_wrong_answer_is_refused(check, name, code, words):
    names = {}
    exec(code, names)
    lab, one = check.split(".")
    refuses(getattr(importlib.import_module(f"helpers.checks.{lab}"), one), names[name], words)
