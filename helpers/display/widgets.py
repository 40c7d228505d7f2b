"""Interactive panels: a few controls, and a figure and a table that follow the controls."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as w
from matplotlib.figure import Figure

from helpers.display.plots import png
from helpers.display.tables import Table

Draw = Callable[..., tuple[Figure, Table]]
_LABELS = {"description_width": "10.5em"}
_WIDE = {"width": "28em"}


class SweepPanel(w.VBox):  # type: ignore[misc]
    """Controls above a figure and a table, both redrawn by a pure function whenever a control changes.

    A notebook saves the panel as a table and a picture. So the panel can be read, and a test can compare the
    table, where no kernel runs.
    """

    def __init__(self, draw: Draw, controls: Mapping[str, w.Widget], alt: str = "The panel's figure"):
        """Draw the panel for the first values of its `controls`; `alt` says in words what the figure shows.

        `draw(**values)` returns a figure and a table for the controls' values. An error of `draw` is raised
        here for the first values. For later values the panel shows the error, of a ValueError the sentence alone.
        """
        self._draw, self._controls = draw, dict(controls)
        self._alt = html.escape(alt)
        self._picture, self._html = w.HTML(), w.HTML()  # an Image widget has no text alternative
        wrap = w.Layout(flex_flow="row wrap", align_items="flex-start")
        shown = w.HBox([self._picture, self._html], layout=wrap)
        bar = w.HBox(list(self._controls.values()), layout=w.Layout(flex_flow="row wrap"))
        super().__init__([bar, shown])
        for control in self._controls.values():
            control.observe(self._redraw, names="value")
        self._show()

    @property
    def values(self) -> dict[str, Any]:
        """Return the controls' values by name."""
        return {name: control.value for name, control in self._controls.items()}

    @property
    def picture(self) -> str:
        """Return the shown figure, an HTML image."""
        return str(self._picture.value)

    @property
    def table(self) -> str:
        """Return the shown table, in HTML."""
        return str(self._html.value)

    def set(self, **values: Any) -> SweepPanel:
        """Move controls to the given values, as a person would, and return the panel.

        Raises ValueError for a name that is no control, before any control moves.
        """
        unknown = [name for name in values if name not in self._controls]
        if unknown:
            raise ValueError(f"no control {unknown[0]!r}; there are {', '.join(self._controls)}")
        for name, value in values.items():
            self._controls[name].value = value
        return self

    def _show(self) -> None:
        """Draw anew; picture and table change together or not at all."""
        figure, table = self._draw(**self.values)
        picture, text = base64.b64encode(png(figure)).decode(), table._repr_html_()
        self._picture.value = (
            f'<img alt="{self._alt}" style="max-width: 44em" src="data:image/png;base64,{picture}">'
        )
        self._html.value = text

    def _redraw(self, change: object) -> None:
        """Draw anew after a control changed; show an error instead of the table, beside the last picture."""
        try:
            self._show()
        except ValueError as error:  # its one sentence says what is wrong with a value
            self._html.value = f"<p>{html.escape(str(error))}</p>"
        except Exception as error:  # an error raised in a callback would reach only the kernel's log
            self._html.value = f"<p><b>{type(error).__name__}:</b> {html.escape(str(error))}</p>"

    def __repr__(self) -> str:
        return "SweepPanel(" + ", ".join(f"{name}={value!r}" for name, value in self.values.items()) + ")"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Return the live view, and with it the table and the picture for pages that have no kernel."""
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs) or {}
        bundle["text/plain"] = repr(self)
        bundle["text/html"] = f"{self.table}\n{self._picture.value}"
        return bundle


def int_slider(description: str, value: int, min: int = 1, max: int = 100, step: int = 1) -> w.IntSlider:
    """Return a slider over whole numbers."""
    return w.IntSlider(
        value=value, min=min, max=max, step=step, description=description, style=_LABELS, layout=_WIDE
    )


def power_slider(description: str, value: int, min: int = 1, max: int = 1024) -> w.SelectionSlider:
    """Return a slider over the powers of two from `min` to `max`.

    Raises ValueError unless `min`, `value` and `max` are powers of two in this order.
    """
    options = [2**i for i in range(min.bit_length() - 1, max.bit_length())]
    if value not in options or options[0] != min or options[-1] != max:
        raise ValueError(f"expected powers of two with min <= value <= max, got {min}, {value}, {max}")
    return w.SelectionSlider(
        value=value, options=options, description=description, style=_LABELS, layout=_WIDE
    )


def dropdown(description: str, options: Sequence[Any], value: Any = None) -> w.Dropdown:
    """Return a list to choose one of `options` from; without `value` the first option is chosen."""
    chosen = options[0] if value is None else value
    return w.Dropdown(
        options=list(options), value=chosen, description=description, style=_LABELS, layout=_WIDE
    )


def text_box(description: str, placeholder: str = "") -> w.Text:
    """Return a box for one line of text, empty at first; its text counts when Enter is pressed or the box is
    left.

    `placeholder` says in the empty box what may be written.
    """
    return w.Text(
        placeholder=placeholder, description=description, continuous_update=False, style=_LABELS, layout=_WIDE
    )
