"""Executes sources into notebooks: `python tools/refresh.py [NAME ...] [--force | --text]`; without a name, all of them.

A chapter and its solution have one name: `NAME` is the chapter, `solutions/NAME` the solution, and nothing else is executed.
Each cell is named when it begins, with its time when it has ended.

A second run changes no byte although some outputs are measurements. A cell whose source did not change keeps its earlier
outputs when the new ones differ only in what `tests/sanitize.cfg` hides, or, if the cell has the tag `measured` (a
figure drawn from measurements), when their text agrees so. When one cell's measurements must be taken anew, all are, so
that tables and figures of a notebook tell of one run. `--force` takes every output anew. `--text` executes nothing: it takes
over what stands between unchanged code cells, and their tags.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import notebooks as nbs


def refresh(source: Path, force: bool = False) -> None:
    """Writes the source's notebook, executed; on a failing cell the old notebook stays and one of nbs.FAILURES is raised."""
    target = nbs.notebook_of(source)
    fresh = nbs.execute(nbs.read_source(source), target.parent, log=say)
    nbs.tidy(fresh)
    if target.exists() and not force:
        keep_equal_outputs(fresh, nbs.read(target))
    write(fresh, target)


def say(text: str) -> None:
    """Print a piece of the log at once, so that a cell that takes long is seen while it runs."""
    print(text, end="", flush=True)


def take_text(source: Path) -> None:
    """Writes the source's texts and tags into its notebook, outputs left as they are; ValueError when code has changed."""
    target = nbs.notebook_of(source)
    fresh, old = nbs.read_source(source), nbs.read(target) if target.exists() else nbformat.v4.new_notebook()
    new, before = ([cell for cell in nb.cells if cell.cell_type == "code"] for nb in (fresh, old))
    if [cell.source for cell in new] != [cell.source for cell in before]:
        raise ValueError("its code has changed; refresh it without --text")
    for cell, executed in zip(new, before, strict=True):
        cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
    write(fresh, target)


def write(notebook: NotebookNode, target: Path) -> None:
    """Writes a notebook whole or not at all."""
    temporary = target.with_name(f".{target.name}.part")
    nbformat.write(notebook, temporary)
    os.replace(temporary, target)


def keep_equal_outputs(fresh: NotebookNode, old: NotebookNode) -> None:
    """Puts the old outputs into those cells of `fresh` where only measurements differ; into none when one has new ones."""
    earlier = {cell.id: cell for cell in old.cells if cell.cell_type == "code"}
    code = [cell for cell in fresh.cells if cell.cell_type == "code"]
    equal = [cell for cell in code if cell.id in earlier and only_measurements_differ(earlier[cell.id], cell)]
    if any(is_measured(cell) for cell in code if cell not in equal):
        equal = [cell for cell in equal if not is_measured(cell)]
    for cell in equal:
        cell.outputs = earlier[cell.id].outputs
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count


def is_measured(cell: NotebookNode) -> bool:
    """Whether a cell shows measurements: in its text, or in a figure by its tag."""
    texts = [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "measured" in cell.metadata.get("tags", []) or any(nbs.sanitised(text) != text for text in texts)


def only_measurements_differ(before: NotebookNode, cell: NotebookNode) -> bool:
    """Whether the outputs agree in all that is no measurement."""
    text_only = "measured" in cell.metadata.get("tags", [])
    return comparable(before, text_only) == comparable(cell, text_only)


def comparable(cell: NotebookNode, text_only: bool) -> list[object]:
    """A cell's outputs with the sanitiser applied to every text; without pictures if `text_only`."""
    parts: list[object] = []
    for output in cell.outputs:
        # its metadata are a figure's width and text alternative
        parts.append((output.output_type, output.get("metadata", {})))
        if output.output_type == "error":
            parts.append((output.ename, nbs.sanitised(output.evalue)))
        if output.output_type == "stream":
            parts.append((output.name, nbs.sanitised(output.text)))
            continue
        for kind, data in sorted(output.get("data", {}).items()):
            if kind.startswith("text/"):
                # a panel's picture is part of its HTML: unequal pictures must be seen
                parts.append((kind, nbs.sanitised(data) if text_only else _without_measurements(data)))
            elif not (text_only and kind.startswith("image/")):
                parts.append((kind, data))
    return parts


def _without_measurements(text: str) -> str:
    """The text sanitised, its embedded pictures kept."""
    pictures = [part for part in text.split('"') if part.startswith("data:image/png")]
    return nbs.sanitised(text) + "".join(pictures)


def meant(name: str) -> list[Path]:
    """The source that a name means, with or without ending; a chapter where the name has no folder and both have it."""
    folders = {"notebooks", "solutions"}.intersection(Path(name).parts[:-1])
    found = [source for source in nbs.sources() if source.stem == Path(name).stem]
    return [source for source in found if not folders or source.parent.parent.name in folders][:1]


def main(arguments: list[str] | None = None) -> int:
    """The command: exit status 1 when a cell failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a chapter's name; solutions/NAME is the solution of that name",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--force", action="store_true", help="take every output anew")
    how.add_argument("--text", action="store_true", help="execute nothing: code is as it was")
    options = parser.parse_args(arguments)
    sources = {name: meant(name) for name in options.names}
    if unknown := [name for name, found in sources.items() if not found]:
        parser.error(f"no source named {', '.join(sorted(unknown))}")
    wanted = {source for found in sources.values() for source in found}
    nbs.use_this_interpreter()
    chosen = [source for source in nbs.sources() if not wanted or source in wanted]
    for source in chosen:
        name, start = f"{source.parent.parent.name}/{source.stem}", time.perf_counter()
        say(f"{name}\n")
        try:
            take_text(source) if options.text else refresh(source, options.force)
        except ValueError as error:
            print(f"{name}: {error}")
            return 1
        except nbs.FAILURES as error:
            print(f"\n{name}: a cell failed, the notebook stays as it was\n{error}")
            return 1
        say(f"{name}: {time.perf_counter() - start:.1f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
