#!/usr/bin/env python3
"""Sets the course up in .venv, once, and then opens, tests or runs it.

usage: python3 course.py COMMAND [-- OPTIONS]

  lab     opens JupyterLab at the first notebook; OPTIONS are JupyterLab's: --no-browser, --port 9000
  test    style, types, notebooks in sync, all tests; with OPTIONS, which are pytest's, pytest alone
  run     executes all notebooks without a browser; OPTIONS are those of tools/run_notebooks.py
  check   prints what is installed, which device is used, and whether the model is ready

environment variables:

  COURSE_TORCH=default   takes PyTorch as PyPI has it; otherwise a Linux without accelerator takes the CPU build
  COURSE_VENV=FOLDER     another folder than .venv
  COURSE_MODEL, COURSE_CACHE, COURSE_DEVICE   see README.md
"""
# Standard library only, and in the syntax of Python 3.6: an old Python must get far enough to say that it is too old.

import contextlib
import glob
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two set-ups at once are not kept apart there
    fcntl = None

ROOT = Path(__file__).resolve().parent
ENV = Path(os.path.abspath(os.path.expanduser(os.environ.get("COURSE_VENV") or str(ROOT / ".venv"))))
PYTHON = ENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = ENV / "course-stamp.json"  # says what was installed; empty braces: half-made

OLDEST = (3, 11)
RECIPE = 1  # raise it when environments made by earlier versions of this file must be made anew
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TEST_EXTRAS = ("test", "teach")
# What each extra is known by; looked for at every start, and not imported.
MODULES = {
    "": ("torch", "transformers", "gguf", "safetensors", "matplotlib", "ipywidgets", "jupyterlab", "helpers"),
    "test": ("pytest", "pytest_cov", "hypothesis", "nbclient", "nbval", "ruff", "mypy"),
    "teach": ("nbgrader",),
}
PROBE = "import importlib.util as u, sys; sys.exit(any(u.find_spec(name) is None for name in sys.argv[1:]))"
FULL = re.compile(r"No space left on device|\[Errno 28\]|Disk quota exceeded")
OFFLINE = re.compile(
    "Failed to establish a new connection|name resolution|NameResolutionError|Connection refused|ProxyError"
    "|Network is unreachable|ConnectTimeout|ReadTimeout|Read timed out|Connection aborted|CERTIFICATE_VERIFY_FAILED"
)

LAB = ["-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}"]
LAB += [f"--LabApp.app_settings_dir={ROOT / 'tools' / 'jupyterlab'}"]
LAB += ["--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]
LAB += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
COMMANDS = {
    "lab": LAB,
    "test": ["-m", "pytest", "--cov=helpers"],
    "run": ["tools/run_notebooks.py"],
    "check": ["-m", "helpers.environment"],
}
BEFORE_PYTEST = {
    "ruff check .": ["-m", "ruff", "check", "."],
    "mypy": ["-m", "mypy"],
    "tools/in_sync.py": ["tools/in_sync.py"],
}


def main(arguments):
    """The exit status of one command line."""
    require_platform(arguments)
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    own, options = arguments[:cut], arguments[cut + 1 :]
    if not own or "-h" in own or "--help" in own:
        print(__doc__)
        return 0
    if own[0] not in COMMANDS or len(own) > 1:
        hint = f"options go after two dashes: course.py {own[0]} -- {' '.join(own[1:])}"
        complaint = hint if own[0] in COMMANDS else f"there is no command {own[0]!r}"
        print(f"course.py: {complaint}\n\n{__doc__}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        set_up(TEST_EXTRAS if own[0] == "test" else ())
        early = early_parts() if own[0] == "test" and not options else 0
        return run([PYTHON, *COMMANDS[own[0]], *options]) or early
    except KeyboardInterrupt:
        print("\ncourse.py: interrupted", file=sys.stderr)
        return 130


def require_platform(arguments):
    """Stops where this Python or this machine will not do."""
    if sys.version_info[:2] < OLDEST:
        newer = newer_python()
        hint = " ".join(["run:", newer, "course.py", *arguments]) if newer else "install a newer one"
        oldest = ".".join(map(str, OLDEST))
        stop(f"this is Python {platform.python_version()}, the course needs {oldest} or newer; {hint}")
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        stop("this PyTorch is not made for macOS on Intel; use Linux, or an arm64 Python on Apple silicon")


def newer_python():
    """The name of a Python on PATH that is new enough and starts, or None; the oldest such has most wheels."""
    for name in [f"python3.{minor}" for minor in range(OLDEST[1], OLDEST[1] + 9)]:
        if shutil.which(name) and subprocess.call([name, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            return name
    return None


def early_parts():
    """1 when a part of the tests before pytest failed, else 0; all are run, and pytest's summary stays the last line."""
    failed = []
    for name, words in BEFORE_PYTEST.items():
        say(f"== {name}")
        start = time.perf_counter()
        if run([PYTHON, *words]):
            failed.append(name)
        say(f"== {name}: {'FAILED' if name in failed else 'passed'} in {time.perf_counter() - start:.1f} s\n")
    if failed:
        say(f"FAILED before pytest: {', '.join(failed)}\n")
    say("== pytest --cov=helpers")
    return int(bool(failed))


def set_up(extras):
    """Makes the virtual environment and the model ready, by one course.py at a time; stops when it cannot."""
    with locked():
        try:
            prepare(extras)
        except OSError as error:
            cannot = f"cannot use {error.filename or ENV} ({error.strerror}); make it yours, or clone anew"
            stop(explain(str(error), otherwise=cannot))
        status = run([PYTHON, "-m", "helpers.checkpoint"])
    if status:
        raise SystemExit(status)  # it has said why


def prepare(extras):
    """Leaves the virtual environment alone, updates it in place, or makes it anew, as its stamp and its modules say."""
    stamp = read_stamp()
    wanted = make_stamp(set(extras).union(stamp.get("extras", [])))
    whole = stamp.get("made") == wanted["made"] and finds_modules(stamp.get("extras", []))
    if whole and stamp == wanted:
        return
    torch_options = choose_torch()
    if not whole:
        create(room=3 if torch_options or sys.platform != "linux" else 10)
    say(f"Installing the course in {ENV} (takes minutes the first time) ...")
    STAMP.write_text("{}")  # what a killed update leaves is made anew, too
    problem = install(wanted["extras"], torch_options)
    if problem:
        # A pip that fails by itself leaves what was there in working order.
        STAMP.write_text(json.dumps(stamp if whole else {}))
        stop(problem)
    STAMP.write_text(json.dumps(wanted))


def make_stamp(extras):
    """The stamp of an environment that is as it should be; `made` is what cannot be changed in place."""
    content = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    made = [RECIPE, str(ROOT), str(ENV), list(sys.version_info[:2])]
    return {"made": made, "files": hashlib.sha256(content).hexdigest(), "extras": sorted(extras)}


def read_stamp():
    """The environment's stamp; empty where there is none."""
    try:
        return dict(json.loads(STAMP.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def finds_modules(extras):
    """Whether the environment's Python starts and finds what the course and these extras need."""
    names = [name for extra in ["", *extras] for name in MODULES.get(extra, ())]
    try:
        # -I: installed, not merely lying in the current folder
        return subprocess.call([str(PYTHON), "-I", "-c", PROBE, *names], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def create(room):
    """Makes an empty virtual environment, in place of any that is there, where the disk has `room` GB."""
    if not importlib.util.find_spec("venv") or not importlib.util.find_spec("ensurepip"):
        stop("this Python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv")
    ENV.mkdir(parents=True, exist_ok=True)
    old = [path for path in ENV.iterdir() if path != STAMP]
    replaceable = ENV == ROOT / ".venv" and (ENV / "pyvenv.cfg").exists()
    if old and not STAMP.exists() and not replaceable:
        stop(f"{ENV} holds what this course did not make, so it stays; move it away, or set COURSE_VENV")
    if old:
        say(f"{ENV} is incomplete, or from elsewhere, or of another Python: making it anew.")
    STAMP.write_text("{}")  # from here on the folder is known as ours, however far this gets
    for path in old:
        shutil.rmtree(str(path)) if path.is_dir() and not path.is_symlink() else path.unlink()
    free = shutil.disk_usage(str(ENV)).free / 1e9
    if free < room:
        stop(f"{ENV} may take {room} GB, and {free:.1f} GB are free; make room, or set COURSE_VENV")
    # The Python beneath: from an activated .venv, this one has just been deleted.
    base, said = getattr(sys, "_base_executable", None) or sys.executable, []
    if run([base, "-m", "venv", ENV], said):
        stop(explain("".join(said)))


def install(extras, torch_options):
    """One sentence on why pip failed, or None; pip's own words are shown as they come."""
    command = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *torch_options]
    command += [] if sys.stdout.isatty() else ["--quiet"]
    command += ["-c", "constraints.txt", "-e", f".[{','.join(extras)}]" if extras else "."]
    said = []
    return explain("".join(said)) if run(command, said) else None


def explain(said, otherwise="the installation failed for the reason above; mend that and start again"):
    """One sentence for the failure of a command that wrote this to stderr."""
    if FULL.search(said):
        return f"the disk is full; make room for {ENV}, pip's cache and temporary files (TMPDIR), and start again"
    if OFFLINE.search(said):
        return "the package index cannot be reached; check the network (proxy, certificates), and start again"
    return otherwise


def choose_torch():
    """pip's options for PyTorch: the index of its CPU builds where these will do and it answers, else none."""
    accelerator = glob.glob("/dev/nvidia0") or shutil.which("nvidia-smi")  # torch_npu goes with the CPU build
    if sys.platform != "linux" or accelerator or os.environ.get("COURSE_TORCH") == "default":
        return []
    if answers(CPU_INDEX + "/torch/"):
        return ["--extra-index-url", CPU_INDEX]
    say("PyTorch's index of CPU builds does not answer; the build from PyPI, which may be larger, will do.")
    return []


def answers(url, limit=5.0):
    """Whether the address answers within `limit` seconds; in a thread, because a name look-up knows no limit."""
    found = []

    def ask():
        with contextlib.suppress(OSError, ValueError):
            urllib.request.urlopen(url, timeout=limit).close()
            found.append(url)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limit)
    return bool(found)


@contextlib.contextmanager
def locked():
    """A block that one course.py at a time is in; another says that it waits."""
    # What is locked is this file: it is there, and a lock on it needs no right to write.
    with open(str(ROOT / "course.py")) as file:
        if fcntl:
            os.set_inheritable(file.fileno(), True)  # a pip that outlives its course.py still holds the lock
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another course.py is setting up here; waiting for it ...")
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # a file system without locks
                pass
        yield


def run(command, said=None):
    """The exit status of a command run in ROOT; with a list `said`, its stderr is shown and kept there as well."""
    child = subprocess.Popen(
        [str(word) for word in command], cwd=str(ROOT), env=child_environment(), close_fds=False,
        stderr=None if said is None else subprocess.PIPE, universal_newlines=True, errors="replace",
    )  # fmt: skip
    # The child gets a Ctrl-C, too, and ends in its own way, JupyterLab with a question: its end is waited for.
    interrupted, within_traceback = [], False
    usual = signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    try:
        for line in child.stderr or ():
            said.append(line)
            # Of a traceback, its last line is shown: pip's are long, and tell a reader nothing.
            within_traceback = line.startswith(("Traceback ", "  ") if within_traceback else "Traceback ")
            sys.stderr.write("" if within_traceback else line)
        child.wait()
    finally:
        if child.poll() is None:  # we were told to end
            child.terminate()
            child.wait()
        signal.signal(signal.SIGINT, usual)
    if interrupted and child.returncode:
        raise KeyboardInterrupt
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def child_environment():
    """The environment of every child: the virtual environment first, and nothing of another Python's."""
    environment = dict(os.environ, VIRTUAL_ENV=str(ENV))
    environment["PATH"] = str(PYTHON.parent) + os.pathsep + os.environ.get("PATH", os.defpath)
    for name in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"):
        environment.pop(name, None)
    # With torch_npu installed and no CANN, `import torch` fails unless this is off.
    environment.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    # Without a network pip should say so soon; an option would not reach the pip that it runs for the build.
    environment.setdefault("PIP_RETRIES", "1")
    return environment


def say(line):
    """Prints a line before whatever a child prints next."""
    print(line, flush=True)


def stop(sentence):
    """Ends the program with one sentence on stderr and exit status 1."""
    raise SystemExit("course.py: " + sentence)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
