"""Makes docs/production.md from helpers.production: `python tools/production.py [--check]`.

It also holds chapters, labs and documents against that table: each option of a production engine that one of them names
must be in the table, and each row must be named somewhere. `--check` writes nothing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from helpers.production import OPTIONS, against, option, reference
from tools import notebooks as nbs

HEAD = """# Options of production engines

Made from the library's package `production` by `tools/production.py`: what the chapters say of vLLM and vLLM-Ascend, each option
with the files that were read for it. "On Ascend" is what vLLM-Ascend makes of an option of vLLM's. "0.23.0 or earlier": that was
the oldest version read. Options change from release to release; look there for yours.
"""
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9]+(?:-[a-z0-9]+)*")
CAPITALS = re.compile(r"(?<![\w/.])(?:[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|PYTHON[A-Z]+)(?!\w)")
KEY = re.compile(r"(?<![\w.])(?:[a-z]\w*_config(?:\.\w+)*|cudagraph_\w+)(?!\w)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
ADDED = re.compile(r"--additional-config[= ]+'(\{.*?\})'", re.DOTALL)
OTHERS = {
    "--index-url": "pip",
    "--create": "nbgrader",
    "--head": "Ray",
    "--address": "Ray",
    "ASCEND_RT_VISIBLE_DEVICES": "CANN; Ray sets it",
    "HCCL_EXEC_TIMEOUT": "HCCL",
    "PYTHONPATH": "Python",
    "OMP_NUM_THREADS": "OpenMP",
    "OMP_WAIT_POLICY": "OpenMP",
    "GOMP_SPINCOUNT": "OpenMP of GCC",
    "W8A8_DYNAMIC": "a tensor's type in a folder of ModelSlim",
    **dict.fromkeys(
        ("generation_config", "quantization_config", "text_config", "vision_config"), "transformers"
    ),
    "PA_NZ": "a cache mode of an operator",
    "nbgrader_config.py": "nbgrader",
    "experimental_config": "torch_npu's profiler",
}
"""Names in code that are no option of a production engine, and whose they are."""
VERSION = re.compile(r"\b\d+\.\d+")
SECTIONS = re.compile(r"^## (?:On Ascend|In production)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def flags_of_the_course(root: Path = nbs.ROOT) -> set[str]:
    """The flags of course.py and of the tools, with those that course.py hands to pip, pytest and JupyterLab."""
    programs = [root / "helpers" / package / "server.py" for package in ("serving", "replicas")]
    files = [root / "course.py", *(root / "tools").rglob("*.py"), *programs]
    quoted = "|".join(re.escape(name) for name in OTHERS)
    found = {flag for file in files for flag in re.findall(r"[\"'](--[a-z][a-z-]+)", file.read_text())}
    return {flag for flag in found if not re.fullmatch(quoted, flag)} | {"--port", "--no-browser", "--cov"}


def texts(root: Path = nbs.ROOT) -> Iterator[tuple[Path, str, str]]:
    """Path, Markdown and code of every source of a chapter or a solution, and of every document."""
    for path in nbs.sources(root):
        cells = nbs.read_source(path).cells
        for kind in ("markdown", "code"):
            text = "\n\n".join(cell.source for cell in cells if cell.cell_type == kind)
            yield (path, text, "") if kind == "markdown" else (path, "", text)
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]
    yield from ((page, page.read_text(), "") for page in pages if page.name != "production.md")


def named(markdown: str, code: str = "") -> set[str]:
    """The names in a text that have the form of an option: flags, keys of JSON options, environment variables."""
    spans = "\n".join(CODE.findall(markdown))
    found = set(FLAG.findall(markdown)) | set(FLAG.findall(code))
    found |= set(CAPITALS.findall(spans)) | set(KEY.findall(spans))
    found |= set(re.findall(r"(?:environ|getenv)\W+([A-Z][A-Z0-9_]+)", code))
    for text in ADDED.findall(markdown):
        found |= set(keys(json.loads(text)))
    return {name for name in found if not name.startswith("COURSE_")}


def keys(value: object) -> Iterator[str]:
    """The keys of a JSON object and of the objects in it."""
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from keys(inner)


def is_known(name: str) -> bool:
    """Whether a name is an option of the table, or a value of one."""
    if name in OTHERS or any(name in fact.values for fact in OPTIONS.values()):
        return True
    try:
        return bool(option(name))
    except ValueError:
        return False


def unknown(markdown: str, code: str = "", ours: set[str] | None = None) -> list[str]:
    """The options that a text names and the table does not hold."""
    known_flags = flags_of_the_course() if ours is None else ours
    return sorted(n for n in named(markdown, code) if n not in known_flags and not is_known(n))


def unused(everything: str) -> list[str]:
    """The options of the table that no text names."""
    whole = {name: name.rpartition(".")[2] for name in OPTIONS}
    return [name for name, word in whole.items() if not re.search(rf"(?<![\w-]){word}(?![\w-])", everything)]


def undated(markdown: str) -> list[str]:
    """The paragraphs of "On Ascend" and "In production" that name an option of the table and no version."""
    blocks = [
        " ".join(block.split())
        for section in SECTIONS.findall(markdown)
        for block in re.split(r"\n\s*\n|\n(?=\s*[-*|] )", section)
    ]
    return [b for b in blocks if any(n in OPTIONS for n in named(b)) and not VERSION.search(b)]


def problems(root: Path = nbs.ROOT) -> list[str]:
    """One sentence for each option without a fact, each fact without a use, and each sentence without a version."""
    ours, found, everything = flags_of_the_course(root), [], []
    for path, markdown, code in texts(root):
        found += [f"{path.name} names {n}, which is not in the table" for n in unknown(markdown, code, ours)]
        found += [f"{path.name} names an option and no version: {b}" for b in undated(markdown)]
        everything += [markdown, code]
    return found + [f"no text names {name}" for name in unused("\n".join(everything))]


def page() -> str:
    """The text of docs/production.md."""
    return f"{HEAD}\n{against(OPTIONS)}\n\n{reference()}"


def main(arguments: list[str]) -> int:
    """The command."""
    target, found = nbs.ROOT / "docs" / "production.md", problems()
    if arguments == ["--check"]:
        fresh = target.exists() and target.read_text() == page()
        found += [] if fresh else ["docs/production.md is out of date; run: python tools/production.py"]
    else:
        target.write_text(page())
    print("\n".join(found) if found else f"{len(OPTIONS)} options, each with its source and its place")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
