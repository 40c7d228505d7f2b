"""What submitted code may not do while it is graded."""

import os
import subprocess
import sys

import pytest

from helpers.grading import guard
from tools import notebooks as nbs

BEGIN = """
import importlib.util, os, pathlib, sys
spec = importlib.util.spec_from_file_location("guard", sys.argv[2])  # without the library, which takes seconds
guard = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guard)
if sys.argv[3:] != ["torch"]:
    guard._close_torch = lambda: None  # torch takes seconds
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
    more = ["torch"] if "torch" in code else []
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code, str(folders), guard.__file__, *more], cwd=folders / "mine", capture_output=True, text=True, check=False
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
    "fd = os.open(other, os.O_RDONLY); os.open('theirs.txt', os.O_WRONLY | os.O_TRUNC, dir_fd=fd)",
    "fd = os.open(mine, os.O_RDONLY); os.mkdir('a'); os.chdir('a'); os.open('../theirs.txt', os.O_WRONLY, dir_fd=fd)",
    "import torch; torch.from_file(str(other / 'theirs.txt'), shared=True, size=6, dtype=torch.uint8).zero_()",
    "import torch; torch.ops.aten.from_file(str(other / 'theirs.txt'), True, 6, dtype=torch.uint8).zero_()",
    "import torch; torch.UntypedStorage.from_file(str(other / 'theirs.txt'), True, 6).fill_(0)",
    "import torch; torch.TypedStorage.from_file(str(other / 'theirs.txt'), True, 6).fill_(0)",
    "import torch; torch.from_file(str(other / 'references' / 'answer.py'), size=9, dtype=torch.uint8)",
    "import torch; torch.save([1], other / 'theirs.txt')",
    "import torch; torch._C.PyTorchFileReader(str(other / 'theirs.txt'))",
    "import torch; torch._C.PyTorchFileWriter(str(other / 'theirs.txt'))",
    "child = os.fork(); os._exit(0) if not child else os.waitpid(child, 0)",
    "child, _ = os.forkpty(); os._exit(0) if not child else os.waitpid(child, 0)",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.killpg(os.getpgrp(), signal.SIGTERM)",
    "os.kill(2 ** 22 + 1, 0)",
    "os.kill(-1, 0)",
    "os.kill(0, 0)",
    "import signal; signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0)",
    "import multiprocessing.util as u; os.waitpid(u.spawnv_passfds(b'/bin/true', [b'true'], []), 0)",
    "import sys; del sys.modules['_posixsubprocess']; import _posixsubprocess",
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
tempfile.TemporaryFile("w").write("x")
with tempfile.TemporaryDirectory() as folder:
    assert pathlib.Path(folder).parent.parent == mine
    (pathlib.Path(folder) / "a" / "b").mkdir(parents=True)
import shutil; shutil.rmtree("new")
os.kill(os.getpid(), 0)
open(os.devnull, "w").write("x")
import json, random, sqlite3
sqlite3.connect(":memory:").execute("select 1")
"""


def test_what_a_submission_needs_is_allowed(folders):
    assert outcome(folders, ALLOWED) == (0, "")


def test_no_temporary_folder_stays(folders):
    outcome(folders, "")
    assert list(folders.rglob("graded-*")) == []


KERNEL = """
import os
from helpers.checks.machinery import process
from helpers.grading import protect_kernel
protect_kernel()
process.isolated(lambda: print("checked"), 20.0)
def forks():
    os.fork()
for attempt in (forks, lambda: process.isolated(forks, 20.0)):
    try:
        attempt()
    except (PermissionError, RuntimeError) as error:
        print("starts no process" in str(error))
"""


def test_in_the_kernel_the_checks_alone_start_a_process(folders):
    own = {**os.environ, "PYTHONPATH": str(nbs.ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", KERNEL], cwd=folders / "mine", env=own, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (0, ["checked", "True", "True"]), done.stderr


def test_without_the_guard_all_of_it_would_work(folders):
    code = BEGIN.replace('guard.protect([pathlib.Path(sys.argv[1]) / "references"])', "") + FORBIDDEN[0]
    done = subprocess.run(
        [sys.executable, "-c", code, str(folders), guard.__file__], cwd=folders / "mine", check=False
    )
    assert (done.returncode, (folders / "theirs.txt").read_text()) == (0, "")
