"""The house: what a package may import, what a face holds, who may name a device, who may draw."""

import ast
import re
from pathlib import Path

import pytest

from tools.notebooks import ROOT

LIBRARY = ROOT / "helpers"
MOST_FILES = 14
AT_A_DEVICE = {"machine", "ops", "graphs", "emulated_npu"}
DRAWING = {"display", "figures"}
AT_AN_NPU = {
    "helpers.graphs.npu_graph", "helpers.machine.npu_profiler", "helpers.ops.npu_attention", "helpers.ops.npu_int8_cache",
    "helpers.ops.npu_low_bit", "helpers.ops.npu_ops",
}  # fmt: skip
"""Modules that only an NPU runs: their tests are in tests/npu."""
FROM_OUTSIDE = ("notebooks/src", "solutions/src", "benchmarks", "tests", "tools")


def table():
    """The table of packages in docs/architecture.md, from bottom to top: what each may import."""
    page = (ROOT / "docs/architecture.md").read_text()
    section = page[page.index("## The library") : page.index("## One data path")]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", section, re.MULTILINE)
    everything = [name for name, _ in rows]
    allowed = {}
    for name, words in rows:
        named = re.findall(r"`(\w+)`", words)
        allowed[name] = set(everything) - set(named) - {name} if "all but" in words else set(named)
    return allowed


ALLOWED = table()
PACKAGES = sorted(p.name for p in LIBRARY.iterdir() if (p / "__init__.py").exists())
FILES = sorted(LIBRARY.rglob("*.py"))


def module_of(path, root=ROOT):
    """A file's dotted name."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_package(dotted):
    """Whether a dotted name is a folder of the library, whose face it would import."""
    return (ROOT / dotted.replace(".", "/")).is_dir()


def imported(tree):
    """The dotted names of the library that a file imports, by statement or as a string that an import is made from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from helpers.model import checkpoint` imports a module, `from helpers.model import Cache` a face
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                is_module = (ROOT / f"{dotted.replace('.', '/')}.py").exists() or is_package(dotted)
                yield dotted if is_module else node.module
        elif re.fullmatch(r"helpers(\.\w+)+\.?", str(getattr(node, "value", ""))):
            yield node.value.rstrip(".")


def wrong_arrows(source, module):
    """What a file of the library imports although its package may not, or from a face instead of a module."""
    package = module.split(".")[1]
    found = []
    for name in imported(ast.parse(source)):
        if not name.startswith("helpers"):
            continue
        target = name.split(".")[1] if "." in name else ""
        if target != package and target not in ALLOWED[package]:
            found.append(f"{module} imports {name}")
        elif is_package(name) and not (name.endswith("checks") and package == "checks"):
            found.append(f"{module} imports the face {name}")
    return found


def inside():
    """The library's files but for faces."""
    return [path for path in FILES if path.name != "__init__.py"]


def test_the_table_names_every_package_and_has_no_circle():
    assert set(PACKAGES) == set(ALLOWED)
    order = list(ALLOWED)
    for name, allowed in ALLOWED.items():
        above = {other for other in allowed if order.index(other) >= order.index(name)}
        assert not above, f"{name} stands under {above}"


def test_imports_run_one_way():
    assert len(inside()) > 100
    assert [wrong for path in inside() for wrong in wrong_arrows(path.read_text(), module_of(path))] == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("helpers.model.decoder", "from helpers.caches.kv_cache import KVCache"),
        ("helpers.engine.routing", "def f():\n    from helpers.simulation.simulator import SimulatedEngine"),
        ("helpers.display.plots", "import helpers.storage.files"),
        ("helpers.ops.torch_ops", 'importlib.import_module("helpers.machine.device")'),
        ("helpers.caches.page_pool", "from helpers.caches import PageIndex"),
        ("helpers.engine.batching", "from helpers.model import DecoderLM"),
        ("helpers.engine.batching", "from helpers import KVCache"),
        ("helpers.caches.kv_cache", "from helpers.checks.machinery.core import CheckFailed"),
    ],
)
def test_a_turned_arrow_is_seen(module, line):
    assert wrong_arrows(line, module)


def test_nothing_stands_outside_a_package_and_no_package_is_crowded():
    assert [path.name for path in LIBRARY.glob("*.py")] == ["__init__.py"]
    folders = {path.parent for path in FILES} - {LIBRARY}
    crowded = {module_of(f): n for f in folders if (n := len(list(f.glob("*.py")))) > MOST_FILES}
    assert crowded == {}


def without_a_test(modules, root=ROOT):
    """Return the modules of the library that have no tests/<package>/test_<module>.py under a root."""
    elsewhere = ("emulated_npu", "checks")  # tests/npu and tests/labs
    for module in modules:
        _, package, *folders, name = module.split(".")
        if package in elsewhere or module in AT_AN_NPU or name == "__main__":
            continue
        if not root.joinpath("tests", package, *folders, f"test_{name}.py").exists():
            yield module


def test_tests_mirror_the_library(tmp_path):
    modules = [module_of(path) for path in inside()]
    assert set(modules) >= AT_AN_NPU
    assert list(without_a_test(modules)) == []
    (tmp_path / "tests/model").mkdir(parents=True)
    (tmp_path / "tests/model/test_cache.py").touch()
    assert list(without_a_test(["helpers.model.cache", "helpers.ops.cache"], tmp_path)) == [
        "helpers.ops.cache"
    ]


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=module_of)
def test_a_face_holds_names_alone(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    rest = tree.body[1:]
    named = [a.asname or a.name for node in rest if isinstance(node, ast.ImportFrom) for a in node.names]
    others = [node for node in rest if not isinstance(node, ast.ImportFrom)]
    if path.parent == LIBRARY:  # sets the environment that torch reads at import
        others = [node for node in others if not isinstance(node, ast.Import | ast.Expr)]
    if not others:
        assert not named
        return
    (exported,) = others
    assert exported.targets[0].id == "__all__"
    assert sorted(ast.literal_eval(exported.value)) == sorted(named)


def names_a_device(source):
    """Lines of a file that choose by a device's name, or reach for an accelerator's module."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            word = re.fullmatch(r"(npu|cuda|emulated-npu|privateuseone)(:\d+)?", node.value)
            found += [node.lineno] if word else []
        elif isinstance(node, ast.Attribute):
            found += [node.lineno] if node.attr in ("npu", "cuda") else []
        elif isinstance(node, ast.Import):
            found += [node.lineno for alias in node.names if alias.name.startswith("torch_npu")]
    return found


def test_devices_are_named_where_devices_are_chosen():
    others = [path for path in inside() if path.relative_to(LIBRARY).parts[0] not in AT_A_DEVICE]
    assert {module_of(path): found for path in others if (found := names_a_device(path.read_text()))} == {}


@pytest.mark.parametrize(
    "line", ["x.to('npu')", "if x.device.type == 'cuda': pass", "torch.npu.synchronize()", "import torch_npu"]
)
def test_a_device_that_is_named_is_seen(line):
    assert names_a_device(line) == [1]


def drawing_libraries(source):
    """What a file imports to draw with; not what it imports for types alone."""
    for node in ast.parse(source).body:
        for inner in [] if isinstance(node, ast.If) else ast.walk(node):
            names = [alias.name for alias in inner.names] if isinstance(inner, ast.Import) else []
            names += [inner.module or ""] if isinstance(inner, ast.ImportFrom) else []
            drawing = ("matplotlib", "ipywidgets", "IPython")
            # IPython's core is the shell that runs cells.
            yield from (n for n in names if n.split(".")[0] in drawing and not n.startswith("IPython.core"))


def test_only_display_and_figures_draw():
    others = [path for path in inside() if path.relative_to(LIBRARY).parts[0] not in DRAWING]
    assert {
        module_of(path): names for path in others if (names := [*drawing_libraries(path.read_text())])
    } == {}
    assert list(drawing_libraries("def f():\n    from matplotlib import pyplot")) == ["matplotlib"]


def behind_a_face(source):
    """Public names of the library that a file imports from a module instead of from its package's face."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            deep = node.module.count(".") > 1 and not node.module.startswith("helpers.emulated_npu")
            private = all(alias.name.startswith("_") for alias in node.names)
            if deep and not private and not is_package(node.module):
                yield node.module


@pytest.mark.parametrize("folder", FROM_OUTSIDE)
def test_others_import_from_faces(folder):
    found = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in sorted(Path(ROOT / folder).rglob("*.py"))
        for module in behind_a_face(path.read_text())
    }
    assert found == set()
    assert list(behind_a_face("from helpers.caches.kv_cache import KVCache")) == ["helpers.caches.kv_cache"]


def test_a_chapter_needs_few_packages():
    """A reader meets ten names of packages; chapter 5 asks for the machine, chapter 12 for replicas."""
    for path in sorted((ROOT / "notebooks/src").glob("*.py")):
        names = [name for name in imported(ast.parse(path.read_text())) if name.startswith("helpers.")]
        packages = {name.split(".")[1] for name in names} - {
            "production"
        }  # a table at the end, in each chapter
        assert len(packages) <= (11 if path.stem.startswith(("05", "12")) else 10), (path.stem, packages)
