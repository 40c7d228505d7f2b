"""A bar that shows how far a long cell is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import ipywidgets as w
from IPython.display import display

T = TypeVar("T")


class ProgressBar(w.HBox):  # type: ignore[misc]
    """A bar with a label, which moves by one step at a time while a cell runs.

    A notebook saves its text alone, which does not say how far the bar came: the text is the same in every run.
    """

    def __init__(self, total: int, label: str):
        """Begin at 0 of `total` steps; `label` says what is counted. Raises ValueError for less than one step."""
        if total < 1:
            raise ValueError(f"a progress bar has 1 step or more, got {total}")
        self._label = label
        self._bar = w.IntProgress(value=0, max=total)
        self._text = w.Label()
        super().__init__([self._bar, self._text])
        self._say()

    @property
    def done(self) -> int:
        """Return the steps that are done."""
        return int(self._bar.value)

    @property
    def text(self) -> str:
        """Return what stands beside the bar."""
        return str(self._text.value)

    def step(self, name: object = None) -> None:
        """Move on by one step; `name` is not used, so that the bar can be called with what was done."""
        self._bar.value = min(self.done + 1, self._bar.max)
        self._say()

    def _say(self) -> None:
        """Write the numbers beside the bar."""
        self._text.value = f"{self.done} of {self._bar.max} {self._label}"

    def __repr__(self) -> str:
        return f"{self._bar.max} {self._label}, with a bar while they are computed"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Return the live view, and the text for pages that have no kernel."""
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs) or {}
        bundle["text/plain"] = repr(self)
        return bundle


def shown_bar(total: int, label: str) -> ProgressBar:
    """Return a bar that is on display already; errors as those of `ProgressBar`."""
    bar = ProgressBar(total, label)
    display(bar)  # type: ignore[no-untyped-call]
    return bar


def with_bar(items: Sequence[T], label: str) -> Iterator[T]:
    """Yield the items, and move a bar on display when each is done."""
    bar = shown_bar(len(items), label)
    for item in items:
        yield item
        bar.step()
