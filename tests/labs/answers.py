"""How an exercise's answers are tried: each wrong one must be refused with the words meant for it."""

import contextlib
import math
import re
import time
from fractions import Fraction

import pytest
import torch

from helpers.checks import CheckFailed
from helpers.checks.machinery import limit, process


@contextlib.contextmanager
def patience(seconds=300.0):
    """An answer may take so many seconds: by default, enough on a busy machine for each one that ends by itself."""
    with pytest.MonkeyPatch.context() as patient:
        patient.setattr(limit, "SECONDS", seconds)
        patient.setattr(process, "LONGEST", 600.0)
        yield


def accepts(check, answer, capsys):
    """The check takes the answer and says so in one line."""
    with patience():
        check(answer)
    assert capsys.readouterr().out.endswith(": done.\n")


def refuses(check, answer, words):
    """The check refuses the answer, and its message holds `words`; an answer without an end is not waited for."""
    seconds = 0.5 if "never ends" in words else limit.SECONDS if "did not end" in words else 300.0
    with patience(seconds), pytest.raises(CheckFailed, match=re.escape(words)):
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


class Broken:
    def __repr__(self):
        raise RuntimeError("no")


def endlessly_deep(**given):
    return endlessly_deep(**given)


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
    "a wrong fraction": (lambda **_: Fraction(1, 3), "the value is wrong"),
    "a huge number": (lambda **_: 10**9999, "got:      a number beyond 1e30"),
    "a tensor": (lambda **_: torch.zeros(2, 3), "expected a number, got a tensor of shape (2, 3)"),
    "a thing that cannot be shown": (lambda **_: Broken(), "a Broken that cannot be shown"),
    "a generator": (lambda **_: (i for i in ()), "expected a number, got <generator"),
    "recursion": (endlessly_deep, "it raised RecursionError"),
    "an exception": (lambda **_: {}["x"], "it raised KeyError: 'x'"),
    "other arguments": (lambda a: a, "it raised TypeError"),
    "no end": (endless, "Is there a loop that never ends?"),
    "leaves": (leaving, "it raised SystemExit"),
    "no function": (17, "expected a function, got 17"),
}
