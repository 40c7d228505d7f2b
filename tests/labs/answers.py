"""How an exercise's answers are tried: each wrong one must be refused with the words meant for it."""

import contextlib
import math
import re
import time

import pytest

from helpers.checks import CheckFailed


def accepts(check, answer, capsys):
    """The check takes the answer and says so in one line."""
    check(answer)
    assert capsys.readouterr().out.endswith(": done.\n")


def refuses(check, answer, words):
    """The check refuses the answer, and its message holds `words`."""
    with pytest.raises(CheckFailed, match=re.escape(words)):
        check(answer)


def endless(**_):
    while True:
        pass


def stubborn(**_):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.01)


def unwritten(**_):
    raise NotImplementedError("replace this line by your answer")


def leaving(**_):
    raise SystemExit


# What any function of a learner's may do; every check of a number must refuse each of these so.
NO_NUMBER = {
    "stub": (unwritten, "not done yet: replace this line by your answer"),
    "nothing returned": (lambda **_: None, "Is a return missing?"),
    "text": (lambda **_: "12", "expected a number, got '12'"),
    "a truth": (lambda **_: True, "expected a number, got True"),
    "not a number": (lambda **_: math.nan, "the value is wrong"),
    "infinite": (lambda **_: math.inf, "the value is wrong"),
    "an exception": (lambda **_: {}["x"], "it raised KeyError: 'x'"),
    "other arguments": (lambda a: a, "it raised TypeError"),
    "no end": (endless, "Is there a loop that never ends?"),
    "leaves": (leaving, "it raised SystemExit"),
    "no function": (17, "expected a function, got 17"),
}
