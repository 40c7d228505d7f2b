"""Dishonest submissions: each of these would have had its points, and none has them."""

import json

import pytest

from helpers.grading import Cell, grade, suspicious
from helpers.grading import submission as submissions
from tools import notebooks as nbs

KV = "lab01.check_kv_bytes(kv_bytes)"
IMPORTS = "from helpers.checks import lab01, lab05, progress\nfrom helpers.model import PUBLISHED"
RIGHT = """
def kv_bytes(shape, batch_size, seq_len, element_size):
    return 2 * batch_size * seq_len * shape.num_layers * shape.num_kv_heads * shape.head_dim * element_size
"""
# An answer to lab 1's exercise 2 each, which solves nothing.
ATTACKS = {
    "a reference": "from helpers.checks.families.lab01.kv_bytes import KV\nkv_bytes = KV.right",
    "a reference, wrapped": "def kv_bytes(**case):\n    from helpers.checks.families.lab01 import kv_bytes as k\n    return k.KV.right(**case)",
    "a reference, by its name in pieces": "import importlib\nkv_bytes = importlib.import_module('helpers.che' + 'cks.families.lab01.kv_bytes').KV.right",
    "a reference, from its file": """
import helpers, pathlib
text = (pathlib.Path(helpers.__file__).parent / "checks/families/lab01/kv_bytes.py").read_text()
names = {}
exec(text, names)
kv_bytes = names["KV"].right""",
    "a reference, from what Python has loaded": """
import gc
kv_bytes = next(o for o in gc.get_objects() if type(o).__name__ == "Family").right""",
    "the solution's file": """
import helpers, json, pathlib
book = json.loads((pathlib.Path(helpers.__file__).parents[1] / "solutions/01_memory_math.ipynb").read_text())
exec(next("".join(c["source"]) for c in book["cells"] if "def kv_bytes" in "".join(c["source"])))""",
    "a check replaced": "lab01.check_kv_bytes = lambda *_: None\nkv_bytes = print",
    "the checks' machinery replaced": """
import helpers.checks.lab01 as lab
import helpers.checks.machinery.family as f
lab.check_family = f.check_family = f.equal = lambda *_, **__: True
kv_bytes = print""",
    "another module under the check's name": """
import sys, types
lab01 = sys.modules["helpers.checks.lab01"] = types.SimpleNamespace(check_kv_bytes=print)
kv_bytes = print""",
    "an equal of everything": """
class Anything(int):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = int.__hash__
kv_bytes = lambda *_, **__: Anything(1)""",
    "a number that adapts": """
class Number:
    __eq__ = __le__ = __ge__ = lambda self, other: True
    __sub__ = __rsub__ = __abs__ = lambda self, *other: self
    __float__ = lambda self: 0.0
import numbers
numbers.Real.register(Number)
kv_bytes = lambda *_, **__: Number()""",
    "errors swallowed by the shell": "get_ipython().showtraceback = get_ipython()._showtraceback = print\nkv_bytes = print",
    "an exit": "import sys\nkv_bytes = lambda **_: sys.exit(0)",
    "an end without a word": "import os\nkv_bytes = lambda **_: os._exit(0)",
    "progress forged": """
import json, os, pathlib
folder = pathlib.Path(os.environ["COURSE_DATA"])
folder.mkdir(exist_ok=True)
(folder / "progress.json").write_text(json.dumps({"01_memory_math": [1, 2, 3, 4, 5]}))""",
    "a word to the judge": """
import os, pickle, sys
verdict = pickle.dumps(("value", 1, ("plain", 0)))
for number in range(3, 12):
    try:
        os.write(number, len(verdict).to_bytes(8, "big") + verdict)
    except OSError:
        pass
print('{"check": ""}', file=sys.__stdout__)
kv_bytes = print""",
    "the judge's names": "PUBLISHED = type('P', (), {'__getitem__': lambda *_: None})()\nassert_ = CheckFailed = print\nkv_bytes = print",
    "a library of one's own": """
import helpers.model.shapes as s, helpers.model as m
for shape in list(m.PUBLISHED.values()):
    object.__setattr__(shape, "num_kv_heads", shape.num_heads)
kv_bytes = lambda shape, batch_size, seq_len, element_size: 2 * batch_size * seq_len * shape.hidden_size * shape.num_layers * element_size""",
    "nothing": "",
}  # fmt: skip
# After this one the submission's own cells are not run any more, so it comes last.
LAST = "checks skipped by the shell"
SKIPPED = 'get_ipython().input_transformers_cleanup.append(lambda lines: ["pass\\n"])\nkv_bytes = print'


def cells(answer, check=KV):
    return [Cell("imports", IMPORTS, False), Cell("answer", answer, False), Cell("check", check, True)]


@pytest.fixture(scope="module")
def verdicts():
    """One submission in which all attacks stand, each before a check; names are forgotten in between."""
    book = [Cell("imports", IMPORTS, False)]
    for name, attack in ATTACKS.items():
        book += [Cell("", "kv_bytes = None", False), Cell("", attack, False), Cell(name, KV, True)]
    book += [Cell("", RIGHT, False), Cell("a right answer", KV, True)]
    book += [Cell("", "import os\nos._exit(1)", False), Cell("a right answer, after an end", KV, True)]
    return grade([*book, Cell("", SKIPPED, False), Cell(LAST, KV, True)])


@pytest.mark.parametrize("name", [*ATTACKS, LAST])
def test_what_is_not_solved_has_no_points(verdicts, name):
    assert verdicts[name] != "", name


def test_after_all_that_a_right_answer_has_its_points(verdicts):
    right = ["a right answer", "a right answer, after an end"]
    assert [verdicts[name] for name in right] == ["", ""]
    assert verdicts.keys() == {*ATTACKS, LAST, *right}


def test_the_course_is_as_it_was(verdicts):
    from helpers.checks import lab01

    assert callable(lab01.check_kv_bytes)
    assert (
        "num_kv_heads" in (nbs.ROOT / "helpers" / "checks" / "families" / "lab01" / "kv_bytes.py").read_text()
    )


def test_cases_are_drawn_anew_and_the_seed_can_be_named(monkeypatch):
    seen = []

    def run(command, input, env, **options):
        seen.append((json.loads(input), env["COURSE_CHECK_SEED"]))
        return type("Done", (), {"stdout": '{"check": ""}'})

    monkeypatch.setattr(submissions.subprocess, "run", run)
    monkeypatch.delenv("COURSE_CHECK_SEED", raising=False)
    grade(cells(RIGHT))
    monkeypatch.setenv("COURSE_CHECK_SEED", "7")
    grade(cells(RIGHT))
    assert [seed for _, seed in seen] == ["fresh", "7"]
    assert seen[0][0][-1] == {"name": "check", "source": KV, "is_check": True}


def test_a_submission_that_takes_too_long_has_no_points(monkeypatch):
    def run(*_, **__):
        raise submissions.subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(submissions.subprocess, "run", run)
    assert grade(cells(RIGHT)) == {"check": "it did not end within 600 seconds"}


@pytest.mark.parametrize("said", ["", "no verdict", None])
def test_a_judge_that_says_nothing_gives_no_points(monkeypatch, said):
    def run(*_, **__):
        if said is None:
            raise submissions.subprocess.CalledProcessError(1, "python")
        return type("Done", (), {"stdout": said})

    monkeypatch.setattr(submissions.subprocess, "run", run)
    assert grade(cells(RIGHT)) == {
        "check": "it could not be judged: the judge's process ended without a verdict"
    }


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (ATTACKS["a reference"], ["helpers.checks.families.lab01.kv_bytes", "helpers.checks.families.lab01.kv_bytes.KV"]),
        ("from helpers.checks.machinery import core", ["helpers.checks.machinery", "helpers.checks.machinery.core"]),
        ("import helpers.grading.judge as j", ["helpers.grading.judge"]),
        ("f = lambda: __import__('helpers.checks.families.lab01.int4')", ["helpers.checks.families.lab01.int4"]),
        (IMPORTS, []),
        ("%timeit kv_bytes()", []),
        (RIGHT, []),
    ],
)  # fmt: skip
def test_what_is_marked(source, found):
    assert suspicious(source) == found
