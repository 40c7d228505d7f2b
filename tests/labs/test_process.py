"""A check runs in a process of its own: code that holds the interpreter, or leaves it, ends there; references are refused."""

import functools
import gc
import importlib
import inspect
import itertools
import os
import sys
import time

import pytest

from helpers.checks import CheckFailed, lab01, lab02, lab04, lab05, lab08
from helpers.checks.families.lab05 import padding
from helpers.checks.families.lab05 import plan as families
from helpers.checks.machinery import family, limit, process
from tests.labs.answers import accepts, refuses

IN_PROCESS = pytest.mark.skipif(not process.possible(), reason="checks run in threads here")


def mean_wait(seconds):
    return sum(itertools.accumulate([0, *seconds[:-1]])) / len(seconds)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(limit, "SECONDS", 1.0)


@IN_PROCESS
@pytest.mark.parametrize(
    "holding",
    [
        lambda seconds: 7**10**9,
        lambda seconds: sum(itertools.repeat(1)),
        lambda seconds: max(itertools.count()),
    ],
)
def test_code_that_holds_the_interpreter_is_ended(holding):
    before = time.monotonic()
    refuses(lab08.check_wait, holding, "it did not end within 1 seconds")
    assert time.monotonic() - before < 20


@IN_PROCESS
def test_code_that_leaves_the_process_leaves_the_kernel_alone():
    refuses(lab08.check_wait, lambda seconds: os._exit(3), "it ended the process in which the check runs")
    refuses(lab08.check_wait, lambda seconds: os.kill(os.getpid(), 9), "for:      seconds=[4.0]")


@IN_PROCESS
def test_memory_is_bounded():
    refuses(lab08.check_wait, lambda seconds: len(bytes(2**36)), "That is far too much memory.")


@IN_PROCESS
def test_what_is_printed_reaches_the_cell_and_not_without_end(capsys):
    def talking(seconds):
        print("I wait", "." * 100)
        return mean_wait(seconds)

    lab08.check_wait(talking)
    out = capsys.readouterr().out
    assert out.startswith("I wait ....")
    assert "and more was printed" in out
    assert len(out) < 6000


def test_an_error_in_the_check_itself_is_not_the_learners(monkeypatch):
    def broken(answer, family):
        raise KeyError("a fault of ours")

    monkeypatch.setattr(lab08, "check_family", broken)
    with pytest.raises((RuntimeError, KeyError), match="a fault of ours"):
        lab08.check_wait(mean_wait)


def test_without_processes_a_thread_does(monkeypatch, capsys):
    monkeypatch.setenv("COURSE_CHECK_PROCESS", "0")
    accepts(lab08.check_wait, mean_wait, capsys)

    def endless(seconds):
        while True:
            pass

    refuses(lab08.check_wait, endless, "Is there a loop that never ends?")


def test_another_seed_draws_other_cases(monkeypatch):
    def drawn():
        cases = padding.PADDING.cases(__import__("random").Random(family.seed()))
        return list(itertools.islice(cases, 30))

    fixed = drawn()
    assert drawn() == fixed
    monkeypatch.setenv("COURSE_CHECK_SEED", "12")
    assert drawn() != fixed
    monkeypatch.setenv("COURSE_CHECK_SEED", "fresh")
    assert drawn() != drawn()


@pytest.mark.parametrize("seed", ["2", "3"])
def test_solutions_pass_with_other_seeds(seed, monkeypatch):
    from tools import mutate_labs

    monkeypatch.setattr(limit, "SECONDS", 30.0)
    monkeypatch.setenv("COURSE_CHECK_SEED", seed)
    for lab in range(1, 13):
        names = mutate_labs.space(lab)
        for answer in {(a.name, a.check) for a in mutate_labs.answers(lab)}:
            module, check = answer[1].split(".")
            getattr(importlib.import_module(f"helpers.checks.{module}"), check)(names[answer[0]])


class Callable5:
    def __call__(self, **given):
        return families.plan(**given)


def by_import(**given):
    from helpers.checks.families.lab05 import plan as cases

    return cases.plan(**given)


def by_module(**given):
    return sys.modules["helpers.checks.families.lab05.plan"].plan(**given)


REFERENCE = families.plan


@pytest.mark.parametrize(
    "answer",
    [
        families.plan,
        families.PLAN.right,
        functools.partial(families.plan),
        lambda **given: families.plan(**given),
        lambda **given: lab05.PLAN.right(**given),
        lambda **given: REFERENCE(**given),
        lambda *given: lambda **rest: families.plan(*given, **rest),
        by_import,
        by_module,
        Callable5(),
    ],
)
def test_the_reference_is_no_answer(answer):
    with pytest.raises(CheckFailed, match="the answer uses the check's own code"):
        lab05.check_plan(answer)


class Reading(float):
    """A number that becomes what its caller expects."""

    def __float__(self):
        frame = sys._getframe(1)
        while frame and "right" not in frame.f_locals:
            frame = frame.f_back
        return float(frame.f_locals["right"]) if frame else 0.0


def by_frames(seconds):
    frame = inspect.currentframe()
    while frame and "one" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["one"].right[0] if frame else 0.0


def by_memory(seconds):
    return next(o for o in gc.get_objects() if type(o).__name__ == "Tried").right[0]


def test_an_answer_that_reads_its_callers_is_none():
    refuses(lab01.check_token_bytes, Reading(1.0), "the answer reads what its callers know, with _getframe")
    refuses(lab08.check_wait, by_frames, "the answer reads what its callers know, with currentframe")
    refuses(lab08.check_wait, functools.partial(by_memory), "reads what its callers know, with get_objects")


def _decode(engine, token):
    """A learner's own function, named as the engine's own number is."""
    engine.wait()
    return engine.next(token)


def measured(engine, prompt, max_new_tokens):
    _decode(engine, engine.start(prompt))
    engine.wait()
    begin, tokens = engine.clock(), [engine.start(prompt)]
    engine.wait()
    first = engine.clock()
    while len(tokens) < max_new_tokens:
        tokens.append(_decode(engine, tokens[-1]))
    engine.wait()
    steps = max(1, len(tokens) - 1)
    return {"ttft": first - begin, "tpot": (engine.clock() - first) / steps, "tokens": tokens}


def test_names_of_a_learner_may_be_like_those_of_the_engine(capsys):
    accepts(lab02.check_profiler, measured, capsys)


def test_the_names_of_a_lab_hold_no_reference():
    for lab in (lab04, lab05, lab08):
        names = [name for name in vars(lab) if name.startswith("_") and not name.startswith("__")]
        assert not {"_plan", "_pack", "_chunk", "_match", "_evict", "_begin", "_passes"} & {*names}
