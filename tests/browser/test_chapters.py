"""Every chapter in a real browser: its headings are listed, nothing is clipped, faint or overlaps, its panels react.

A chapter is read as it was saved, and of its cells those run that its panels need: that all of them run, and with which outputs,
is shown by the other tests. COURSE_BROWSER_TESTS=whole restarts and runs each chapter from top to bottom instead, and takes
pictures of all of it.
"""

from __future__ import annotations

import itertools
import os

import pytest

from tests.browser.lab import NOTEBOOK, OUTPUT, Lab
from tests.browser.panel import Panel
from tests.browser.server import PANELS_OF
from tools import notebooks as nbs

WHOLE = os.environ.get("COURSE_BROWSER_TESTS") == "whole"
CHAPTERS = sorted(path.stem for path in (nbs.ROOT / "notebooks").glob("*.ipynb"))
WIDTHS = (1920, 1280)
TOO_WIDE = """([notebook, output]) => {
    const right = document.querySelector(notebook).getBoundingClientRect().right
    return [...document.querySelectorAll(output)].filter(out => {
        const parts = [out, ...out.querySelectorAll('img, table, pre')]
        return parts.some(part => part.getBoundingClientRect().right > right + 1) || out.scrollWidth > out.clientWidth + 2
    }).map(out => out.innerText.slice(0, 80) || out.innerHTML.slice(0, 80))
}"""
EMPTY = (
    "notebook => [...document.querySelectorAll(notebook + ' img')].filter(img => !img.naturalWidth).length"
)
THEMES = ("JupyterLab Dark", "JupyterLab Light")
# Texts and tables whose contrast with what lies behind them is below 4.5 to 1, the least for small text in WCAG 2 (1.4.3).
# The words of a listing have colours of JupyterLab's own.
FAINT = """([notebook, output]) => {
    const rgb = color => color.match(/[\\d.]+/g).map(Number)
    const linear = c => c <= 10.3 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    const behind = part => {
        for (; part; part = part.parentElement) {
            const color = rgb(getComputedStyle(part).backgroundColor)
            if (color.length === 3 || color[3] === 1) return color
        }
        return [255, 255, 255]
    }
    const texts = [...document.querySelectorAll(`${notebook} .jp-RenderedMarkdown *, ${output} *`)].filter(part =>
        part.checkVisibility() && !part.matches('pre code span') && [...part.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    return texts.filter(part => {
        const [low, high] = [light(rgb(getComputedStyle(part).color)), light(behind(part))].sort((a, b) => a - b)
        return (high + 0.05) / (low + 0.05) < 4.5
    }).map(part => part.innerText.slice(0, 60))
}"""
OVERLAPPING = """notebook => {
    const cells = [...document.querySelectorAll(notebook + ' .jp-Cell')].map(cell => cell.getBoundingClientRect())
    return cells.slice(1).filter((cell, i) => cell.top < cells[i].bottom - 1).length
}"""


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_as_it_is_read(lab: Lab, chapter: str) -> None:
    path = f"notebooks/{chapter}.ipynb"
    lab.resize(1280)
    lab.open(path)
    if WHOLE:
        lab.restart_and_run_all()
    assert lab.errors() == []
    assert lab.headings() == headings(path)
    for width in WIDTHS:
        lab.resize(width)
        assert_layout(lab)
        lab.long_picture(f"{chapter}_{width}", width) if WHOLE else lab.picture(f"{chapter}_{width}")
    for theme in THEMES:
        lab.theme(theme)
        lab.picture(f"{chapter}_{theme}")
        assert lab.amiss(lambda: lab.page.evaluate(FAINT, [NOTEBOOK, OUTPUT])) == []
    lab.close()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapters_panels(lab: Lab, chapter: str) -> None:
    lab.resize(1280)
    lab.open(f"notebooks/{PANELS_OF}{chapter}.ipynb").restart_and_run_all()
    assert lab.errors() == []
    source = nbs.read(nbs.ROOT / "notebooks" / f"{chapter}.ipynb").cells
    count = sum("SweepPanel(" in cell.source for cell in source)
    lab.until(lambda: len(lab.panels()) == count, 200, f"{count} panels")
    panels = [Panel(lab, where) for where in lab.panels()]
    for width in WIDTHS:
        lab.resize(width)
        assert_layout(lab)
        for number, panel in enumerate(panels):
            panel.where.scroll_into_view_if_needed()
            assert_apart(panel)
            lab.picture(f"{chapter}_panel{number}_{width}")
    for number, panel in enumerate(panels):
        assert_moves(panel, f"panel {number}")
    lab.close()


def headings(path: str) -> list[str]:
    """What the table of contents should list."""
    cells = nbs.read(nbs.ROOT / path).cells
    lines = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    return [line.lstrip("#").strip().replace("`", "") for line in lines if line.startswith("#")]


def assert_layout(lab: Lab) -> None:
    """Everything fits into the notebook's width, no picture is empty, nothing lies on something else."""
    assert lab.amiss(lambda: lab.page.evaluate(TOO_WIDE, [NOTEBOOK, OUTPUT])) == []
    assert lab.amiss(lambda: lab.page.evaluate(EMPTY, NOTEBOOK)) == 0
    assert lab.amiss(lambda: lab.page.evaluate(OVERLAPPING, NOTEBOOK)) == 0


def assert_apart(panel: Panel) -> None:
    """No two parts of a panel overlap."""
    for a, b in itertools.combinations(panel.boxes(), 2):
        across = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
        down = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
        assert min(across, down) <= 1, f"{a} and {b} overlap"


def assert_moves(panel: Panel, name: str) -> None:
    """Picture and table follow every control."""
    controls = panel.controls()
    assert controls, f"{name} has none"
    for i, control in enumerate(controls):
        picture, table = panel.move(control)
        assert picture, f"{name}: the picture does not follow control {i}"
        assert table, f"{name}: the table does not follow control {i}"
