"""Say which numbers in the prose no code and no output shows: `python tools/prose_numbers.py`; exit status 1 when there are.

Prose is what a reader reads and Python does not compute: Markdown, and texts in code, such as a figure's title. A number in prose
must be one that the same notebook's code writes as a number, or that an output shows. So a changed 36 is found wherever 36 is told.
Not looked at are numbers below `LEAST` (some code has a 4, whatever the 4 of the text means), what `_NAMES` matches, and what
follows `OTHER_SOFTWARE`, whose numbers no cell of ours can show. A number may be told in another unit, as 0.5 s is 500 ms.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import notebooks as nbs

LEAST = 10
OTHER_SOFTWARE = ("## On Ascend", "## In production")
ALLOWED: dict[str, dict[str, str]] = {
    "notebooks/01_memory_math": {"68.7": "64 GiB in GB, beside the definition of both"},
    "notebooks/02_prefill_decode_profiling": {"99": "what p99 means"},
    "notebooks/04_prefix_reuse": {"7391": "the secret is a word in a conversation, not a quantity"},
    "solutions/08_scheduling": {"95": "the check asks for it: helpers/checks/lab08.py"},
}
"""Numbers that no cell shows, by source, each with the reason."""

_NUMBER = re.compile(r"(?<![\w.,/-])[1-9][\d,]*(?:\.\d+)?(?![\w/]|\.\d|-[a-z])")
# Names, addresses and invented examples, not quantities that a cell shows: links, code, formulas, years of papers, numbers of
# chapters and of layers; minutes, which the headings of the exercises and a test of their sum hold; hints; questions to check oneself.
_NAMES = re.compile(
    r"""\[\d+\ [^\]]*\]\([^)]*\)|\]\([^)]*\)|https?://\S+|```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|arXiv:\S+|\b(?:19|20)\d\d\b
    |^<details>.*?</details>|^\*\*Check\ yourself.*|<[^>]*>|(?i:chapters?|labs?|exercises?)\ [\d., and to]+|^\#+\ [\d.]+
    |\blayer\ \d+|^\|\ \d+\ \|
    |\d+\ minutes""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_UNITS = [10.0**power for power in (0, 2, 3, 6, 9, 12, -2, -3, -6, -9, -12)]


def unknown(notebook: NotebookNode) -> list[str]:
    """Return the numbers of a notebook's prose that neither its code nor its outputs show, each with its words around it."""
    known = {_rounded(value * unit) for value in _shown(notebook) for unit in _UNITS}
    return [
        f"{number}: ...{' '.join(around.split())}..."
        for text in _prose(notebook)
        for number, value, around in _numbers(text)
        if value >= LEAST and _rounded(value) not in known
    ]


def _rounded(value: float) -> float:
    """Return the value without the last digits of binary arithmetic."""
    return float(f"{value:.12g}")


def _prose(notebook: NotebookNode) -> Iterator[str]:
    """Give the texts of a notebook: Markdown about our own cells, and the texts in code."""
    skipped = False
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from _strings(cell.source)
            continue
        for part in re.split(r"(?m)^(?=## )", cell.source):
            if part.startswith("## "):
                skipped = part.startswith(OTHER_SOFTWARE)
            if not skipped:
                yield _NAMES.sub(" ; ", part)


def _shown(notebook: NotebookNode) -> Iterator[float]:
    """Give the numbers that code computes with, and those of outputs that are more than a text of the code repeated."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = sorted({text for cell in code for text in _strings(cell.source)}, key=len, reverse=True)
    for cell in code:
        yield from _literals(cell.source)
        output = "\n".join(_output(cell))
        for text in texts:
            output = output.replace(text, " ; ")
        yield from (value for _, value, _ in _numbers(output))


def _output(cell: NotebookNode) -> Iterator[str]:
    """Give the texts that a cell shows."""
    for output in cell.get("outputs", []):
        yield output.get("text", "") + output.get("evalue", "")
        yield output.get("data", {}).get("text/plain", "")


def _literals(code: str) -> Iterator[float]:
    """Give the numbers that stand in code as numbers, in formatted strings as well."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield float(node.value)


def _strings(code: str) -> Iterator[str]:
    """Give the texts in code that hold a digit, comments among them; of a formatted string the parts that are text."""
    tree = ast.parse(code)
    formats = [node.format_spec for node in ast.walk(tree) if isinstance(node, ast.FormattedValue)]
    widths = {id(part) for spec in formats if spec for part in ast.walk(spec)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in widths
        if is_text and re.search(r"\d", node.value):
            yield node.value
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def _numbers(text: str) -> Iterator[tuple[str, float, str]]:
    """Give each number of a text as it is written, its value, and the words around it."""
    for found in _NUMBER.finditer(text):
        word = found.group().rstrip(",")
        yield word, float(word.replace(",", "")), text[max(0, found.start() - 30) : found.end() + 30]


def problems(sources: Iterable[Path] | None = None) -> list[str]:
    """Return one sentence for each number that nothing shows and that `ALLOWED` does not explain."""
    found = []
    for source in nbs.sources() if sources is None else sources:
        name = f"{source.parent.parent.name}/{source.stem}"
        notebook = nbs.notebook_of(source)
        for text in unknown(_with_outputs(nbs.read_source(source), notebook)):
            if text.split(":")[0] not in ALLOWED.get(name, {}):
                found.append(f"{name}: no cell shows {text}")
    return found


def unused() -> list[str]:
    """Return the entries of `ALLOWED` that explain nothing any more."""
    found = []
    for name, reasons in ALLOWED.items():
        source = nbs.ROOT / name.replace("/", "/src/")
        notebook = source.parent.parent / f"{source.name}.ipynb"
        told = unknown(_with_outputs(nbs.read_source(source.with_suffix(".py")), notebook))
        found += [
            f"{name}: {number}"
            for number in reasons
            if not any(text.startswith(f"{number}:") for text in told)
        ]
    return found


def _with_outputs(fresh: NotebookNode, path: Path) -> NotebookNode:
    """Return the source's notebook with the outputs of the cells that have been executed."""
    outputs = {cell.id: cell.get("outputs", []) for cell in nbs.read(path).cells} if path.exists() else {}
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs = outputs.get(cell.id, [])
    return fresh


def main() -> int:
    """The command."""
    found = problems()
    print("\n".join(found) if found else "each number in the prose is shown by a cell")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
