"""What submitted code may not do while it is graded."""

import subprocess
import sys

import pytest

from helpers.grading import guard

BEGIN = """
import importlib.util, os, pathlib, sys
spec = importlib.util.spec_from_file_location("guard", sys.argv[2])  # without the library, which takes seconds
guard = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guard)
guard.protect([pathlib.Path(sys.argv[1]) / "references"])
other, mine = pathlib.Path(sys.argv[1]), pathlib.Path.cwd()
"""


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "up").symlink_to("..")
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "answer.py").write_text("right = 5")
    (tmp_path / "theirs.txt").write_text("theirs")
    (tmp_path / "gradebook.db").write_text("")
    return tmp_path


def outcome(folders, code):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code, str(folders), guard.__file__], cwd=folders / "mine", capture_output=True, text=True, check=False
    )  # fmt: skip
    return done.returncode, done.stderr.strip().splitlines()[-1] if done.stderr else ""


FORBIDDEN = [
    'open(other / "theirs.txt", "w")',
    'open(other / "theirs.txt", "a")',
    'open(other / "theirs.txt", "r+")',
    'os.open(other / "theirs.txt", os.O_RDWR)',
    'open("../theirs.txt", "w")',
    'open("up/theirs.txt", "w")',
    'os.symlink("..", "link")',
    'os.remove(other / "theirs.txt")',
    'os.rename("mine.txt" if open("mine.txt", "w") else 0, other / "theirs.txt")',
    'os.chmod(other / "theirs.txt", 0o777)',
    'import shutil; shutil.rmtree(other / "references")',
    'import sqlite3; sqlite3.connect(other / "gradebook.db")',
    'open(other / "references" / "answer.py")',
    'import importlib.util as u; s = u.spec_from_file_location("a", other / "references" / "answer.py"); s.loader.exec_module(u.module_from_spec(s))',
    "os.system('true')",
    "import subprocess; subprocess.run(['true'])",
    "os.execv('/bin/true', ['true'])",
    "os.posix_spawn('/bin/true', ['true'], {})",
    "os.kill(os.getppid(), 0)",
    "import ctypes; ctypes.CDLL(None).system(b'true')",
]


@pytest.mark.parametrize("code", FORBIDDEN)
def test_what_is_forbidden(folders, code):
    status, last = outcome(folders, code)
    assert (status, last.partition(":")[0]) == (1, "PermissionError"), last
    assert (folders / "theirs.txt").read_text() == "theirs"
    assert (folders / "references" / "answer.py").exists()


ALLOWED = """
open("mine.txt", "w").write("x")
os.mkdir("new"); os.rename("mine.txt", "new/mine.txt")
import tempfile
tempfile.NamedTemporaryFile("w").write("x")
assert open(other / "theirs.txt").read() == "theirs"
child = os.fork()
os._exit(0) if not child else os.waitpid(child, 0)
open(os.devnull, "w").write("x")
import json, random, sqlite3
sqlite3.connect(":memory:").execute("select 1")
"""


def test_what_a_submission_needs_is_allowed(folders):
    assert outcome(folders, ALLOWED) == (0, "")


def test_without_the_guard_all_of_it_would_work(folders):
    code = BEGIN.replace('guard.protect([pathlib.Path(sys.argv[1]) / "references"])', "") + FORBIDDEN[0]
    done = subprocess.run(
        [sys.executable, "-c", code, str(folders), guard.__file__], cwd=folders / "mine", check=False
    )
    assert (done.returncode, (folders / "theirs.txt").read_text()) == (0, "")
