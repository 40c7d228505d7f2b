"""course.py: what it makes, what it leaves alone, what it runs and in which order, and its words when it cannot."""

import ast
import http.server
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.course_support import ECHO, ROOT, Course, Result, make_package, make_venv, make_wheel

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stubs are made for Linux and macOS")
SOURCE = (ROOT / "course.py").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course whose path has spaces, with nothing set up yet."""
    for name in [name for name in os.environ if name.startswith("COURSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COURSE_TORCH", "default")
    return Course(tmp_path / "a path with spaces" / "course")


@pytest.fixture
def problem(course, capsys):
    """The sentence with which set_up stops."""

    def sentence(*extras):
        with pytest.raises(SystemExit) as stopped:
            course.env.set_up(extras)
        assert isinstance(stopped.value.code, str)  # Python prints it on stderr and exits with 1
        assert "\n" not in stopped.value.code
        return stopped.value.code

    return sentence


# The command line.


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("lab", "--help")])
def test_usage(course, words):
    result = course.call(*words)
    assert (result.status, result.err) == (0, "")
    assert all(f"  {command} " in result.out for command in ("lab", "test", "run", "check", "serve"))
    assert not course.env.folder.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("lap",), "there is no command 'lap'"),
        (("test", "-k", "x"), "options go after two dashes: course.py test -- -k x"),
        (("lab", "--npu", "--port=1"), "options go after two dashes: course.py lab -- --port=1"),
        (("lab", "--report"), "--report belongs to check: course.py check --report course-report.json"),
        (("check", "--report", "a", "b"), "options go after two dashes: course.py check -- b"),
        (("run", "--npu", "--emulated-npu"), "argument --emulated-npu: not allowed with argument --npu"),
        (("lab", "--emu"), "options go after two dashes: course.py lab -- --emu"),
    ],
)
def test_not_understood(course, words, sentence):
    result = course.call(*words)
    assert result.status == 2
    assert result.err.splitlines()[0] == f"course.py: {sentence}"
    assert "usage:" in result.err
    assert not course.env.folder.exists()


@pytest.mark.parametrize(
    ("words", "kind", "report", "options"),
    [
        (("check",), "Environment", None, []),
        (("--npu", "check"), "AscendNPU", None, []),
        (("check", "--emulated-npu", "--report"), "EmulatedNPU", "course-report.json", []),
        (("check", "--report", "--npu"), "AscendNPU", "course-report.json", []),
        (("check", "--report=a", "--", "-h", "--", "--npu"), "Environment", "a", ["-h", "--", "--npu"]),
    ],
)
def test_understood(course, words, kind, report, options):
    request = course.py.parse(list(words))
    assert (request.command, request.kind.__name__) == ("check", kind)
    assert (request.report, request.options) == (report, options)


def test_options_of_serve_need_no_dashes(course):
    request = course.py.parse(["serve", "--port", "9000", "--emulated-npu", "--", "--api-key=a"])
    assert request.kind.__name__ == "EmulatedNPU"
    assert request.options == ["--port", "9000", "--api-key=a"]


def test_serve_brings_its_packages(course):
    assert course.py.main(["serve", "--port=9000", "--pages", "64"]) == 0
    assert course.calls[1][-1] == "."
    assert course.tools == ["venv", "pip", "helpers.model", "helpers.serving"]
    assert course.calls[-1][-3:] == ["--port=9000", "--pages", "64"]


@pytest.mark.parametrize("word", ["--replicas=2", "--replicas 2"])
def test_replicas_are_on_ray_in_an_environment_of_their_own(course, word):
    assert course.py.main(["serve", *word.split(), "--router", "prefix"]) == 0
    assert course.calls[0][-1] == str(course.root / ".venv-serve")
    assert course.calls[1][-1] == ".[replicas]"
    assert course.tools == ["venv", "pip", "helpers.model", "helpers.replicas"]
    assert course.calls[-1][-2:] == ["--router", "prefix"]


def test_replicas_in_one_process_need_no_ray(course):
    assert course.py.main(["serve", "--replicas=2", "--in-process"]) == 0
    assert course.calls[0][-1] == str(course.root / ".venv")
    assert course.calls[1][-1] == "."
    assert course.tools[-1] == "helpers.replicas"


def test_the_tests_on_ray_run_where_their_environment_is(course, capsys):
    ray = course.py.RayServe()
    assert ray.test_after_others() == 0
    assert course.calls == []
    assert "not run, because there is no" in capsys.readouterr().out
    course.made(env=ray)
    assert ray.test_after_others() == 0
    assert course.calls[-1][2:4] == ["pytest", "tests/replicas/on_ray"]
    assert json.loads(ray.stamp.read_text())["extras"] == ["replicas", "test"]
    course.answers["pytest"] = 3
    assert ray.test_after_others() == 3


def test_a_server_that_is_told_to_end_has_not_failed(course):
    course.made()
    process = course.start("serve", SLOW="serving")
    _await(course.root / "started")
    process.terminate()
    assert Result(process).status == 0


# Where it runs.


def test_is_in_the_syntax_of_python_3_6():
    tree = ast.parse(SOURCE, feature_version=(3, 6))
    imports = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert "__future__" not in imports
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    # Annotations are evaluated when a function is defined: `list[str]` would end an old Python with a traceback.
    assert not any(node.returns or any(arg.annotation for arg in node.args.args) for node in functions)


@pytest.mark.parametrize(
    "pythons", [{}, {"python3.11": 1}, {"python3.11": 1, "python3.13": 0, "python3.14": 0}]
)
def test_old_python_is_told_so_in_one_sentence(course, tmp_path, pythons):
    for name, status in pythons.items():
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    old = (
        f"import runpy, sys; sys.version_info = (3, 8, 10); sys.argv = ['course.py', 'lab', '--', '--port=1']; \
runpy.run_path({str(course.root / 'course.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", old], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert re.match(r"course.py: this is Python \S+, the course needs 3.11 or newer; ", done.stderr)
    assert done.stderr.count("\n") == 1
    hint = "run: python3.13 course.py lab -- --port=1" if 0 in pythons.values() else "install a newer one"
    assert done.stderr.endswith(f"; {hint}\n")


def test_the_oldest_python_is_the_one_that_pyproject_requires(course):
    assert SpecifierSet(PROJECT["requires-python"]) == SpecifierSet(">={}.{}".format(*course.py.OLDEST))


def test_intel_macos_is_told_so(course, monkeypatch):
    monkeypatch.setattr(course.py.sys, "platform", "darwin")
    monkeypatch.setattr(course.py.platform, "machine", lambda: "x86_64")
    with pytest.raises(SystemExit, match="not made for macOS on Intel"):
        course.py.main(["check"])


# The set-up: made, left alone, updated, made anew.


def test_made_from_nothing_and_then_left_alone(course):
    course.env.set_up(())
    assert course.tools == ["venv", "pip", "helpers.model"]
    pip = course.calls[1]
    assert pip[0] == str(course.root / ".venv" / "bin" / "python")
    assert pip[-4:] == ["-c", "constraints.txt", "-e", "."]
    assert "--quiet" in pip  # pytest's stdout is no terminal
    assert list(sys.version_info[:2]) in course.stamp()["made"]
    course.calls.clear()
    course.env.set_up(())
    assert course.tools == ["helpers.model"]


def test_with_a_terminal_pip_shows_its_progress(course, monkeypatch):
    monkeypatch.setattr(course.py.sys, "stdout", SimpleNamespace(isatty=lambda: True, write=len, flush=int))
    course.env.set_up(())
    assert "--quiet" not in course.calls[1]


def _half_made(env):
    env.stamp.write_text("{}")


def _without_stamp(env):
    env.stamp.unlink()


def _garbled_stamp(env):
    env.stamp.write_text('{"made": [')


def _no_interpreter(env):
    env.python.unlink()


def _dead_interpreter(env):
    env.python.unlink()
    env.python.write_text("#!/bin/sh\nexit 1\n")
    env.python.chmod(0o755)


def _module_gone(env):
    next(env.folder.glob("lib/python*/site-packages/transformers.py")).unlink()


def _helpers_not_installed(env):
    next(env.folder.glob("lib/python*/site-packages/course.pth")).unlink()


def _other_python(env):
    _edit_stamp(env, 3, [3, 10])


def _other_recipe(env):
    _edit_stamp(env, 0, 0)


def _edit_stamp(env, position, value):
    stamp = json.loads(env.stamp.read_text())
    stamp["made"][position] = value
    env.stamp.write_text(json.dumps(stamp))


@pytest.mark.parametrize(
    "damage",
    [
        _half_made, _without_stamp, _garbled_stamp, _no_interpreter, _dead_interpreter, _module_gone,
        _helpers_not_installed, _other_python, _other_recipe,
    ],
)  # fmt: skip
def test_damaged_environment_is_made_anew(course, damage, capsys):
    course.made()
    (course.env.folder / "old").touch()
    damage(course.env)
    course.env.set_up(())
    assert course.tools == ["venv", "pip", "helpers.model"]
    assert "making it anew" in capsys.readouterr().out
    assert not (course.env.folder / "old").exists()
    assert course.stamp() == course.env.make_stamp(())


def test_killed_before_venv_had_begun(course):
    course.env.folder.mkdir()
    course.env.stamp.write_text("{}")
    (course.env.folder / "lib").mkdir()
    course.env.set_up(())
    assert course.tools == ["venv", "pip", "helpers.model"]


def test_moved_repository_is_noticed(course):
    course.made()
    course.root = course.root.rename(course.root.with_name("moved"))
    course.load()
    course.env.set_up(())
    assert course.tools == ["venv", "pip", "helpers.model"]
    assert str(course.root) in course.stamp()["made"]


def test_made_anew_with_the_python_beneath(course, monkeypatch):
    monkeypatch.setattr(course.py.sys, "_base_executable", "/beneath/python3", raising=False)
    course.env.set_up(())
    assert course.calls[0][0] == "/beneath/python3"


def test_a_folder_that_is_no_environment_stays(course, problem):
    course.env.folder.mkdir()
    (course.env.folder / "thesis.txt").write_text("all of it")
    assert "holds what this course did not make, so it stays" in problem()
    assert [path.name for path in course.env.folder.iterdir()] == ["thesis.txt"]
    assert course.calls == []


def test_an_environment_of_someone_else_stays(course, problem, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_VENV", str(tmp_path / "work"))
    make_venv(tmp_path / "work")
    course.load()
    assert "holds what this course did not make, so it stays" in problem()
    assert (tmp_path / "work" / "pyvenv.cfg").exists()


def test_another_folder_can_be_named(course, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_VENV", str(tmp_path / "elsewhere" / "env"))
    course.load()
    course.made()
    _half_made(course.env)  # ours by its stamp, so it may be made anew
    course.env.set_up(())
    assert course.tools == ["venv", "pip", "helpers.model"]
    assert course.calls[0][-1] == str(tmp_path / "elsewhere" / "env")
    assert not (course.root / ".venv").exists()


def test_an_empty_folder_is_used(course):
    course.env.folder.mkdir()
    course.env.set_up(())
    assert course.tools == ["venv", "pip", "helpers.model"]


def test_making_anew_follows_no_link_out_of_the_environment(course, tmp_path):
    course.made()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").touch()
    (course.env.folder / "link").symlink_to(tmp_path / "mine")
    _half_made(course.env)
    course.env.set_up(())
    assert (tmp_path / "mine" / "kept").exists()


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_in_place(course, name):
    course.made("test")
    (course.root / name).write_text("# changed\n")
    course.env.set_up(())
    assert course.tools == ["pip", "helpers.model"]
    assert course.calls[0][-1] == ".[test]"
    assert course.stamp() == course.env.make_stamp(["test"])


def test_extras_are_added_in_place_and_kept(course):
    course.made()
    course.env.set_up(("test", "teach"))
    assert course.tools == ["pip", "helpers.model"]
    assert course.calls[0][-1] == ".[teach,test]"
    course.calls.clear()
    course.env.set_up(())
    assert course.tools == ["helpers.model"]


def test_failed_update_keeps_the_environment(course, problem):
    before = course.made().stamp()
    (course.root / "constraints.txt").write_text("# changed\n")
    course.answers["pip"] = "ERROR: Could not find a version that satisfies the requirement x\n"
    assert "the installation failed" in problem()
    assert course.stamp() == before
    del course.answers["pip"]
    course.calls.clear()
    course.env.set_up(())
    assert course.tools == ["pip", "helpers.model"]


def test_interrupted_update_is_made_anew(course):
    course.made()
    course.answers["pip"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        course.env.set_up(("test",))
    del course.answers["pip"]
    course.calls.clear()
    course.env.set_up(())
    assert course.tools[:2] == ["venv", "pip"]


def test_failed_installation_is_made_anew(course, problem):
    course.answers["pip"] = "ERROR\n"
    problem()
    course.answers.clear()
    course.calls.clear()
    course.env.set_up(())
    assert course.tools[:2] == ["venv", "pip"]


def test_without_the_model_nothing_is_opened(course):
    result = course.made() and course.call("lab", FAKE_MODEL="3")
    assert (result.status, result.names) == (3, ["model"])


# What it says when it cannot.


@pytest.mark.parametrize(("cpu_index", "needed"), [(True, 3), (False, 10)])
def test_needs_room_on_the_disk(course, problem, monkeypatch, cpu_index, needed):
    monkeypatch.setattr(course.py.sys, "platform", "linux")
    monkeypatch.setattr(
        course.py.Environment, "choose_torch", lambda self: ["--extra-index-url", "x"] if cpu_index else []
    )
    free = SimpleNamespace(free=needed * 1e9 - 1e8)
    monkeypatch.setattr(course.py.shutil, "disk_usage", lambda path: free)
    assert f"may take {needed} GB, and {needed - 0.1:.1f} GB are free" in problem()
    assert course.calls == []
    free.free += 2e8
    course.env.set_up(())
    assert course.tools[0] == "venv"


def test_a_python_without_ensurepip(course, problem, monkeypatch):
    found = course.py.importlib.util.find_spec
    monkeypatch.setattr(
        course.py.importlib.util, "find_spec", lambda name: name != "ensurepip" and found(name)
    )
    assert "apt install python3-venv" in problem()
    assert not course.env.folder.exists()


def test_a_folder_that_cannot_be_written(course, problem, monkeypatch):
    (course.root / "file").touch()
    monkeypatch.setenv("COURSE_VENV", str(course.root / "file" / "venv"))
    course.load()
    assert problem().startswith(f"course.py: cannot use {course.root / 'file'}")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("NewConnectionError('Failed to establish a new connection: [Errno 111] Connection refused')", "network"),
        ("'Failed to establish a new connection: [Errno -3] Temporary failure in name resolution'", "network"),
        ("(Caused by ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed')))", "network"),
        ("ERROR: Cannot install a and b because these have conflicting dependencies.", "for the reason above"),
    ],
)  # fmt: skip
def test_why_pip_failed(course, problem, said, sentence):
    course.answers["pip"] = said
    assert sentence in problem()


def test_a_full_disk_under_the_stamp(course, problem, monkeypatch):
    course.made()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(course.py.Environment, "finds_modules", full)
    assert "the disk is full" in problem()


def test_pips_words_are_shown_and_the_sentence_is_last(course):
    course.made()
    crash = 'Traceback (most recent call last):\n  File "a.py", line 1\n    f()\nOSError: [Errno 28] No space left on device\n'
    result = course.call("test", FAKE_PIP="1", FAKE_STDERR=f"WARNING: a\n  b\nERROR: Exception:\n{crash}")
    *words, sentence = result.err.splitlines()
    assert words == ["WARNING: a", "  b", "ERROR: Exception:", "OSError: [Errno 28] No space left on device"]
    assert sentence.startswith("course.py: the disk is full")
    assert result.status == 1


# PyTorch's index of CPU builds.


@pytest.mark.parametrize(
    ("platform", "device", "answers", "setting", "added"),
    [
        ("linux", None, True, "", True),
        ("linux", None, False, "", False),
        ("linux", None, None, "default", False),
        ("linux", "/dev/nvidia0", None, "", False),
        ("linux", "/dev/davinci3", True, "", True),
        ("darwin", None, None, "", False),
    ],
)
def test_cpu_index_is_used_where_it_fits(
    course, monkeypatch, capsys, platform, device, answers, setting, added
):
    asked = []
    monkeypatch.setattr(course.py, "answers", lambda url: asked.append(url) or answers)
    monkeypatch.setattr(course.py.sys, "platform", platform)
    monkeypatch.setattr(course.py.shutil, "which", lambda name: None)
    monkeypatch.setattr(
        course.py.glob, "glob", lambda pattern: [device] if device and _alike(device, pattern) else []
    )
    monkeypatch.setenv("COURSE_TORCH", setting)
    index = "https://download.pytorch.org/whl/cpu"
    assert course.env.choose_torch() == (["--extra-index-url", index] if added else [])
    assert asked == ([f"{index}/torch/"] if answers is not None else [])
    assert ("does not answer" in capsys.readouterr().out) == (answers is False)


def _alike(device, pattern):
    return Path(device).match(pattern)


def test_the_index_reaches_pip(course, monkeypatch):
    monkeypatch.setattr(course.py.Environment, "choose_torch", lambda self: ["--extra-index-url", "here"])
    monkeypatch.setattr(course.py.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e12))
    course.env.set_up(())
    assert course.calls[1][course.calls[1].index("--extra-index-url") + 1] == "here"


def test_an_index_that_answers(course):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/torch/" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert course.py.answers(f"{address}/torch/")
        assert not course.py.answers(f"{address}/other/")
        server.shutdown()


def test_an_index_that_hangs_or_is_not_there(course, monkeypatch):
    crashes = []
    monkeypatch.setattr(threading, "excepthook", crashes.append)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections and never says a word
        assert not course.py.answers(f"http://127.0.0.1:{server.getsockname()[1]}/", limit=0.3)
    with socket.socket() as deaf:  # has a port, so that nothing else gets it, and takes no connection
        deaf.bind(("127.0.0.1", 0))
        start = time.monotonic()
        assert not course.py.answers(f"http://127.0.0.1:{deaf.getsockname()[1]}/", limit=600)
        assert time.monotonic() - start < 300  # a refusal is not waited on
    assert crashes == []


def test_a_name_lookup_that_hangs(course, monkeypatch):
    end, ended = threading.Event(), []

    def hang(*_, **__):
        ended.append(end.wait(300))
        raise OSError

    monkeypatch.setattr(course.py.urllib.request, "urlopen", hang)
    assert not course.py.answers("http://nowhere/", limit=0.1)
    assert ended == [], "the look-up still hangs"
    end.set()


# The commands, as processes of their own.

BY_FILE = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
TOLD = ["-rs", "--durations=10"]


def test_test_runs_every_part(course):
    result = course.made(*course.py.TEST_EXTRAS) and course.call("test")
    assert result.status == 0
    assert course.part_names == ["ruff", "mypy", "in_sync", "pytest", "pytest"]
    assert result.names == ["model", *course.part_names]
    assert [words for _, words, _ in result.said[1:]] == [words for _, words in course.parts]
    assert [words for name, words in course.parts if name == "pytest"] == [
        [*BY_FILE, "--ignore=tests/npu", "--ignore=tests/browser", *TOLD],
        ["tests/browser", "-n", "3", "--dist", "load", *TOLD],
    ]
    shown = [line for line in result.out.splitlines() if line]
    for name in course.py.PARTS:
        at = shown.index(f"== {name}")
        assert re.fullmatch(rf"== {re.escape(name)}: passed in \d+\.\d s", shown[at + 2])
    assert shown[-3].startswith("== tests/npu: not run, because ")
    assert shown[-2].startswith("== tests/replicas/on_ray: not run, because there is no ")
    assert shown[-1] == "all parts passed"


@pytest.mark.parametrize(
    ("failing", "status"),
    [
        ({"FAKE_RUFF": "1"}, 1),
        ({"FAKE_MYPY": "2"}, 2),
        ({"FAKE_IN_SYNC": "1"}, 1),
        ({"FAKE_PYTEST": "5"}, 5),
        ({"FAKE_RUFF": "1", "FAKE_PYTEST": "2"}, 2),
    ],
)
def test_every_part_runs_though_one_fails(course, failing, status):
    result = course.made(*course.py.TEST_EXTRAS) and course.call("test", **failing)
    assert result.status == status
    assert result.names == ["model", *course.part_names]
    variables = [f"FAKE_{name.upper()}" for name in course.part_names]
    named = dict(zip(course.py.PARTS, variables, strict=True))
    failed = [name for name, variable in named.items() if variable in failing]
    assert result.out.splitlines()[-1] == f"FAILED: {', '.join(failed)}"
    for name in named:
        assert (f"== {name}: FAILED in " in result.out) == (name in failed)


def test_options_of_test_go_to_pytest_alone(course):
    result = course.made(*course.py.TEST_EXTRAS) and course.call(
        "test", "--", "-k", "a or b", "--", "x", FAKE_PYTEST="5"
    )
    assert result.status == 5
    assert result.names == ["model", "pytest"]
    assert result.said[1][1] == ["-k", "a or b", "--", "x"]


def test_lab_from_anywhere_and_through_a_link(course, tmp_path):
    course.made()
    (tmp_path / "link.py").symlink_to(course.root / "course.py")
    result = course.call("lab", "--", "--no-browser", "--port", "9999", program=tmp_path / "link.py", cwd="/")
    assert result.status == 0
    assert result.names == ["model", "jupyterlab"]
    words = result.said[1][1]
    assert words[-3:] == ["--no-browser", "--port", "9999"]
    assert f"--ServerApp.root_dir={course.root}" in words
    assert f"--LabApp.app_settings_dir={course.root}/tools/jupyterlab" in words
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in words
    assert ("--allow-root" in words) == (os.geteuid() == 0)


def test_lab_prints_its_address_and_warnings_unless_more_is_asked_for(course):
    course.made()
    assert {"--ServerApp.log_level=WARN", "--LabApp.log_level=WARN"} <= {*course.call("lab").said[1][1]}
    for level in ("--log-level=INFO", "--ServerApp.log_level=10", "--debug"):
        words = course.call("lab", "--", level).said[1][1]
        assert [word for word in words if "log" in word or "debug" in word] == [level]
    assert not any("log_level" in word for word in course.call("run").said[1][1])


@pytest.mark.parametrize(("command", "stub"), [("run", "run_notebooks"), ("check", "environment")])
def test_run_and_check_pass_on_options_and_exit_status(course, command, stub):
    result = course.made() and course.call(command, "--", "01_memory_math", **{f"FAKE_{stub.upper()}": "7"})
    assert result.status == 7
    assert result.names == ["model", stub]
    assert result.said[1][1] == ["01_memory_math"]


def test_children_see_this_environment_and_no_other(course, monkeypatch):
    for name in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/other")
    seen = course.env.variables()
    assert not {"PYTHONHOME", "PYTHONPATH"} & seen.keys()
    assert seen["VIRTUAL_ENV"] == str(course.env.folder)
    assert seen["PATH"].split(os.pathsep)[0] == str(course.env.folder / "bin")


@pytest.mark.parametrize(
    ("name", "setting", "seen"),
    [
        ("TORCH_DEVICE_BACKEND_AUTOLOAD", None, "0"),
        ("TORCH_DEVICE_BACKEND_AUTOLOAD", "1", "1"),
        ("PIP_RETRIES", None, "1"),
        ("PIP_RETRIES", "7", "7"),
        ("PYTHONPATH", "/other", None),
    ],
)
def test_what_children_are_told(course, monkeypatch, name, setting, seen):
    monkeypatch.delenv(name, raising=False)
    result = course.made() and course.call("check", **({name: setting} if setting else {}))
    assert [environment.get(name) for _, _, environment in result.said] == [seen, seen]


# Two at once, and ends before the end.


def _await(path):
    deadline = time.monotonic() + 200
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_the_second_waits_for_the_first(course):
    course.made()
    first = course.start("check", SLOW="model")
    _await(course.root / "started")
    second = course.start("check")
    assert second.stdout.readline() == "Another course.py is setting up here; waiting for it ...\n"
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.5)
    (course.root / "go").touch()
    for process in (first, second):
        result = Result(process)
        assert (result.status, result.names) == (0, ["model", "environment"])


def test_the_lock_ends_with_the_set_up(course):
    course.made()
    first = course.start("lab", SLOW="jupyterlab")
    _await(course.root / "started")
    assert "waiting" not in course.call("check").out
    (course.root / "go").touch()
    assert Result(first).status == 0


def test_a_pip_that_outlives_its_course_is_waited_for(course):
    course.made()
    (course.root / "constraints.txt").write_text("# changed\n")
    first = course.start("check", SLOW="pip")
    _await(course.root / "started")
    first.kill()
    first.wait()
    second = course.start("check")
    assert "waiting" in second.stdout.readline()
    os.killpg(second.pid, signal.SIGKILL)
    (course.root / "go").touch()
    Result(first), Result(second)


def test_control_c_ends_with_one_line(course):
    course.made()
    process = course.start("check", SLOW="environment")
    _await(course.root / "started")
    os.killpg(process.pid, signal.SIGINT)
    result = Result(process)
    assert result.status == 130
    assert result.err.endswith("\ncourse.py: interrupted\n")
    assert 'course.py", line' not in result.err


def test_a_child_may_end_well_after_control_c(course):
    course.made()
    polite = "import signal; signal.signal(signal.SIGINT, lambda *_: open('go', 'w'))"
    (course.root / "helpers" / "measurements" / "__main__.py").write_text(f"{polite}\n{ECHO}")
    process = course.start("check", SLOW="environment")
    _await(course.root / "started")
    os.killpg(process.pid, signal.SIGINT)
    result = Result(process)
    assert (result.status, result.err, result.names) == (0, "", ["model", "environment"])


def test_a_request_to_end_reaches_the_child(course):
    course.made()
    process = course.start("lab", SLOW="jupyterlab")
    _await(course.root / "started")
    process.terminate()
    result = Result(process, timeout=100)  # its pipes are closed: no child holds them
    assert result.status == 128 + signal.SIGTERM


def test_a_child_that_was_killed_is_a_failure(course):
    course.made()
    (course.root / "helpers" / "measurements" / "__main__.py").write_text(
        "import os; os.kill(os.getpid(), 9)"
    )
    assert course.call("check").status == 128 + signal.SIGKILL


# The emulated NPU.

runs_emulated = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the emulated NPU is tested on x86-64"
)
HERE = {"CC": sys.executable}  # a compiler that is there


@pytest.fixture
def emulated(course, monkeypatch):
    """The environment of the emulated NPU on a machine that can have it, where no index answers."""
    monkeypatch.setattr(course.py.sys, "platform", "linux")
    monkeypatch.setattr(course.py.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(course.py.glob, "glob", lambda pattern: [])
    monkeypatch.setattr(course.py, "answers", lambda url: False)
    monkeypatch.setattr(course.py.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e12))
    monkeypatch.setenv("CC", sys.executable)
    return course.py.EmulatedNPU()


def test_the_emulated_npu_has_an_environment_of_its_own(course, emulated):
    emulated.set_up()
    assert course.tools == ["venv", "pip", "helpers.model"]
    assert emulated.folder == course.root / ".venv-npu"
    assert course.calls[1][0] == str(emulated.python)
    assert course.calls[1][-5:] == ["torch==2.13.0+cpu", "-c", "constraints.txt", "-e", ".[npu]"]
    assert not course.env.folder.exists()
    course.calls.clear()
    emulated.set_up()
    assert course.tools == ["helpers.model"]
    emulated.set_up(("test",))
    assert course.calls[1][-1] == ".[npu,test]"


def test_the_environments_lie_beside_each_other(course, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_VENV", f"{tmp_path}/env/")
    kinds = course.py.Environment, course.py.EmulatedNPU, course.py.AscendNPU
    assert [kind().folder for kind in kinds] == [tmp_path / name for name in ("env", "env-npu", "env-ascend")]


def test_a_missing_torch_npu_is_noticed(course, emulated):
    course.made(env=emulated)
    next(emulated.folder.glob("lib/python*/site-packages/torch_npu.py")).unlink()
    emulated.set_up()
    assert course.tools[:2] == ["venv", "pip"]


def test_the_emulated_npu_takes_the_index_of_cpu_builds(course, emulated, monkeypatch):
    monkeypatch.setattr(
        course.py, "answers", lambda url: url == "https://download.pytorch.org/whl/cpu/torch/"
    )
    index = ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]
    assert emulated.choose_torch() == [*index, "torch==2.13.0+cpu"]


def test_the_emulated_npu_needs_room(course, emulated, monkeypatch):
    monkeypatch.setattr(course.py.shutil, "disk_usage", lambda path: SimpleNamespace(free=2.9e9))
    with pytest.raises(SystemExit, match=re.escape(".venv-npu may take 3 GB, and 2.9 GB are free")):
        emulated.set_up()


@pytest.mark.parametrize(
    ("system", "machine", "python", "device", "compiler", "sentence"),
    [
        (
            "darwin",
            "arm64",
            (3, 12),
            [],
            True,
            "made for Linux on x86-64 and aarch64; this is Thingy on arm64",
        ),
        ("linux", "riscv64", (3, 12), [], True, "this is Thingy on riscv64"),
        ("linux", "x86_64", (3, 15), [], True, "made for Python up to 3.14; this is "),
        ("linux", "aarch64", (3, 14), ["/dev/davinci0"], True, "there is a real NPU here"),
        ("linux", "aarch64", (3, 14), [], False, "needs a C compiler, and there is no cc or gcc here"),
        ("linux", "x86_64", (3, 11), [], "tcc", "needs a C compiler, and CC names tcc, which is not there"),
        ("linux", "x86_64", (3, 14), [], True, None),
        ("linux", "aarch64", (3, 11), [], True, None),
    ],
)
def test_where_the_emulated_npu_cannot_be(
    course, emulated, monkeypatch, system, machine, python, device, compiler, sentence
):
    monkeypatch.setattr(course.py.sys, "platform", system)
    monkeypatch.setattr(course.py.platform, "system", lambda: "Thingy")
    monkeypatch.setattr(course.py.platform, "machine", lambda: machine)
    monkeypatch.setattr(course.py.sys, "version_info", (*python, 0))
    monkeypatch.setattr(course.py.glob, "glob", lambda pattern: device if "davinci" in pattern else [])
    monkeypatch.setenv("CC", compiler if isinstance(compiler, str) else "")
    monkeypatch.setattr(
        course.py.shutil, "which", lambda name: "/bin/gcc" if compiler is True and name == "gcc" else None
    )
    if not sentence:
        assert emulated.obstacle() is None
        return
    with pytest.raises(SystemExit, match=re.escape(sentence)):
        emulated.set_up()
    assert course.calls == []
    assert not emulated.folder.exists()


def test_the_newest_python_is_what_the_pinned_torch_npu_is_built_for(course):
    assert "torch_npu==2.13.0" in [str(pin) for pin in _pins()], "look at its wheels, and mend NEWEST_NPU"
    assert course.py.NEWEST_NPU == (3, 14)


def test_the_oldest_torch_is_the_one_that_pyproject_requires(course):
    (torch,) = (requirement for requirement in _required() if requirement.name == "torch")
    assert torch.specifier == SpecifierSet(">={}.{}".format(*course.py.OLDEST_TORCH))


@runs_emulated
@pytest.mark.parametrize(
    ("command", "stub"), [("lab", "jupyterlab"), ("run", "run_notebooks"), ("check", "environment")]
)
def test_commands_on_the_emulated_npu(course, emulated, command, stub):
    course.made(env=emulated)
    result = course.call(
        command, "--emulated-npu", "--", "x", **HERE, **{f"FAKE_{stub.upper()}": "7"}, COURSE_DEVICE="cuda"
    )
    assert result.status == 7, result.err
    assert result.names == ["model", stub]
    assert result.said[1][1][-1] == "x"
    for _, _, variables in result.said:
        assert variables["COURSE_DEVICE"] == "emulated-npu"
        assert variables["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "0"
        assert variables["VIRTUAL_ENV"] == str(emulated.folder)
    assert not course.env.folder.exists()


@runs_emulated
@pytest.mark.parametrize("status", [0, 1])
def test_the_emulated_npu_is_tested_after_the_others(course, emulated, status):
    course.made(*course.py.TEST_EXTRAS).made("test", env=emulated)
    (emulated.folder / "failing").touch()
    stub = next(emulated.folder.glob("lib/python*/site-packages/pytest.py"))
    stub.write_text(stub.read_text().replace("sys.exit(", f"sys.exit({status} or "))
    result = course.call("test", **HERE)
    assert result.names == ["model", *course.part_names, "model", "pytest"]
    _, words, variables = result.said[-1]
    assert words == ["tests/npu", *BY_FILE, *TOLD]
    assert (variables["OMP_NUM_THREADS"], variables["PYTHONHASHSEED"]) == ("1", "0")
    assert variables["VIRTUAL_ENV"] == str(emulated.folder)
    assert variables["COURSE_DEVICE"] == "emulated-npu"
    assert "COURSE_DEVICE" not in result.said[-3][2]
    verdict, last = ("FAILED", "FAILED: tests/npu") if status else ("passed", "all parts passed")
    lines = [line for line in result.out.splitlines() if line]
    assert re.fullmatch(rf"== tests/npu: {verdict} in \d+\.\d s", lines[-3])
    assert (lines[-1], result.status) == (last, status)


@runs_emulated
def test_a_set_up_that_fails_fails_the_tests(course, emulated):
    course.made(*course.py.TEST_EXTRAS).made(
        env=emulated
    )  # without pytest's extra, which the pip beside it does not bring
    result = course.call("test", **HERE, FAKE_PIP="1", FAKE_STDERR="[Errno 28] No space left on device")
    assert result.status == 1
    assert result.names == ["model", *course.part_names, "pip"]
    assert "course.py: the disk is full; make room for " in result.err
    assert result.out.splitlines()[-1] == "FAILED: tests/npu"


@runs_emulated
def test_options_of_test_reach_the_ordinary_pytest_or_that_of_the_emulated_npu(course, emulated):
    course.made(*course.py.TEST_EXTRAS).made("test", env=emulated)
    assert course.call("test", "--", "-k", "x", **HERE).said[1:][0][1] == ["-k", "x"]
    result = course.call("test", "--emulated-npu", "--", "-k", "x", **HERE)
    assert [words for _, words, _ in result.said] == [[], ["tests/npu", "-k", "x"]]
    assert len(course.call("test", "--", "-k", "x", **HERE).said) == 2


def test_an_end_during_the_last_set_up_is_an_end(course, emulated, monkeypatch):
    def told(*_):
        raise SystemExit(143)

    monkeypatch.setattr(course.py.EmulatedNPU, "prepare", told)
    with pytest.raises(SystemExit, match="143"):
        emulated.test_after_others()


@pytest.mark.parametrize(
    ("machine", "said"), [("aarch64", "is tested on x86-64, this is aarch64"), ("x86_64", "C compiler")]
)
def test_why_the_emulated_npu_was_not_tested(course, emulated, monkeypatch, capsys, machine, said):
    monkeypatch.setattr(course.py.platform, "machine", lambda: machine)
    if machine == "x86_64":
        monkeypatch.setenv("CC", "no-such-compiler")
    assert emulated.test_after_others() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("== tests/npu: not run, because ")
    assert said in line
    assert course.calls == []


# The report.


def test_a_report_is_written_where_one_stands(course, tmp_path):
    course.made()
    for words, path in (
        (["--report"], tmp_path / "course-report.json"),
        (["--report", "a.json"], tmp_path / "a.json"),
        (["--report", "/x/b.json"], Path("/x/b.json")),
    ):
        result = course.call("check", *words, cwd=tmp_path)
        assert result.names == ["model", "environment", "operators"]
        assert result.said[2][1] == [str(path)]


def test_the_report_ends_with_its_own_status(course):
    course.made()
    assert course.call("check", "--report", FAKE_OPERATORS="4").status == 4
    result = course.call("check", "--report", FAKE_ENVIRONMENT="1")
    assert (result.status, result.names) == (1, ["model", "environment"])
    assert course.call("check").names == ["model", "environment"]


def test_a_report_may_be_of_the_emulated_npu(course, emulated, monkeypatch):
    course.made(env=emulated)
    assert course.py.main(["check", "--report", "--emulated-npu"]) == 0
    assert course.tools == ["helpers.model", "helpers.measurements", "helpers.measurements"]
    assert all(words[0] == str(emulated.python) for words in course.calls)


# A machine with an NPU.

BENEATH = {"torch": "2.9.0+cpu", "torch_npu": "2.9.0.post2", "numpy": "2.1.3"}
ASCEND_PROJECT = """
[project]
dependencies = ["torch>=2.7", "numpy>=2", "jupyterlab>=4,<5"]
[project.optional-dependencies]
test = ["pytest>=8", "torchy"]
npu = ["torch-npu"]
"""


@pytest.fixture
def ascend(course, monkeypatch, tmp_path):
    """The environment on a pretended Ascend machine, what it imports included."""
    (course.root / "pyproject.toml").write_text(ASCEND_PROJECT)
    (course.root / "constraints.txt").write_text(
        "# all\nnumpy==2.4.6\ntorch==2.13.0\ntorch_npu==2.13.0\ntorchy==1\n"
    )
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    beneath = dict(BENEATH)
    monkeypatch.setattr(course.py, "version_of", beneath.get)
    found = {
        "versions": ["2.9.0+cpu", "2.9.0.post2"],
        "files": ["/a/torch", "/a/torch_npu"],
        "folders": ["/a"],
    }
    monkeypatch.setattr(course.py.AscendNPU, "imports", lambda self, python: dict(found))
    env = course.py.AscendNPU()
    env.beneath, env.found = beneath, found
    return env


def test_an_ascend_environment_is_made_over_what_is_there(course, ascend):
    ascend.set_up(("test",))
    assert course.tools == ["venv", "pip", "pip", "pip", "helpers.model"]
    assert ascend.folder == course.root / ".venv-ascend"
    venv, base, extras, own, _ = course.calls
    assert venv == [sys.executable, "-m", "venv", "--system-site-packages", str(ascend.folder)]
    assert base[-5:] == [
        "-c",
        f"{ascend.folder}/course-constraints.txt",
        "--ignore-installed",
        "numpy>=2",
        "jupyterlab>=4,<5",
    ]
    assert extras[-4:] == ["-c", f"{ascend.folder}/course-constraints.txt", "pytest>=8", "torchy"]
    assert own[-3:] == ["--no-deps", "-e", "."]
    pins = (ascend.folder / "course-constraints.txt").read_text().splitlines()
    assert pins == ["# all", "torchy==1", "torch==2.9.0+cpu", "torch_npu==2.9.0.post2", "numpy==2.1.3"]
    (beneath,) = ascend.folder.glob("lib/python*/site-packages/course-beneath.pth")
    assert beneath.read_text() == "/a"


def test_an_ascend_environment_is_left_alone_and_extended(course, ascend):
    course.made(env=ascend)
    ascend.set_up()
    assert course.tools == ["helpers.model"]
    course.calls.clear()
    ascend.set_up(("test",))
    assert course.tools == ["pip", "pip", "helpers.model"]
    assert "--ignore-installed" not in course.calls[0]


def test_what_is_found_elsewhere_than_in_the_environment_will_do(course, ascend, monkeypatch, tmp_path):
    course.made(env=ascend)
    (torch,) = ascend.folder.glob("lib/python*/site-packages/torch.py")
    torch.rename(tmp_path / "torch.py")
    monkeypatch.setenv(
        "PYTHONPATH", str(tmp_path)
    )  # as good as the user's own packages, and those of a machine
    ascend.set_up()
    assert course.tools == ["helpers.model"]


@pytest.mark.parametrize("change", ["torch", "torch_npu", "constraints"])
def test_an_ascend_environment_is_made_anew_over_other_versions(course, ascend, change):
    course.made(env=ascend)
    if change == "constraints":
        (course.root / "constraints.txt").write_text("torch==2.14.0\n")
    else:
        ascend.beneath[change] = "2.10.0"
    ascend.set_up()
    assert course.tools == ["venv", "pip", "pip", "helpers.model"]


def test_an_old_numpy_beneath_is_not_kept(course, ascend):
    ascend.beneath["numpy"] = "1.26.4"
    assert "numpy==2.4.6" in ascend.constraints()
    del ascend.beneath["numpy"]
    assert "numpy==2.4.6" in ascend.constraints()


@pytest.mark.parametrize(
    ("what", "value"), [("versions", ["2.13.0", "2.9.0.post2"]), ("files", ["/b/torch", "/a/torch_npu"])]
)
def test_another_torch_in_the_environment_is_noticed(course, ascend, monkeypatch, what, value):
    shadowed = {**ascend.found, what: value, "folders": []}
    monkeypatch.setattr(
        course.py.AscendNPU,
        "imports",
        lambda self, python: shadowed if python == self.python else ascend.found,
    )
    there, here = (" and ".join(found[what]) for found in (ascend.found, shadowed))
    sentence = f"torch and torch_npu are {there} on this machine, but {here} in {ascend.folder}"
    with pytest.raises(SystemExit, match=re.escape(sentence)):
        ascend.set_up()
    assert ascend.read_stamp() == {}
    monkeypatch.setattr(course.py.AscendNPU, "imports", lambda self, python: ascend.found)
    course.calls.clear()
    ascend.set_up()
    assert course.tools[0] == "venv"


def test_a_failed_installation_over_ascend_is_made_anew(course, ascend):
    course.answers["pip"] = "ERROR: Could not find a version"
    with pytest.raises(SystemExit, match="the installation failed"):
        ascend.set_up()
    assert course.tools == ["venv", "pip"]
    assert not (ascend.folder / "course-base").exists()
    assert ascend.read_stamp() == {}


@pytest.mark.parametrize(
    ("versions", "sentence"),
    [
        ({"torch_npu": None}, "has no torch_npu; start with"),
        ({"torch": None, "torch_npu": None}, "has no torch and no torch_npu; start with"),
        ({"torch": "2.6.0"}, "the torch here is 2.6.0, and the course needs 2.7 or newer: docs/npu.md"),
        ({"torch": "1.11.0"}, "the torch here is 1.11.0"),
    ],
)
def test_what_an_ascend_machine_lacks(course, ascend, versions, sentence):
    ascend.beneath.update(versions)
    with pytest.raises(SystemExit, match=re.escape(sentence)):
        ascend.set_up()
    assert course.calls == []
    assert not ascend.folder.exists()


def test_without_canns_environment(course, ascend, monkeypatch, tmp_path):
    (tmp_path / "set_env.sh").touch()
    monkeypatch.delenv("ASCEND_HOME_PATH")
    monkeypatch.setattr(course.py, "SET_ENV", ("/nowhere/set_env.sh", str(tmp_path / "set_env.sh")))
    assert f"(ASCEND_HOME_PATH); run: source {tmp_path}/set_env.sh; then" in ascend.obstacle()
    monkeypatch.setattr(course.py, "SET_ENV", ("/nowhere/set_env.sh",))
    assert "run: source the set_env.sh of your CANN; then" in ascend.obstacle()
    monkeypatch.setenv("ASCEND_HOME_PATH", "/nowhere/cann")
    assert ascend.obstacle().startswith("ASCEND_HOME_PATH names /nowhere/cann, and there is no such folder")


def test_what_children_of_an_ascend_environment_are_told(course, ascend, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/cann/python")
    monkeypatch.setenv("PYTHONHOME", "/other")
    seen = ascend.variables()
    assert (seen["COURSE_DEVICE"], seen["PYTHONPATH"], "PYTHONHOME" in seen) == ("npu", "/cann/python", False)
    monkeypatch.setenv("COURSE_DEVICE", "npu:3")
    assert ascend.variables()["COURSE_DEVICE"] == "npu:3"
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert ascend.variables()["COURSE_DEVICE"] == "npu"
    monkeypatch.delenv("PYTHONPATH")
    assert "PYTHONPATH" not in ascend.variables()


def test_from_the_activated_environment_the_python_beneath_is_remembered(course, ascend, monkeypatch):
    course.made(env=ascend)
    made_with = sys.executable
    monkeypatch.setattr(course.py.sys, "prefix", str(ascend.folder))
    monkeypatch.setattr(course.py.sys, "executable", str(ascend.python))
    ascend.set_up()
    assert course.tools == ["helpers.model"]
    ascend.beneath["torch"] = "2.10.0"
    ascend.set_up()
    assert course.calls[1][:3] == [made_with, "-m", "venv"]
    ascend.stamp.write_text("{}")
    assert "which is not whole; start with the one that has torch_npu" in ascend.obstacle()


def test_the_tests_of_an_ascend_machine(course, ascend):
    statuses = iter([0, 0, 3])
    ran = []
    course.made("test", env=ascend)
    ascend.run = lambda words, **variables: ran.append((words, variables)) or next(statuses)
    assert ascend.test([]) == 3
    apart = ["--ignore=tests/npu", "--ignore=tests/browser"]
    assert ran[1:] == [
        (["-m", "helpers.measurements", "operators"], {}),
        (["-m", "pytest", "tests", *apart, *TOLD], {"COURSE_DEVICE": "cpu"}),
    ]
    statuses = iter([0, 5])
    assert ascend.test(["-k", "x"]) == 5
    assert ran[-1] == (["-m", "pytest", "-k", "x"], {"COURSE_DEVICE": "cpu"})


# With the real venv and the real pip, offline.

BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    info = "small-1.dist-info"
    with zipfile.ZipFile(f"{folder}/small-1-py3-none-any.whl", "w") as wheel:
        for name in MODULES:
            wheel.writestr(f"{name}.py", "")
        wheel.writestr("small.pth", ROOT)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "small-1-py3-none-any.whl"
"""


def test_with_the_real_pip_and_then_without_a_network(course):
    names = [name for name in course.py.MODULES[""] if name != "helpers"]
    (course.root / "backend.py").write_text(f"MODULES = {names}\nROOT = {str(course.root)!r}\n{BACKEND}")
    backend = '[build-system]\nbuild-backend = "backend"\nbackend-path = ["."]\nrequires = []\n'
    (course.root / "pyproject.toml").write_text(backend)
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}/simple"
    pip = {
        name: os.devnull if name == "PIP_CONFIG_FILE" else ""
        for name in os.environ
        if name.startswith("PIP_")
    }
    pip = {**pip, "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": closed}
    first = course.call("check", **pip)
    assert (first.status, first.names) == (0, ["model", "environment"]), first.err
    assert f"Installing the course in {course.root / '.venv'}" in first.out
    stamp = course.stamp()
    again = course.call("check", **pip)
    assert (again.names, "Installing" in again.out) == (["model", "environment"], False)
    (course.root / "pyproject.toml").write_text(backend.replace("[]", '["hatchling"]'))
    offline = course.call("check", **pip)
    assert (offline.status, offline.names) == (1, [])
    assert offline.err.splitlines()[-1].startswith("course.py: the package index cannot be reached")
    assert course.stamp() == stamp


# What is installed.


def test_environment_yml_agrees_with_pyproject_and_course(course):
    recipe = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in recipe["dependencies"] if isinstance(entry, dict)]
    conda = [entry for entry in recipe["dependencies"] if isinstance(entry, str)]
    assert "pip" in conda
    (python,) = [entry.removeprefix("python=") for entry in conda if entry.startswith("python=")]
    assert python in SpecifierSet(PROJECT["requires-python"])
    (editable,) = [line for line in pip if line.startswith("-e ")]
    extras = Requirement(editable.removeprefix("-e .").join(["course", ""])).extras
    assert extras == set(course.py.TEST_EXTRAS)
    assert "--constraint constraints.txt" in pip
    assert f"--extra-index-url {course.py.CPU_INDEX}" in pip


def _pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def _required():
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for text in sum(extras, PROJECT["dependencies"])]


def test_constraints_pin_exact_versions_once():
    names = [canonicalize_name(pin.name) for pin in _pins()]
    assert len(names) == len(set(names))
    assert all(str(pin.specifier).startswith("==") for pin in _pins())
    assert "torch==2.13.0" in [str(pin) for pin in _pins()]


@pytest.mark.parametrize("requirement", _required(), ids=str)
def test_constraints_pin_what_pyproject_names(requirement):
    pins = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in _pins()}
    assert canonicalize_name(requirement.name) in pins
    assert pins[canonicalize_name(requirement.name)] in requirement.specifier


def test_every_extra_that_is_looked_for_exists(course):
    assert course.py.MODULES.keys() - {""} <= PROJECT["optional-dependencies"].keys()
    assert set(course.py.TEST_EXTRAS) <= PROJECT["optional-dependencies"].keys()


# A pretended Ascend machine with the real venv and the real pip.


@pytest.fixture
def machine(course, tmp_path):
    """A course and an index without a network; the interpreter has a torch, a torch_npu, an old library, all in place."""
    names = [name for name in course.py.MODULES[""] if name not in ("torch", "helpers")]
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in names:
        make_wheel(wheels, name, "4.1", requires=("numpy",) if name == "gguf" else ())
    for version in ("2.1.3", "2.4.6"):
        make_wheel(wheels, "numpy", version)
    make_wheel(wheels, "torch", "2.13.0")  # what must not be taken
    make_wheel(wheels, "torch_npu", "2.13.0")
    (course.root / "constraints.txt").write_text("torch==2.13.0\ntorch_npu==2.13.0\nnumpy==2.4.6\n")
    (course.root / "backend.py").write_text(f"MODULES = []\nROOT = {str(course.root)!r}\n{BACKEND}")
    backend = '[build-system]\nbuild-backend = "backend"\nbackend-path = ["."]\nrequires = []\n'
    project = f"[project]\nname = 'small'\nversion = '1'\ndependencies = {['torch>=2.7', *names]}\n"
    extras = '[project.optional-dependencies]\nnpu = ["torch-npu"]\n'
    (course.root / "pyproject.toml").write_text(backend + project + extras)
    make_venv(tmp_path / "conda")
    library = next((tmp_path / "conda").glob("lib/python*/site-packages"))
    make_package(library, "torch", "2.9.0+cpu")
    needs_cann = "import os\nif 'CANN_IS_BROKEN' in os.environ: raise ImportError('libhccl.so: cannot open')"
    make_package(library, "torch_npu", "2.9.0.post2", needs_cann, requires=("torch==2.9.0",))
    make_package(library, "numpy", "2.1.3")
    make_package(
        library, "jupyterlab", "4.1"
    )  # with the very version, but its files are not in the environment
    no_index = {name: "" for name in os.environ if name.startswith("PIP_")}
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels.as_uri()}
    variables = {**no_index, **settings, "ASCEND_HOME_PATH": str(tmp_path), "PYTHONPATH": "/cann/python"}
    return SimpleNamespace(python=tmp_path / "conda" / "bin" / "python", library=library, variables=variables)


def test_on_a_machine_with_an_npu(course, machine):
    result = course.call("check", "--npu", python=machine.python, **machine.variables)
    assert (result.status, result.names) == (0, ["model", "environment"]), result.err
    for _, _, variables in result.said:
        assert (variables["COURSE_DEVICE"], variables["PYTHONPATH"]) == ("npu", "/cann/python")
    env = course.root / ".venv-ascend"
    shown = "import importlib as i; m = [i.import_module(n) for n in ('torch', 'torch_npu', 'numpy', 'jupyterlab', 'gguf')]; print(*((x.__version__, x.__file__.split('/lib/')[0]) for x in m), sep='\\n')"
    done = subprocess.run(
        [env / "bin/python", "-c", shown], capture_output=True, text=True, check=True, cwd="/"
    )
    beneath, own = str(machine.python.parent.parent), str(env)
    assert [ast.literal_eval(line) for line in done.stdout.splitlines()] == [
        ("2.9.0+cpu", beneath), ("2.9.0.post2", beneath), ("2.1.3", own), ("4.1", own), ("4.1", own),
    ]  # fmt: skip
    assert not list(env.glob("lib/python*/site-packages/torch*"))
    assert sorted(p.name for p in machine.library.glob("torch*info")) == [
        "torch-2.9.0+cpu.dist-info", "torch_npu-2.9.0.post2.dist-info",
    ]  # fmt: skip
    again = course.call("check", "--npu", python=machine.python, **machine.variables)
    assert (again.status, again.out.count("Installing")) == (0, 0)
    inside = course.call("check", "--npu", python=env / "bin/python", **machine.variables)
    assert (inside.status, inside.out.count("Installing")) == (0, 0), inside.err


def test_a_torch_npu_that_cannot_be_imported(course, machine):
    result = course.call("lab", "--npu", python=machine.python, **machine.variables, CANN_IS_BROKEN="1")
    assert (result.status, result.names) == (1, [])
    assert "cannot import it (ImportError: libhccl.so: cannot open); docs/npu.md has the pairs" in result.err
    assert "Traceback" not in result.err
    assert not list((course.root / ".venv-ascend").iterdir())


def test_a_python_without_torch_npu(course, machine):
    shutil.rmtree(machine.library / "torch_npu-2.9.0.post2.dist-info")
    result = course.call("lab", "--npu", python=machine.python, **machine.variables)
    assert (result.status, result.err.count("\n")) == (1, 1)
    assert f"and {machine.python} has no torch_npu; start with the Python that has both" in result.err
