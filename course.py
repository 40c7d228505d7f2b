#!/usr/bin/env python3
"""Set the course up, once, and then open, test or run it; `python3 course.py --help` says how.

In this order: the command line, the commands, the Python that is needed, the environment and the steps that
make it (venv, PyTorch, pip, model), the tests, the environments of NPUs, what all of these use.
"""
# Standard library only, in the syntax of Python 3.6: an old Python must live to say that it is too old.

import argparse
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


# The command line.

USAGE = "python3 course.py COMMAND [--npu | --emulated-npu] [--report [FILE]] [-- OPTIONS]"
DESCRIPTION = """\
Set the course up in .venv, once, and then open, test or run it.

commands:
  lab     open JupyterLab at the first notebook; OPTIONS are JupyterLab's: --no-browser, --port 9000
  test    check style, types and notebooks, and run all tests; with OPTIONS, which are pytest's, pytest alone
  run     execute all notebooks without a browser; OPTIONS are those of tools/run_notebooks.py
  check   print what is installed, which device is used, and whether the model is ready
  serve   answer OpenAI's clients at an address until Ctrl+C: --port 8000 --device --dtype --policy
          --max-batch-size --token-budget --pages --page-size --api-key; with --replicas 2 --router prefix,
          engines on Ray Serve, in .venv-serve (docs/serving.md)
"""
SETTINGS = """\
environment variables:
  COURSE_TORCH=default   take PyTorch as PyPI has it; else a Linux without accelerator takes the CPU build
  COURSE_VENV=FOLDER     another folder than .venv; those of NPUs are FOLDER-ascend and FOLDER-npu
  COURSE_NATIVE=0        no kernels in C++: plain torch computes everything
  COURSE_KERNELS=...     plain, packed or native, in place of what was measured to be the fastest
  COURSE_MODEL, COURSE_CACHE, COURSE_DEVICE   see README.md
"""


def main(arguments):
    """Carry one command line out, and return its exit status."""
    require_platform(arguments)
    request = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return carry_out(request)
    except KeyboardInterrupt:
        print("\ncourse.py: interrupted", file=sys.stderr)
        return 130


def parse(arguments):
    """Return command, kind of environment, report's file or None, and the tool's options; else exit."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = command_line()
    request, others = parser.parse_known_args(arguments[:cut])
    if not request.command:
        parser.print_help()
        parser.exit()
    if request.command not in COMMANDS:
        parser.error(f"there is no command {request.command!r}")
    if request.report and request.command != "check":
        parser.error(f"--report belongs to check: course.py check --report {request.report}")
    if others and request.command not in OWN_OPTIONS:
        parser.error(f"options go after two dashes: course.py {request.command} -- {' '.join(others)}")
    request.options = others + arguments[cut + 1 :]
    return request


def command_line():
    """Return the parser of what stands before the two dashes."""
    parser = Parser(
        prog="course.py", usage=USAGE, description=DESCRIPTION, epilog=SETTINGS, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    kinds = parser.add_mutually_exclusive_group()
    for word, kind in (("--npu", AscendNPU), ("--emulated-npu", EmulatedNPU)):
        kinds.add_argument(word, dest="kind", action="store_const", const=kind, help=kind.purpose)
    parser.add_argument(
        "--report", nargs="?", metavar="FILE", const="course-report.json",
        help="after check: try every operator, time the model and write FILE (course-report.json)",
    )  # fmt: skip
    parser.set_defaults(kind=Environment)
    return parser


class Parser(argparse.ArgumentParser):
    """A parser whose complaint comes first, before the usage."""

    def error(self, message):
        """Exit with status 2, the complaint and all usage on stderr."""
        self.exit(2, f"course.py: {message}\n\n{self.format_help()}")


# The commands: what the environment's Python is given; the parts of `test` without options are further down.

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
    "test": ["-m", "pytest"],
    "run": ["tools/run_notebooks.py"],
    "check": ["-m", "helpers.measurements", "environment"],
    "serve": ["-m", "helpers.serving"],
}
OWN_OPTIONS = ("serve",)  # commands whose options need no two dashes
REPLICAS = ["-m", "helpers.replicas"]  # serves where --replicas is given
TRY_OPERATORS = ["-m", "helpers.measurements", "operators"]


def carry_out(request):
    """Return the exit status of a command, in its environment, which is set up first."""
    if request.command == "serve":
        return serve(request)
    environment = request.kind()
    if request.command == "test":
        return environment.test(request.options)
    report = [os.path.abspath(request.report)] if request.report else []
    environment.set_up()
    status = environment.run(COMMANDS[request.command] + quiet(request) + request.options)
    return environment.run(TRY_OPERATORS + report) if report and not status else status


def quiet(request):
    """Return the options by which JupyterLab prints its address and warnings alone; none where a level is asked for."""
    levels = ("--log-level", "--debug", "--ServerApp.log_level", "--LabApp.log_level")
    asked = any(word.partition("=")[0] in levels for word in request.options)
    return (
        [] if asked or request.command != "lab" else ["--ServerApp.log_level=WARN", "--LabApp.log_level=WARN"]
    )


def serve(request):
    """Return the exit status of the server; several engines are on Ray, unless they are threads."""
    replicas = any(word.partition("=")[0] == "--replicas" for word in request.options)
    on_ray = replicas and "--in-process" not in request.options
    environment = RayServe() if on_ray and request.kind is Environment else request.kind()
    environment.set_up(("replicas",) if on_ray else ())
    # A server that is told to end finishes what it has begun, and that is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    return environment.run((REPLICAS if replicas else COMMANDS["serve"]) + request.options)


# The Python that is needed.

OLDEST = (3, 11)


def require_platform(arguments):
    """Stop where this Python or this machine will not do."""
    if sys.version_info[:2] < OLDEST:
        newer = newer_python()
        hint = " ".join(["run:", newer, "course.py", *arguments]) if newer else "install a newer one"
        here, oldest = platform.python_version(), dotted(OLDEST)
        stop(f"this is Python {here}, the course needs {oldest} or newer; {hint}")
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        stop("this PyTorch is not made for macOS on Intel; use Linux, or an arm64 Python on Apple silicon")


def newer_python():
    """Return a Python on PATH that is new enough and starts, or None; the oldest such has most wheels."""
    for name in [f"python3.{minor}" for minor in range(OLDEST[1], OLDEST[1] + 9)]:
        if shutil.which(name) and subprocess.call([name, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            return name
    return None


# The environment.

RECIPE = 1  # raise it when environments made by earlier versions of this file must be made anew
# What each extra is known by; looked for at every start, and not imported.
MODULES = {
    "": (
        "torch",
        "transformers",
        "gguf",
        "safetensors",
        "matplotlib",
        "ipywidgets",
        "jupyterlab",
        "helpers",
        "fastapi",
        "uvicorn",
        "pydantic",
        "prometheus_client",
        "httpx",
    ),
    "test": (
        "pytest",
        "pytest_cov",
        "xdist",
        "hypothesis",
        "nbclient",
        "nbval",
        "ruff",
        "mypy",
        "openai",
    ),
    "teach": ("nbgrader",),
    "replicas": ("ray",),
    "classroom": ("jupyterhub", "jupyterhub_traefik_proxy", "nbgitpuller"),
    "npu": ("torch_npu",),
}
PROBE = "import importlib.util as u, sys; sys.exit(any(u.find_spec(name) is None for name in sys.argv[1:]))"


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

    def run(self, words, **variables):
        """Return the exit status of this environment's Python with these words."""
        return run([self.python, *words], dict(self.variables(), **variables))

    def variables(self):
        """Return every child's environment variables: this environment first, nothing of another Python's."""
        variables = dict(os.environ, VIRTUAL_ENV=str(self.folder))
        variables["PATH"] = str(self.python.parent) + os.pathsep + os.environ.get("PATH", os.defpath)
        for name in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"):
            variables.pop(name, None)
        # With torch_npu installed and no CANN, `import torch` fails unless this is off.
        variables.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
        # Threads that wait spin for some microseconds, then give their core away: beside one busy program, threads
        # that spin on are many times as slow.
        if variables.setdefault("OMP_WAIT_POLICY", "passive") == "passive":
            variables.setdefault("GOMP_SPINCOUNT", "500")
        # Without a network pip should say so soon; an option would not reach the pip of the build.
        variables.setdefault("PIP_RETRIES", "1")
        return variables

    def test(self, options):
        """Return the exit status of all tests, or with `options` that of pytest alone."""
        self.set_up(TEST_EXTRAS)
        return self.run(COMMANDS["test"] + options) if options else run_all_tests(self)

    # The set-up: environment, then model.

    def set_up(self, extras=()):
        """Make the environment and the model ready, by one course.py at a time; stop where that cannot be."""
        obstacle = self.obstacle()
        if obstacle:
            stop(obstacle)
        with locked():
            try:
                self.prepare(extras)
            except OSError as error:
                place, why = error.filename or self.folder, error.strerror
                cannot = f"cannot use {place} ({why}); make it yours, or clone anew"
                stop(reason(str(error), self.folder, otherwise=cannot))
            self.fetch_model()

    def obstacle(self):
        """Return why this environment cannot be had on this machine, in a sentence; None where it can."""
        return None

    def prepare(self, extras):
        """Leave the environment alone, update it in place, or make it anew, as its stamp and modules say."""
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

    def fetch_model(self):
        """Have the model on the disk; end with the fetch's exit status where it fails."""
        status = self.run(["-m", "helpers.model"])
        if status:
            raise SystemExit(status)  # it has said why

    # Whether it is whole.

    def make_stamp(self, extras):
        """Return the stamp of an environment as it should be; `made` is what cannot be changed in place."""
        content = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
        made = [RECIPE, str(ROOT), str(self.folder), list(sys.version_info[:2])]
        extras = sorted({*self.extras, *extras})
        return {"made": made, "files": hashlib.sha256(content).hexdigest(), "extras": extras}

    def read_stamp(self):
        """Return the environment's stamp; empty where there is none."""
        try:
            return dict(json.loads(self.stamp.read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def finds_modules(self, extras):
        """Return whether the environment's Python starts and finds what the course and these extras need."""
        names = [name for extra in ["", *extras] for name in MODULES.get(extra, ())]
        command = [str(self.python), *self.flags, "-c", PROBE, *names]
        try:
            return subprocess.call(command, env=self.variables(), stderr=subprocess.DEVNULL) == 0
        except OSError:
            return False

    # Step 1, venv: an empty environment.

    def create(self, room):
        """Make an empty virtual environment, in place of any that is there, where the disk has `room` GB."""
        if not importlib.util.find_spec("venv") or not importlib.util.find_spec("ensurepip"):
            stop("this Python cannot make virtual environments; Debian and Ubuntu: apt install python3-venv")
        old = self.replaceable()
        if old:
            say(f"{self.folder} is incomplete, or from elsewhere, or of another Python: making it anew.")
        command = self.venv_command()  # while what it may ask is still there
        self.stamp.write_text("{}")  # from here on the folder is known as ours, however far this gets
        for path in old:
            shutil.rmtree(str(path)) if path.is_dir() and not path.is_symlink() else path.unlink()
        free = shutil.disk_usage(str(self.folder)).free / 1e9
        if free < room:
            lacking = f"may take {room} GB, and {free:.1f} GB are free; make room, or set COURSE_VENV"
            stop(f"{self.folder} {lacking}")
        said = []
        if run([*command, self.folder], self.variables(), said):
            stop(reason("".join(said), self.folder))

    def replaceable(self):
        """Return what lies in the folder, made when missing; stop where that is not the course's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        old = [path for path in self.folder.iterdir() if path != self.stamp]
        usual = self.folder == ROOT / (".venv" + self.suffix) and (self.folder / "pyvenv.cfg").exists()
        if old and not self.stamp.exists() and not usual:
            foreign = "holds what this course did not make, so it stays; move it away, or set COURSE_VENV"
            stop(f"{self.folder} {foreign}")
        return old

    def venv_command(self):
        """Return the command that makes a virtual environment in the folder that is added to it."""
        # The Python beneath: from an activated .venv, this one is about to be deleted.
        return [getattr(sys, "_base_executable", None) or sys.executable, "-m", "venv"]

    def room(self, torch_options):
        """Return the GB that the environment may take."""
        return 3 if torch_options or sys.platform != "linux" else 10

    # Step 2, PyTorch: which one. Step 3, pip: everything.

    def choose_torch(self):
        """Return pip's options for PyTorch: where the index of CPU builds will do and answers, that one."""
        accelerator = glob.glob("/dev/nvidia0") or shutil.which("nvidia-smi")
        if sys.platform != "linux" or accelerator or os.environ.get("COURSE_TORCH") == "default":
            return []
        if answers(CPU_INDEX + "/torch/"):
            return ["--extra-index-url", CPU_INDEX]
        say("PyTorch's index of CPU builds does not answer; PyPI's build, which may be larger, will do.")
        return []

    def install(self, extras, torch_options):
        """Install the course and its extras; return one sentence on why that failed, or None."""
        course = f".[{','.join(extras)}]" if extras else "."
        return pip_install(self, *torch_options, "-c", "constraints.txt", "-e", course)


CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def answers(url, limit=5.0):
    """Return whether the address answers within `limit` seconds."""
    found = []

    def ask():
        with contextlib.suppress(OSError, ValueError):
            urllib.request.urlopen(url, timeout=limit).close()
            found.append(url)

    thread = threading.Thread(target=ask, daemon=True)  # because a name look-up knows no limit
    thread.start()
    thread.join(limit)
    return bool(found)


def pip_install(environment, *words):
    """Run an environment's pip, whose words are shown; return one sentence on why it failed, or None."""
    command = [environment.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += [] if sys.stdout.isatty() else ["--quiet"]
    said = []
    failed = run([*command, *words], environment.variables(), said)
    return reason("".join(said), environment.folder) if failed else None


FULL = re.compile(r"No space left on device|\[Errno 28\]|Disk quota exceeded")
OFFLINE = re.compile(
    "Failed to establish a new connection|name resolution|NameResolutionError|Connection refused|ProxyError"
    "|Network is unreachable|ConnectTimeout|ReadTimeout|Read timed out|Connection aborted"
    "|CERTIFICATE_VERIFY_FAILED"
)
UNKNOWN = "the installation failed for the reason above; mend that and start again"


def reason(said, folder, otherwise=UNKNOWN):
    """Return one sentence for the failure of a command that wrote `said` to stderr."""
    if FULL.search(said):
        places = f"{folder}, pip's cache and temporary files (TMPDIR)"
        return f"the disk is full; make room for {places}, and start again"
    if OFFLINE.search(said):
        return "the package index cannot be reached; check the network (proxy, certificates), and start again"
    return otherwise


# The tests.

TEST_EXTRAS = ("test", "teach", "classroom")
# For each of two workers: more threads than cores wait for each other, and a set has the same order in every run.
STEADY = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
# A file stays in one process, because a notebook has one kernel; conftest.py decides which files come first.
BY_FILE = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
TOLD = ["-rs", "--durations=10"]  # why a test was skipped, and which ten were slowest
# Three browsers share the tests one by one: half of what two do is waiting.
IN_BROWSERS = ["tests/browser", "-n", "3", "--dist", "load"]
# Parts of their own, in another environment and in browsers.
APART = ["--ignore=tests/npu", "--ignore=tests/browser"]
PARTS = {
    "ruff check .": ["-m", "ruff", "check", "."],
    "mypy": ["-m", "mypy"],
    "tools/in_sync.py": ["tools/in_sync.py"],
    "pytest": [*COMMANDS["test"], *BY_FILE, *APART, *TOLD],
    "tests/browser": ["-m", "pytest", *IN_BROWSERS, *TOLD],
}
NPU_TESTS = ["-m", "pytest", "tests/npu"]
ALL_NPU_TESTS = [*NPU_TESTS, *BY_FILE, *TOLD]
ON_ASCEND = ["-m", "pytest", "tests", *APART, *TOLD]


def run_all_tests(environment):
    """Return the exit status of all parts: the ordinary ones, then the emulated NPU's."""
    statuses = {name: timed(environment, name, words, **STEADY) for name, words in PARTS.items()}
    statuses["tests/npu"] = EmulatedNPU().test_after_others()
    statuses[ON_RAY] = RayServe().test_after_others()
    return sum_up(statuses)


def timed(environment, name, words, **variables):
    """Return the exit status of one part of the tests, with its time on a line of its own."""
    say(f"== {name}")
    start = time.perf_counter()
    status = environment.run(words, **variables)
    verdict = "FAILED" if status else "passed"
    say(f"== {name}: {verdict} in {time.perf_counter() - start:.1f} s\n")
    return status


def sum_up(statuses):
    """Return the largest of the parts' exit statuses; a last line names the parts that failed."""
    failed = [name for name, status in statuses.items() if status]
    say(f"FAILED: {', '.join(failed)}" if failed else "all parts passed")
    return max(statuses.values())


# The environment of replicas on Ray.

ON_RAY = "tests/replicas/on_ray"


class RayServe(Environment):
    """The environment with Ray: apart, because Ray brings much that nothing else of the course needs."""

    suffix = "-serve"
    extras = ("replicas",)

    def test_after_others(self):
        """Return the exit status of the tests on Ray; 0 and a line where this environment is not there."""
        if not self.stamp.exists():
            say(
                f"== {ON_RAY}: not run, because there is no {self.folder}; course.py serve --replicas 2 makes it"
            )
            return 0
        self.set_up(("test",))
        words = ["-m", "pytest", ON_RAY, *TOLD]
        return timed(self, ON_RAY, words, COURSE_RAY_TESTS="1", **STEADY)


# The environment of the emulated NPU.

NEWEST_NPU = (3, 14)  # the newest Python that the pinned torch_npu is built for


class EmulatedNPU(Environment):
    """The environment of the emulated NPU: apart, because where no CANN is, torch_npu ends `import torch`."""

    purpose = "on an emulated NPU, in .venv-npu: the real torch_npu, slowly, on a CPU with a C compiler"
    suffix = "-npu"
    extras = ("npu",)

    def variables(self):
        """Return what all environments have, and the device."""
        return dict(super().variables(), COURSE_DEVICE="emulated-npu")

    def test(self, options):
        """Return the exit status of tests/npu, with pytest's `options`."""
        self.set_up(("test",))
        return self.run(NPU_TESTS + options) if options else self.run(ALL_NPU_TESTS, **STEADY)

    def test_after_others(self):
        """Return the exit status of tests/npu; 0 and a line with the obstacle where there is one."""
        obstacle = self.obstacle()
        if not obstacle and platform.machine() != "x86_64":
            obstacle = f"the emulated NPU is tested on x86-64, this is {platform.machine()}"
        if obstacle:
            say(f"== tests/npu: not run, because {obstacle}")
            return 0
        try:
            self.set_up(("test",))
        except SystemExit as stopped:
            if not isinstance(stopped.code, str):  # told to end; or the model is missing, which was said
                raise
            print(stopped.code, file=sys.stderr, flush=True)
            return 1
        return timed(self, "tests/npu", ALL_NPU_TESTS, **STEADY)

    def obstacle(self):
        """Return why the emulated NPU cannot run on this machine; None where it can."""
        torch_npu = "torch_npu, which the emulated NPU runs, is made for"
        if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
            here = f"{platform.system()} on {platform.machine()}"
            return f"{torch_npu} Linux on x86-64 and aarch64; this is {here}"
        if sys.version_info[:2] > NEWEST_NPU:
            return f"{torch_npu} Python up to {dotted(NEWEST_NPU)}; this is {platform.python_version()}"
        if glob.glob("/dev/davinci[0-9]*"):
            return "there is a real NPU here, beside which the emulated one does not run; take --npu instead"
        named = os.environ.get("CC")
        if not any(shutil.which(name) for name in ([named] if named else ["cc", "gcc"])):
            missing = f"CC names {named}, which is not there" if named else "there is no cc or gcc here"
            hint = "on Debian and Ubuntu: apt install gcc libc6-dev"
            return f"the emulated NPU needs a C compiler, and {missing}; {hint}"
        return None

    def room(self, torch_options):
        """Return the GB of the CPU build, torch_npu included."""
        return 3

    def choose_torch(self):
        """Return the CPU build by its name: torch_npu refuses any that knows another accelerator."""
        pinned = re.search("^torch==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE).group(1)
        if answers(CPU_INDEX + "/torch/"):
            return ["--extra-index-url", CPU_INDEX, f"torch=={pinned}+cpu"]
        say("PyTorch's index of CPU builds does not answer; pip looks for one where else it is told to.")
        return [f"torch=={pinned}+cpu"]


# The environment of an Ascend machine.

OLDEST_TORCH = (2, 7)
SET_ENV = ("/usr/local/Ascend/cann/set_env.sh", "/usr/local/Ascend/ascend-toolkit/set_env.sh")
SET_ENV += ("~/Ascend/cann/set_env.sh", "~/Ascend/ascend-toolkit/set_env.sh")
# What the machine has, and what it must still have, from the same files, when we are done.
IMPORTS = """
import json, sys, sysconfig, torch, torch_npu
place = sysconfig.get_paths()
print(json.dumps({
    "versions": [str(torch.__version__), str(torch_npu.__version__)],
    "files": [torch.__file__, torch_npu.__file__],
    "folders": sorted({place["purelib"], place["platlib"]}) if sys.prefix != sys.base_prefix else [],
}))
"""


class AscendNPU(Environment):
    """The environment on an Ascend machine: over its torch and torch_npu, which its CANN dictates."""

    purpose = "on an Ascend NPU, in .venv-ascend, over the torch and torch_npu that are there (docs/npu.md)"
    suffix = "-ascend"
    extras = ("npu",)
    flags = ("-P",)  # torch may have been installed for the user alone

    def variables(self):
        """Return what all environments have, the device, and PYTHONPATH, which has CANN's own modules."""
        variables = super().variables()
        if "PYTHONPATH" in os.environ:
            variables["PYTHONPATH"] = os.environ["PYTHONPATH"]
        wanted = os.environ.get("COURSE_DEVICE", "")
        variables["COURSE_DEVICE"] = wanted if wanted.startswith("npu") else "npu"  # npu:1 is one, too
        return variables

    def test(self, options):
        """Return the exit status of all operators and the tests; with `options`, of pytest alone."""
        self.set_up(("test",))
        if options:
            return self.run(["-m", "pytest", *options], COURSE_DEVICE="cpu")
        operators, library = "operators on the NPU", "pytest tests, on the CPU"
        statuses = {operators: timed(self, operators, TRY_OPERATORS)}
        statuses[library] = timed(self, library, ON_ASCEND, COURSE_DEVICE="cpu")
        return sum_up(statuses)

    # What must be there.

    def obstacle(self):
        """Return what is missing on this machine, in a sentence; None where nothing is."""
        if not self.host():
            remedy = "start with the one that has torch_npu"
            return f"this is the Python of {self.folder}, which is not whole; {remedy}"
        return self.unfit_torch() or self.unset_cann()

    def unfit_torch(self):
        """Return what is wrong with the torch and torch_npu of this Python; None where they fit."""
        missing = [name for name in ("torch", "torch_npu") if not version_of(name)]
        if missing:
            lacks = f"{sys.executable} has no {' and no '.join(missing)}"
            remedy = "start with the Python that has both, or install the pair: docs/npu.md"
            needs = "--npu builds on the torch and torch_npu that fit this machine's CANN"
            return f"{needs}, and {lacks}; {remedy}"
        torch, oldest = version_of("torch"), dotted(OLDEST_TORCH)
        if tuple(map(int, torch.split(".")[:2])) < OLDEST_TORCH:
            return f"the torch here is {torch}, and the course needs {oldest} or newer: docs/npu.md"
        return None

    def unset_cann(self):
        """Return what is wrong with CANN's environment variables; None where they are set."""
        home = os.environ.get("ASCEND_HOME_PATH")
        if not home:
            found = [path for path in map(os.path.expanduser, SET_ENV) if os.path.exists(path)]
            script = found[0] if found else "the set_env.sh of your CANN"
            return f"CANN's environment is not set (ASCEND_HOME_PATH); run: source {script}; then start again"
        if not os.path.isdir(home):
            return f"ASCEND_HOME_PATH names {home}, and there is no such folder; source CANN's set_env.sh"
        return None

    def host(self):
        """Return the Python that has both: this one, or the one beneath an activated environment."""
        if os.path.realpath(sys.prefix) != os.path.realpath(str(self.folder)):
            return sys.executable
        return (self.read_stamp().get("made") or [None])[-1]

    # The steps, where they differ.

    def make_stamp(self, extras):
        """Return the stamp; over another torch or torch_npu, or with other requirements, all is made anew."""
        stamp = super().make_stamp(extras)
        stamp["made"] += [stamp["files"], version_of("torch"), version_of("torch_npu"), self.host()]
        return stamp

    def venv_command(self):
        """Return a venv over what the other Python has, when its torch_npu works."""
        self.imports(self.host())
        return [self.host(), "-m", "venv", "--system-site-packages"]

    def room(self, torch_options):
        """Return the GB without torch."""
        return 2

    def choose_torch(self):
        """Return no options: torch is there."""
        return []

    def install(self, extras, torch_options):
        """Install everything but torch and torch_npu, then see whether these two are what they were."""
        beneath = self.imports(self.host())
        constraints = self.folder / "course-constraints.txt"
        constraints.write_text("\n".join(self.constraints()))
        named = self.requirements(*extras) if extras else []
        problem = (
            self.install_base(constraints, beneath["folders"])
            or (pip_install(self, "-c", constraints, *named) if named else None)
            or pip_install(self, "--no-deps", "-e", ".")
        )
        if not problem:
            self.require_unchanged(beneath)
        return problem

    def install_base(self, constraints, folders):
        """Install the course's own requirements, once; return one sentence on why that failed, or None."""
        done = self.folder / "course-base"
        if done.exists():
            return None
        self.show(folders)
        # JupyterLab looks for its files in its own environment only: what lies beneath will not do.
        problem = pip_install(self, "-c", constraints, "--ignore-installed", *self.requirements())
        if not problem:
            done.touch()
        return problem

    def show(self, folders):
        """Let this environment see those of another one; by itself it sees the Python beneath both only."""
        where = [str(self.python), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        library = Path(subprocess.check_output(where, universal_newlines=True).strip())
        (library / "course-beneath.pth").write_text("\n".join(folders))

    def constraints(self):
        """Return the pins of constraints.txt, with torch, torch_npu and numpy as they are here."""
        found = {name: version_of(name) for name in ("torch", "torch_npu", "numpy")}
        if not found["numpy"] or int(found["numpy"].split(".")[0]) < 2:
            del found["numpy"]  # the course needs 2, and it comes into the environment only
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        kept = [line for line in lines if line.partition("==")[0].replace("-", "_") not in found]
        return kept + [f"{name}=={version}" for name, version in found.items()]

    def requirements(self, *extras):
        """Return pyproject.toml's names for these extras, or for the course, but torch and torch_npu."""
        import tomllib  # which an old Python does not have

        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        lists = [project["optional-dependencies"][extra] for extra in extras] or [project["dependencies"]]
        there = ("torch", "torch-npu")
        texts = [text for named in lists for text in named]
        return [text for text in texts if re.match(r"[\w.-]+", text).group() not in there]

    def imports(self, python):
        """Return the torch and torch_npu that Python imports, and its folders; stop where it cannot."""
        done = subprocess.run(
            [str(python), *self.flags, "-c", IMPORTS], cwd=str(ROOT), env=self.variables(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            last = (done.stderr.strip() or "no word").splitlines()[-1]
            fault = f"{python} cannot import it ({last})"
            stop(f"torch_npu is there, but {fault}; docs/npu.md has the pairs that fit")
        return json.loads(done.stdout.splitlines()[-1])

    def require_unchanged(self, beneath):
        """Stop where this environment imports another torch or torch_npu than the Python beneath."""
        here = self.imports(self.python)
        for kind in ("versions", "files"):
            if here[kind] != beneath[kind]:
                pair, other = (" and ".join(found[kind]) for found in (beneath, here))
                stop(f"torch and torch_npu are {pair} on this machine, but {other} in {self.folder}")


def version_of(package):
    """Return the installed version of a package, seen from this Python; None where it has none."""
    from importlib.metadata import PackageNotFoundError, version  # which an old Python does not have

    try:
        return version(package)
    except PackageNotFoundError:
        return None


# What all of the above use.


@contextlib.contextmanager
def locked():
    """Hold a lock that one course.py at a time has; another says that it waits."""
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
    """Return the exit status of a command run in ROOT; a list `said` takes its stderr, also shown."""
    child = subprocess.Popen(
        [str(word) for word in command], cwd=str(ROOT), env=variables, close_fds=False,
        stderr=None if said is None else subprocess.PIPE, universal_newlines=True, errors="replace",
    )  # fmt: skip
    # The child gets a Ctrl-C, too, and ends in its own way, JupyterLab with a question: that end is awaited.
    interrupted = []
    usual = signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    try:
        show_errors(child.stderr or (), said)
        child.wait()
    finally:
        if child.poll() is None:  # we were told to end
            child.terminate()
            child.wait()
        signal.signal(signal.SIGINT, usual)
    if interrupted and child.returncode:
        raise KeyboardInterrupt
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def show_errors(lines, said):
    """Write a child's stderr as it comes, and keep it in `said`; of a traceback, the last line is shown."""
    within_traceback = False
    for line in lines:
        said.append(line)
        # pip's tracebacks are long, and tell a reader nothing.
        within_traceback = line.startswith(("Traceback ", "  ") if within_traceback else "Traceback ")
        sys.stderr.write("" if within_traceback else line)


def dotted(version):
    """Return a version of numbers as people write it."""
    return ".".join(map(str, version))


def say(line):
    """Print a line before whatever a child prints next."""
    print(line, flush=True)


def stop(sentence):
    """End the program with one sentence on stderr and exit status 1."""
    raise SystemExit("course.py: " + sentence)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
