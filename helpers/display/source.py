"""The library's own source, shown highlighted in a notebook, so that no chapter carries a second copy."""

from __future__ import annotations

import inspect
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

    def __repr__(self) -> str:
        return f"# {self.file}\n{self.text}"

    def _repr_markdown_(self) -> str:
        return f"`{self.file}`\n\n```python\n{self.text}\n```"


def show_source(thing: Callable[..., Any] | type) -> Source:
    """Return the source of a function, method or class of `helpers`, as the file on disk has it.

    Lines that are too long for a listing are broken (`wrapped`).
    """
    thing = inspect.unwrap(thing)  # `helpers.ops` wraps functions of other files
    path = Path(inspect.getsourcefile(thing) or "")
    root = Path(__file__).parents[2]
    text = inspect.cleandoc("\n" + inspect.getsource(thing))
    return Source(path.relative_to(root).as_posix(), wrapped(text))
