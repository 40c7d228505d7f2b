"""The judge: right answers to all labs have all points, what cannot be judged has none, and a lost process is replaced."""

import os

import pytest

from helpers.checks import CheckFailed
from helpers.grading import Cell, grade, judge
from tools import notebooks as nbs

BY_LAB = {path.stem: path for path in sorted((nbs.ROOT / "solutions").glob("*.ipynb"))}


def book(path):
    """The code cells of a solution."""
    for i, cell in enumerate(nbs.read(path).cells):
        known = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code":
            yield Cell(known.get("grade_id", f"{path.stem} {i}"), cell.source, bool(known.get("grade")))


def test_the_solutions_of_all_labs_have_all_points():
    cells = [cell for path in BY_LAB.values() for cell in book(path)]
    names = [cell.name for cell in cells if cell.is_check]
    assert len(names) > 35
    verdicts = grade(cells)
    assert verdicts == dict.fromkeys(names, "")


POLICY = "from helpers.engine import Policy\n"
WRONG = {
    "02 gives made-up times": (
        "profile = lambda engine, prompt, max_new_tokens: {'ttft': 0.1, 'tpot': 0.02, 'tokens': [1] * max_new_tokens}",
        "lab02.check_profiler(profile)",
    ),
    "02 asks the engine for what is private": (
        "profile = lambda engine, prompt, max_new_tokens: {'ttft': engine._prefill, 'tpot': engine._decode, 'tokens': []}",
        "lab02.check_profiler(profile)",
    ),
    "02 asks for what is no method": (
        "profile = lambda engine, prompt, max_new_tokens: engine.__class__.start(engine, prompt)",
        "lab02.check_profiler(profile)",
    ),
    "03 keeps nothing": (
        "class MyCache:\n    length = 0\n    def __init__(self, *_, **__): pass\n    def update(self, layer_idx, k, v): return k, v",
        "lab03.check_cache(MyCache)",
    ),
    "04 reads the secret off the server": (
        "recover = lambda ask, known, alphabet, length: ask.case['secret']",
        "lab04.check_secret(recover)",
    ),
    "04 has keys that are equal as it suits": (
        "class Key:\n    __hash__ = lambda self: 1\n    __eq__ = lambda self, other: False\npage_key = lambda before, tokens, salt: Key()",
        "lab04.check_key(page_key)",
    ),
    "05 is the reference": ("plan = lab05._plan", "lab05.check_plan(plan)"),
    "06 is the library's pool": (
        "from helpers.caches import PagePool as MyPool",
        "lab06.check_copy_on_write(MyPool)",
    ),
    "08 ranks by nothing": (f"{POLICY}class Both(Policy): pass", "lab08.check_both(Both)"),
    "08 replaces what is reported": (
        f"{POLICY}import helpers.traffic.report as r, helpers.simulation.replicas as s\n"
        "r.Report.values = lambda *_: [0.0]\ns.simulate = print\nclass Both(Policy): pass",
        "lab08.check_both(Both)",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def verdicts():
    head = "from helpers.checks import lab01, lab02, lab03, lab04, lab05, lab06, lab07, lab08"
    cells = [Cell("", head, False)]
    for name, (answer, check) in WRONG.items():
        cells += [Cell("", answer, False), Cell(name, check, True)]
    return grade(cells)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_solved_has_no_points(verdicts, name):
    assert verdicts[name] != ""


@pytest.fixture
def examinee():
    started = judge.Examinee()
    yield started
    started.close()


def test_a_lost_process_is_replaced_and_knows_what_it_knew(examinee, monkeypatch):
    examinee.run("def double(x):\n    return 2 * x\nimport os, time")
    double = examinee.ask(("get", "double"))
    assert (double(x=4), double([1])) == (8, [1, 1])
    examinee.run("os._exit(1)")
    assert examinee.ask(("get", "double"))(5) == 10
    examinee.run("def never():\n    while True: pass")
    with examinee.limited(), pytest.raises(CheckFailed, match=r"did not end within 0\.3 seconds"):
        examinee.ask(("call", examinee.ask(("get", "never"))._number, (), {}), 0.3)
    assert examinee.ask(("get", "double"))(6) == 12
    with pytest.raises(ValueError, match="no such"):
        examinee.run("def refuse(): raise ValueError('no such')") or examinee.ask(("get", "refuse"))()
    with pytest.raises(RuntimeError, match="KeyError"):
        examinee.run("def lose(): return {}[1]") or examinee.ask(("get", "lose"))()


FORGED = """
import gc, pickle
from helpers.grading.learner import Served
served = next(o for o in gc.get_objects() if isinstance(o, Served))
served._line.send(pickle.dumps({message}))
"""
MESSAGES = {
    "an object that was not given": ("ask", 99, "", [], {}),
    "a name that is no text": ("ask", 0, 7, [], {}),
    "arguments that are none": ("ask", 0, "", 5, {}),
    "too few words": ("value",),
    "a value without a value": ("value", 2),
    "an error without a name": ("raised", 2),
    "an error of the shell": ("raised", 2, "IndexError", False, "text"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_forged_message_does_not_end_the_judge(examinee, name):
    examinee.run("def double(x):\n    return 2 * x")
    examinee.run(FORGED.format(message=MESSAGES[name]))
    assert examinee.ask(("get", "double"))(5) == 10


def test_the_submitted_code_has_a_process_group_of_its_own(examinee):
    assert os.getpgid(examinee._process.pid) == examinee._process.pid != os.getpgrp()
