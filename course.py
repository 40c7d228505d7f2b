#!/usr/bin/env python3
"""Sets the course up in .venv, once, and then opens, tests or runs it.

usage: python3 course.py COMMAND [--npu | --emulated-npu] [-- OPTIONS]

  lab     opens JupyterLab at the first notebook; OPTIONS are JupyterLab's: --no-browser, --port 9000
  test    style, types, notebooks in sync, all tests; with OPTIONS, which are pytest's, pytest alone
  run     executes all notebooks without a browser; OPTIONS are those of tools/run_notebooks.py
  check   prints what is installed, which device is used, and whether the model is ready;
          --report [FILE] then tries every operator, times the model and writes FILE (course-report.json)

  --npu            on an Ascend NPU, in .venv-ascend, over the torch and torch_npu that are there (docs/npu.md)
  --emulated-npu   on an emulated NPU, in .venv-npu: the real torch_npu, slowly, on a CPU with a C compiler

environment variables:

  COURSE_TORCH=default   takes PyTorch as PyPI has it; otherwise a Linux without accelerator takes the CPU build
  COURSE_VENV=FOLDER     another folder than .venv; those of NPUs are FOLDER-ascend and FOLDER-npu
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
OLDEST = (3, 11)
OLDEST_TORCH = (2, 7)  # on a machine that brings its own
NEWEST_NPU = (3, 14)  # the newest Python that the pinned torch_npu is built for
RECIPE = 1  # raise it when environments made by earlier versions of this file must be made anew
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TEST_EXTRAS = ("test", "teach")
# Two workers, one thread each: more threads than cores wait for each other. `loadfile` keeps a notebook in one kernel.
WORKERS = ["-n", "2", "--dist", "loadfile"]
IN_ORDER = ["--no-loadscope-reorder"]  # of files; otherwise those with the most tests come first
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
NPU_TESTS = ["-m", "pytest", "tests/npu"]
# What each extra is known by; looked for at every start, and not imported.
MODULES = {
    "": ("torch", "transformers", "gguf", "safetensors", "matplotlib", "ipywidgets", "jupyterlab", "helpers"),
    "test": ("pytest", "pytest_cov", "xdist", "hypothesis", "nbclient", "nbval", "ruff", "mypy"),
    "teach": ("nbgrader",),
    "npu": ("torch_npu",),
}
PROBE = "import importlib.util as u, sys; sys.exit(any(u.find_spec(name) is None for name in sys.argv[1:]))"
FULL = re.compile(r"No space left on device|\[Errno 28\]|Disk quota exceeded")
OFFLINE = re.compile(
    "Failed to establish a new connection|name resolution|NameResolutionError|Connection refused|ProxyError"
    "|Network is unreachable|ConnectTimeout|ReadTimeout|Read timed out|Connection aborted|CERTIFICATE_VERIFY_FAILED"
)

# What an Ascend machine has, and what it must still have, from the same files, when we are done.
IMPORTS = """
import json, sys, sysconfig, torch, torch_npu
place = sysconfig.get_paths()
print(json.dumps({
    "versions": [str(torch.__version__), str(torch_npu.__version__)],
    "files": [torch.__file__, torch_npu.__file__],
    "folders": sorted({place["purelib"], place["platlib"]}) if sys.prefix != sys.base_prefix else [],
}))
"""
SET_ENV = ("/usr/local/Ascend/cann/set_env.sh", "/usr/local/Ascend/ascend-toolkit/set_env.sh")
SET_ENV += ("~/Ascend/cann/set_env.sh", "~/Ascend/ascend-toolkit/set_env.sh")

LAB = ["-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}"]
LAB += [f"--LabApp.app_settings_dir={ROOT / 'tools' / 'jupyterlab'}"]
LAB += ["--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]
# The file browser lists notebooks, labs, solutions, the library and what there is to read.
MACHINERY = ("__pycache__", "tests", "tools", "benchmarks", "artifacts", "course.py", "course-report*")
MACHINERY += ("*.toml", "*.yml", "constraints.txt")
LAB += [f"--ContentsManager.hide_globs={name}" for name in MACHINERY]
LAB += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
COMMANDS = {
    "lab": LAB,
    "test": ["-m", "pytest", "--cov=helpers"],
    "run": ["tools/run_notebooks.py"],
    "check": ["-m", "helpers.measurements", "environment"],
}
# Parts of their own: the emulated NPU needs another environment, and two browsers share the chapters one by one.
APART = ["--ignore=tests/npu", "--ignore=tests/browser"]
PARTS = {  # of the tests
    "ruff check .": ["-m", "ruff", "check", "."],
    "mypy": ["-m", "mypy"],
    "tools/in_sync.py": ["tools/in_sync.py"],
    "pytest --cov=helpers": [*COMMANDS["test"], *WORKERS, *APART],
    "tests/browser": ["-m", "pytest", "tests/browser", "-n", "2", "--dist", "load", "-rs"],
}
NPU_PARTS = {
    "operators on the NPU": ["-m", "helpers.measurements", "operators"],
    "pytest tests, on the CPU": ["-m", "pytest", "tests", *APART],
}


def main(arguments):
    """The exit status of one command line."""
    require_platform(arguments)
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    own, options = arguments[:cut], arguments[cut + 1 :]
    if not own or "-h" in own or "--help" in own:
        print(__doc__)
        return 0
    try:
        command, venv, report = parse(own)
    except ValueError as complaint:
        print(f"course.py: {complaint}\n\n{__doc__}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if command == "test":
            return venv.test(options)
        venv.set_up()
        status = venv.run(COMMANDS[command] + options)
        if report and not status:
            status = venv.run(["-m", "helpers.measurements", "operators", report])
        return status
    except KeyboardInterrupt:
        print("\ncourse.py: interrupted", file=sys.stderr)
        return 130


def parse(own):
    """The command, its environment and the report's file or None; ValueError with a complaint."""
    command, *rest = own
    if command not in COMMANDS:
        raise ValueError(f"there is no command {command!r}")
    kinds, report, others = set(), None, []
    while rest:
        word = rest.pop(0)
        if word in KINDS:
            kinds.add(KINDS[word])
        elif word == "--report" and command == "check":
            report = os.path.abspath(rest.pop(0) if rest and rest[0][:1] != "-" else "course-report.json")
        else:
            others.append(word)
    if others:
        raise ValueError(f"options go after two dashes: course.py {command} -- {' '.join(others)}")
    if len(kinds) > 1:
        raise ValueError(f"one of {' and '.join(KINDS)}, please, not both")
    return command, kinds.pop()() if kinds else Environment(), report


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


class Environment:
    """The course's own virtual environment: where it is, what belongs in it, what is run in it."""

    suffix = ""
    extras = ()  # always in it
    flags = ("-I",)  # how its Python looks for what is installed: not what merely lies in the current folder

    def __init__(self):
        named = os.environ.get("COURSE_VENV") or str(ROOT / ".venv")
        self.folder = Path(os.path.abspath(os.path.expanduser(named)) + self.suffix)
        self.python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.stamp = self.folder / "course-stamp.json"  # says what was installed; empty braces: half-made

    # What is run in it.

    def test(self, options):
        """The exit status of all tests, or with `options` of pytest alone: the ordinary ones, then tests/npu."""
        self.set_up(TEST_EXTRAS)
        if options:
            return self.run(COMMANDS["test"] + options)
        statuses = {name: self.timed(name, words, **ONE_THREAD) for name, words in PARTS.items()}
        statuses["tests/npu"] = EmulatedNPU().test_after_others()
        return sum_up(statuses)

    def timed(self, name, words, **variables):
        """The exit status of one part of the tests, with its time on a line of its own."""
        say(f"== {name}")
        start = time.perf_counter()
        status = self.run(words, **variables)
        verdict = "FAILED" if status else "passed"
        say(f"== {name}: {verdict} in {time.perf_counter() - start:.1f} s\n")
        return status

    def run(self, words, **variables):
        """The exit status of this environment's Python with these words."""
        return run([self.python, *words], dict(self.variables(), **variables))

    def variables(self):
        """The environment variables of every child: this environment first, and nothing of another Python's."""
        variables = dict(os.environ, VIRTUAL_ENV=str(self.folder))
        variables["PATH"] = str(self.python.parent) + os.pathsep + os.environ.get("PATH", os.defpath)
        for name in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"):
            variables.pop(name, None)
        # With torch_npu installed and no CANN, `import torch` fails unless this is off.
        variables.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
        # Without a network pip should say so soon; an option would not reach the pip that it runs for the build.
        variables.setdefault("PIP_RETRIES", "1")
        return variables

    # How it is made.

    def obstacle(self):
        """Why this environment cannot be had on this machine, in a sentence; None where it can."""
        return None

    def set_up(self, extras=()):
        """Makes the environment and the model ready, by one course.py at a time; stops when it cannot."""
        obstacle = self.obstacle()
        if obstacle:
            stop(obstacle)
        with locked():
            try:
                self.prepare(extras)
            except OSError as error:
                cannot = f"cannot use {error.filename or self.folder} ({error.strerror}); make it yours, or clone anew"
                stop(self.explain(str(error), otherwise=cannot))
            status = self.run(["-m", "helpers.model"])
        if status:
            raise SystemExit(status)  # it has said why

    def prepare(self, extras):
        """Leaves the environment alone, updates it in place, or makes it anew, as its stamp and its modules say."""
        stamp = self.read_stamp()
        wanted = self.make_stamp({*extras, *stamp.get("extras", [])})
        whole = stamp.get("made") == wanted["made"] and self.finds_modules(stamp.get("extras", []))
        if whole and stamp == wanted:
            return
        torch_options = self.choose_torch()
        if not whole:
            self.create(self.room(torch_options))
        say(f"Installing the course in {self.folder} (takes minutes the first time) ...")
        self.stamp.write_text("{}")  # what a killed update leaves is made anew, too
        problem = self.install(wanted["extras"], torch_options)
        if problem:
            # A pip that fails by itself leaves what was there in working order.
            self.stamp.write_text(json.dumps(stamp if whole else {}))
            stop(problem)
        self.stamp.write_text(json.dumps(wanted))

    def make_stamp(self, extras):
        """The stamp of an environment that is as it should be; `made` is what cannot be changed in place."""
        content = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
        made = [RECIPE, str(ROOT), str(self.folder), list(sys.version_info[:2])]
        extras = sorted({*self.extras, *extras})
        return {"made": made, "files": hashlib.sha256(content).hexdigest(), "extras": extras}

    def read_stamp(self):
        """The environment's stamp; empty where there is none."""
        try:
            return dict(json.loads(self.stamp.read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def finds_modules(self, extras):
        """Whether the environment's Python starts and finds what the course and these extras need."""
        names = [name for extra in ["", *extras] for name in MODULES.get(extra, ())]
        command = [str(self.python), *self.flags, "-c", PROBE, *names]
        try:
            return subprocess.call(command, env=self.variables(), stderr=subprocess.DEVNULL) == 0
        except OSError:
            return False

    def room(self, torch_options):
        """The GB that the environment may take."""
        return 3 if torch_options or sys.platform != "linux" else 10

    def create(self, room):
        """Makes an empty virtual environment, in place of any that is there, where the disk has `room` GB."""
        if not importlib.util.find_spec("venv") or not importlib.util.find_spec("ensurepip"):
            stop(
                "this Python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        old = [path for path in self.folder.iterdir() if path != self.stamp]
        replaceable = self.folder == ROOT / (".venv" + self.suffix) and (self.folder / "pyvenv.cfg").exists()
        if old and not self.stamp.exists() and not replaceable:
            stop(
                f"{self.folder} holds what this course did not make, so it stays; move it away, or set COURSE_VENV"
            )
        if old:
            say(f"{self.folder} is incomplete, or from elsewhere, or of another Python: making it anew.")
        command = self.venv_command()  # while what it may ask is still there
        self.stamp.write_text("{}")  # from here on the folder is known as ours, however far this gets
        for path in old:
            shutil.rmtree(str(path)) if path.is_dir() and not path.is_symlink() else path.unlink()
        free = shutil.disk_usage(str(self.folder)).free / 1e9
        if free < room:
            stop(
                f"{self.folder} may take {room} GB, and {free:.1f} GB are free; make room, or set COURSE_VENV"
            )
        said = []
        if run([*command, self.folder], self.variables(), said):
            stop(self.explain("".join(said)))

    def venv_command(self):
        """The command that makes a virtual environment in the folder that is added to it."""
        # The Python beneath: from an activated .venv, this one is about to be deleted.
        return [getattr(sys, "_base_executable", None) or sys.executable, "-m", "venv"]

    def install(self, extras, torch_options):
        """One sentence on why the installation failed, or None."""
        course = f".[{','.join(extras)}]" if extras else "."
        return self.pip(*torch_options, "-c", "constraints.txt", "-e", course)

    def pip(self, *words):
        """One sentence on why pip failed, or None; pip's own words are shown as they come."""
        command = [self.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        command += [] if sys.stdout.isatty() else ["--quiet"]
        said = []
        return self.explain("".join(said)) if run([*command, *words], self.variables(), said) else None

    def explain(
        self, said, otherwise="the installation failed for the reason above; mend that and start again"
    ):
        """One sentence for the failure of a command that wrote this to stderr."""
        if FULL.search(said):
            return f"the disk is full; make room for {self.folder}, pip's cache and temporary files (TMPDIR), and start again"
        if OFFLINE.search(said):
            return "the package index cannot be reached; check the network (proxy, certificates), and start again"
        return otherwise

    def choose_torch(self):
        """pip's options for PyTorch: the index of its CPU builds where these will do and it answers, else none."""
        accelerator = glob.glob("/dev/nvidia0") or shutil.which("nvidia-smi")
        if sys.platform != "linux" or accelerator or os.environ.get("COURSE_TORCH") == "default":
            return []
        if answers(CPU_INDEX + "/torch/"):
            return ["--extra-index-url", CPU_INDEX]
        say(
            "PyTorch's index of CPU builds does not answer; the build from PyPI, which may be larger, will do."
        )
        return []


class EmulatedNPU(Environment):
    """The environment of the emulated NPU: apart, because torch_npu keeps torch from being imported where no CANN is."""

    suffix = "-npu"
    extras = ("npu",)

    def test(self, options):
        """The exit status of tests/npu, with pytest's `options`."""
        self.set_up(("test",))
        return self.run(NPU_TESTS + (options or WORKERS + IN_ORDER), **({} if options else ONE_THREAD))

    def test_after_others(self):
        """The exit status of tests/npu, timed; 0 and a line with the reason where they cannot be run."""
        reason = self.obstacle()
        if not reason and platform.machine() != "x86_64":
            reason = f"the emulated NPU is tested on x86-64, this is {platform.machine()}"
        if reason:
            say(f"== tests/npu: not run, because {reason}")
            return 0
        try:
            self.set_up(("test",))
        except SystemExit as stopped:
            if not isinstance(stopped.code, str):  # told to end; or the model is missing, which was said
                raise
            print(stopped.code, file=sys.stderr, flush=True)
            return 1
        return self.timed("tests/npu", NPU_TESTS + WORKERS + IN_ORDER, **ONE_THREAD)

    def obstacle(self):
        """Why the emulated NPU cannot run on this machine."""
        here = f"{platform.system()} on {platform.machine()}"
        if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
            return f"torch_npu, which the emulated NPU runs, is made for Linux on x86-64 and aarch64; this is {here}"
        if sys.version_info[:2] > NEWEST_NPU:
            newest, this = ".".join(map(str, NEWEST_NPU)), platform.python_version()
            return (
                f"torch_npu, which the emulated NPU runs, is made for Python up to {newest}; this is {this}"
            )
        if glob.glob("/dev/davinci[0-9]*"):
            return "there is a real NPU here, beside which the emulated one does not run; take --npu instead of it"
        if not any(name and shutil.which(name) for name in compilers()):
            named = os.environ.get("CC")
            missing = f"CC names {named}, which is not there" if named else "there is no cc or gcc here"
            return f"the emulated NPU needs a C compiler, and {missing}; on Debian and Ubuntu: apt install gcc libc6-dev"
        return None

    def variables(self):
        """As everywhere, and the device."""
        return dict(super().variables(), COURSE_DEVICE="emulated-npu")

    def room(self, torch_options):
        """With the CPU build, torch_npu included."""
        return 3

    def choose_torch(self):
        """The CPU build by its name: torch_npu refuses any that knows another accelerator."""
        pinned = re.search("^torch==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE).group(1)
        if answers(CPU_INDEX + "/torch/"):
            return ["--extra-index-url", CPU_INDEX, f"torch=={pinned}+cpu"]
        say("PyTorch's index of CPU builds does not answer; pip looks for one where else it is told to.")
        return [f"torch=={pinned}+cpu"]


class AscendNPU(Environment):
    """The environment on an Ascend machine: over the torch and torch_npu that are there, which its CANN dictates."""

    suffix = "-ascend"
    extras = ("npu",)
    flags = ("-P",)  # torch may have been installed for the user alone

    def test(self, options):
        """The exit status of every operator on the NPU and the library's tests; with `options`, of pytest alone."""
        self.set_up(("test",))
        if options:
            return self.run(["-m", "pytest", *options], COURSE_DEVICE="cpu")
        operators, library = NPU_PARTS
        statuses = {operators: self.timed(operators, NPU_PARTS[operators])}
        statuses[library] = self.timed(library, NPU_PARTS[library], COURSE_DEVICE="cpu")
        return sum_up(statuses)

    def obstacle(self):
        """What is missing on this machine."""
        if not self.host():
            return f"this is the Python of {self.folder}, which is not whole; start with the one that has torch_npu"
        missing = [name for name in ("torch", "torch_npu") if not version_of(name)]
        if missing:
            return (
                f"--npu builds on the torch and torch_npu that fit this machine's CANN, and {sys.executable} has no "
                f"{' and no '.join(missing)}; start with the Python that has both, or install the pair: docs/npu.md"
            )
        if tuple(map(int, version_of("torch").split(".")[:2])) < OLDEST_TORCH:
            oldest = ".".join(map(str, OLDEST_TORCH))
            return f"the torch here is {version_of('torch')}, and the course needs {oldest} or newer: docs/npu.md"
        if not os.environ.get("ASCEND_HOME_PATH"):
            found = [path for path in map(os.path.expanduser, SET_ENV) if os.path.exists(path)]
            script = found[0] if found else "the set_env.sh of your CANN"
            return f"CANN's environment is not set (ASCEND_HOME_PATH); run: source {script}; then start again"
        if not os.path.isdir(os.environ["ASCEND_HOME_PATH"]):
            return f"ASCEND_HOME_PATH names {os.environ['ASCEND_HOME_PATH']}, and there is no such folder; source CANN's set_env.sh"
        return None

    def host(self):
        """The Python that has torch and torch_npu: this one, or the one that an activated environment was made over."""
        if os.path.realpath(sys.prefix) != os.path.realpath(str(self.folder)):
            return sys.executable
        return (self.read_stamp().get("made") or [None])[-1]

    def variables(self):
        """As everywhere, and the device; CANN's own Python modules are on PYTHONPATH, and stay there."""
        variables = super().variables()
        if "PYTHONPATH" in os.environ:
            variables["PYTHONPATH"] = os.environ["PYTHONPATH"]
        wanted = os.environ.get("COURSE_DEVICE", "")
        variables["COURSE_DEVICE"] = wanted if wanted.startswith("npu") else "npu"  # npu:1 is one, too
        return variables

    def room(self, torch_options):
        """Without torch."""
        return 2

    def choose_torch(self):
        """None: it is there."""
        return []

    def make_stamp(self, extras):
        """As everywhere; over another torch or torch_npu, or with other requirements, it must be made anew."""
        stamp = super().make_stamp(extras)
        stamp["made"] += [stamp["files"], version_of("torch"), version_of("torch_npu"), self.host()]
        return stamp

    def venv_command(self):
        """Over what the other Python has; that it has a torch_npu that works is seen first."""
        self.imports(self.host())
        return [self.host(), "-m", "venv", "--system-site-packages"]

    def install(self, extras, torch_options):
        """Everything but torch and torch_npu, then a look whether these two are what they were."""
        beneath = self.imports(self.host())
        constraints = self.folder / "course-constraints.txt"
        constraints.write_text("\n".join(self.constraints()))
        done = self.folder / "course-base"
        if not done.exists():
            self.show(beneath["folders"])
            # JupyterLab looks for its files in its own environment only: what lies beneath will not do.
            problem = self.pip("-c", constraints, "--ignore-installed", *self.requirements())
            if problem:
                return problem
            done.touch()
        named = self.requirements(*extras) if extras else []
        problem = self.pip("-c", constraints, *named) if named else None
        problem = problem or self.pip("--no-deps", "-e", ".")
        if not problem:
            self.require_unchanged(beneath)
        return problem

    def show(self, folders):
        """Lets this environment see those of another one; by itself it sees the Python beneath both only."""
        where = [str(self.python), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        library = Path(subprocess.check_output(where, universal_newlines=True).strip())
        (library / "course-beneath.pth").write_text("\n".join(folders))

    def constraints(self):
        """The pins of constraints.txt, with torch, torch_npu and numpy as they are here."""
        found = {name: version_of(name) for name in ("torch", "torch_npu", "numpy")}
        if not found["numpy"] or int(found["numpy"].split(".")[0]) < 2:
            del found["numpy"]  # the course needs 2, and it comes into the environment only
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        kept = [line for line in lines if line.partition("==")[0].replace("-", "_") not in found]
        return kept + [f"{name}=={version}" for name, version in found.items()]

    def requirements(self, *extras):
        """What pyproject.toml names for these extras, or without any for the course itself, but torch and torch_npu."""
        import tomllib  # which an old Python does not have

        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        lists = [project["optional-dependencies"][extra] for extra in extras] or [project["dependencies"]]
        there = ("torch", "torch-npu")
        return [text for texts in lists for text in texts if re.match(r"[\w.-]+", text).group() not in there]

    def imports(self, python):
        """Which torch and torch_npu that Python imports, and where it looks for more; stops when it cannot."""
        command = [str(python), *self.flags, "-c", IMPORTS]
        done = subprocess.run(
            command, cwd=str(ROOT), env=self.variables(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip() or "no word").splitlines()[-1]
            stop(
                f"torch_npu is there, but {python} cannot import it ({last}); docs/npu.md has the pairs that fit"
            )
        return json.loads(done.stdout.splitlines()[-1])

    def require_unchanged(self, beneath):
        """Stops where this environment imports another torch or torch_npu than the Python that it was made over."""
        here = self.imports(self.python)
        for kind in ("versions", "files"):
            if here[kind] != beneath[kind]:
                pair, other = (" and ".join(found[kind]) for found in (beneath, here))
                stop(f"torch and torch_npu are {pair} on this machine, but {other} in {self.folder}")


KINDS = {"--npu": AscendNPU, "--emulated-npu": EmulatedNPU}


def sum_up(statuses):
    """The exit status of all parts of the tests: the largest; a last line names those that failed."""
    failed = [name for name, status in statuses.items() if status]
    say(f"FAILED: {', '.join(failed)}" if failed else "all parts passed")
    return max(statuses.values())


def compilers():
    """The C compilers that the emulated NPU would look for."""
    return [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc"]


def version_of(package):
    """The installed version of a package, seen from this Python; None where it has none."""
    from importlib.metadata import PackageNotFoundError, version  # which an old Python does not have

    try:
        return version(package)
    except PackageNotFoundError:
        return None


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


def run(command, variables, said=None):
    """The exit status of a command run in ROOT; with a list `said`, its stderr is shown and kept there as well."""
    child = subprocess.Popen(
        [str(word) for word in command], cwd=str(ROOT), env=variables, close_fds=False,
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


def say(line):
    """Prints a line before whatever a child prints next."""
    print(line, flush=True)


def stop(sentence):
    """Ends the program with one sentence on stderr and exit status 1."""
    raise SystemExit("course.py: " + sentence)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
