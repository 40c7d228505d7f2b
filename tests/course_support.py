"""A small course for the tests of course.py: the real course.py among stubs that say what they were asked."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Prints its name, its arguments and the variables of interest; ends with FAKE_<NAME> as its exit status.
# A package of several commands says the command's name.
ECHO = """
import json, os, pathlib, sys, time
stub = pathlib.Path(__file__)
name = stub.parent.name if stub.stem == "__main__" else stub.stem
name = sys.argv.pop(1) if name == "measurements" else name
if name == os.environ.get("SLOW"):
    pathlib.Path("started").touch()
    deadline = time.monotonic() + 300
    while not pathlib.Path("go").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
watched = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "TORCH_DEVICE_BACKEND_AUTOLOAD", "PIP_RETRIES")
watched += ("COURSE_DEVICE", "OMP_NUM_THREADS", "PYTHONHASHSEED")
seen = {key: os.environ[key] for key in watched if key in os.environ}
print(json.dumps([name, sys.argv[1:], seen]), flush=True)
print(os.environ.get("FAKE_STDERR", ""), end="", file=sys.stderr) if name == "pip" else None
sys.exit(int(os.environ.get("FAKE_" + name.upper(), 0)))
"""


class Course:
    """A folder with course.py, stubs, and a record of the commands that the loaded course.py gave to `run`."""

    def __init__(self, root: Path):
        self.root = root
        root.mkdir(parents=True)
        (root / "course.py").write_text((ROOT / "course.py").read_text())
        (root / "pyproject.toml").write_text("[project]\n")
        (root / "constraints.txt").write_text("torch==2.13.0\n")
        self.load()
        words = [words[0] for words in [*self.py.COMMANDS.values(), *self.py.PARTS.values()]]
        scripts = [word for word in words if word.endswith(".py")]
        packages = ["helpers", "helpers/model", "helpers/measurements", "helpers/serving", "helpers/replicas"]
        faces = [f"{name}/__init__.py" for name in packages]
        for stub in [*faces, *(f"{name}/__main__.py" for name in packages[1:]), *scripts]:
            (root / stub).parent.mkdir(exist_ok=True)
            (root / stub).write_text("" if stub.endswith("__init__.py") else ECHO)

    def load(self) -> None:
        """Imports this folder's course.py; its `run` then records commands, and does what venv and pip would do."""
        spec = importlib.util.spec_from_file_location("course_under_test", self.root / "course.py")
        self.py = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.py)
        self.env = self.py.Environment()
        self.calls: list[list[str]] = []
        self.answers: dict[str, object] = {}
        self.really_run, self.py.run = self.py.run, self._run

    def _run(self, command, variables, said=None):
        words = [str(word) for word in command]
        self.calls.append(words)
        tool = words[2].rpartition(".")[2] if words[1] == "-m" else Path(words[1]).stem
        answer = self.answers.get(tool, 0)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, str):
            said.append(answer)
            return 1
        if tool == "venv":
            make_venv(Path(words[-1]))
        if tool == "pip":
            install_fakes(self.py, Path(words[0]).parent.parent)
        return answer

    @property
    def parts(self) -> list[tuple[str, list[str]]]:
        """The stubs that `test` runs and their arguments, in order."""
        parts = self.py.PARTS.values()
        return [(w[1], w[2:]) if w[0] == "-m" else (Path(w[0]).stem, w[1:]) for w in parts]

    @property
    def part_names(self) -> list[str]:
        """The stubs that `test` runs, in order."""
        return [name for name, _ in self.parts]

    @property
    def tools(self) -> list[str]:
        """What was run, in order."""
        return [words[2] if words[1] == "-m" else words[1] for words in self.calls]

    def made(self, *extras: str, env=None) -> "Course":
        """This course with a finished environment (the ordinary one, if none is given) and no calls recorded."""
        (env or self.env).set_up(extras)
        self.calls.clear()
        return self

    def stamp(self) -> dict:
        """What the stamp file says."""
        return json.loads(self.env.stamp.read_text())

    def start(
        self, *words: str, python=sys.executable, program=None, cwd=None, **variables: str
    ) -> subprocess.Popen:
        """`python course.py WORDS` as a process of its own, a group leader as under a shell."""
        command = [str(python), str(program or self.root / "course.py"), *words]
        return subprocess.Popen(
            command, env=clean_environment(**variables), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, preexec_fn=_hears_control_c,
        )  # fmt: skip

    def call(self, *words: str, **how) -> "Result":
        """What `python course.py WORDS` printed, and its exit status."""
        return Result(self.start(*words, **how))


class Result:
    """A finished command line."""

    def __init__(self, process: subprocess.Popen, timeout: float = 200):
        self.out, self.err = process.communicate(timeout=timeout)
        self.status = process.returncode

    @property
    def said(self) -> list[list]:
        """What the stubs said: name, arguments, environment."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("[")]

    @property
    def names(self) -> list[str]:
        """The stubs that ran, in order."""
        return [name for name, _, _ in self.said]


def _hears_control_c() -> None:
    """In the child: a shell's background job, which may be what runs the tests, has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without settings of the course; no question asked of a network, no emulated NPU."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("COURSE_", "PYTHON"))}
    return {**kept, "COURSE_TORCH": "default", "CC": "no-such-compiler", **variables}


def make_venv(folder: Path) -> None:
    """A virtual environment without pip, which takes a tenth of a second."""
    venv.create(folder, with_pip=False, symlinks=True)


def install_fakes(py, folder: Path) -> None:
    """Stubs in the place of everything that course.py looks for, pip among them."""
    library = next(folder.glob("lib/python*/site-packages"))
    for name in {name for names in py.MODULES.values() for name in names if name != "helpers"} | {"pip"}:
        (library / f"{name}.py").write_text(ECHO)
    (library / "course.pth").write_text(str(py.ROOT))


def make_package(
    library: Path, name: str, version: str, code: str = "", requires: tuple[str, ...] = ()
) -> None:
    """A package as pip leaves it: a module in a folder of its own, and its metadata."""
    (library / name).mkdir(parents=True, exist_ok=True)
    (library / name / "__init__.py").write_text(f"__version__ = {version!r}\n{code}")
    info = library / f"{name}-{version}.dist-info"
    info.mkdir()
    needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    (info / "RECORD").write_text("")


def make_wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
    """A wheel with one empty module that pip can install."""
    info, needs = f"{name}-{version}.dist-info", "".join(f"Requires-Dist: {text}\n" for text in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f"__version__ = {version!r}\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
