"""The library's own source, shown highlighted in a notebook, so that no chapter carries a second copy."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.display.wrapping import wrapped


@dataclass(frozen=True)
class Source:
    """A piece of source code that a notebook shows highlighted, with the name of its file.

    The source is shown as Markdown: the page that renders the notebook chooses colours for its own
    background, light or dark.
    """

    file: str
    text: str
    language: str = "python"

    def __repr__(self) -> str:
        return f"# {self.file}\n{self.text}"

    def _repr_markdown_(self) -> str:
        return f"`{self.file}`\n\n```{self.language}\n{self.text}\n```"


def show_source(thing: Callable[..., Any] | type) -> Source:
    """Return the source of a function, method or class of `helpers`, as the file on disk has it.

    Lines that are too long for a listing are broken (`wrapped`).
    """
    thing = inspect.unwrap(thing)  # `helpers.ops` wraps functions of other files
    path = Path(inspect.getsourcefile(thing) or "")
    root = Path(__file__).parents[2]
    text = inspect.cleandoc("\n" + inspect.getsource(thing))
    return Source(path.relative_to(root).as_posix(), wrapped(text))


def show_kernel(file: str, name: str) -> Source:
    """Return a C++ function of `helpers/native/sources`, with the comment above it.

    Raises ValueError for a function that the file does not have.
    """
    root = Path(__file__).parents[2]
    path = root / "helpers" / "native" / "sources" / file
    lines = path.read_text().splitlines()
    # a function begins where its name stands before a bracket in a line that is not indented, and ends with a lone brace
    begins = re.compile(rf"\S.*\b{re.escape(name)}\(")
    place = next(
        (i for i, line in enumerate(lines) if begins.match(line) and not line.startswith("//")), None
    )
    if place is None:
        raise ValueError(f"{file} has no function {name!r}")
    start, end = place, lines.index("}", place)
    while start and re.match(r"//|template", lines[start - 1]):
        start -= 1
    return Source(path.relative_to(root).as_posix(), "\n".join(lines[start : end + 1]), "cpp")
