"""How soon a panel follows a key: `python -m benchmarks.widgets [CHAPTER ...]`; without a name, all panels of all chapters.

In a real browser (Chromium or Chrome, headless, software rendering) on a JupyterLab that runs on the same machine, each control of each
panel is moved ten times, to and fro. A sample runs from the key's event in the page until the new picture is decoded and a
frame has been drawn. Of a chapter only those cells run that its panel needs. Bar: a median under 150 ms for every panel on two
cores. Results of chapters that are not named stay as they were.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Locator

from benchmarks.record import RESULTS, write
from tests.browser.lab import Lab
from tests.browser.panel import Panel, keys_of
from tests.browser.server import PANELS_OF, jupyterlab, page_on
from tools import notebooks as nbs

# Resolves with the milliseconds from the next key to a frame with another picture.
FOLLOWED = """panel => { window.followed = new Promise(resolve => {
    const before = panel.querySelector('img').src
    document.addEventListener('keydown', event => {
        const pressed = performance.now()
        const look = async () => {
            const image = panel.querySelector('img')
            if (!image || image.src === before) return requestAnimationFrame(look)
            await image.decode()
            requestAnimationFrame(() => resolve(performance.now() - pressed))
        }
        requestAnimationFrame(look)
        setTimeout(() => resolve(null), 3000)
    }, {capture: true, once: true})
}) }"""


def samples(lab: Lab, panel: Panel, control: Locator, presses: int) -> list[float]:
    """Milliseconds of each press that changed the picture; a key and its opposite take turns."""
    found = []
    for i in range(2 * presses):
        control.focus()
        panel.where.evaluate(FOLLOWED)
        lab.page.keyboard.press(keys_of(control)[i % 2])
        took = lab.page.evaluate("window.followed")
        found += [] if took is None else [took]
        lab.page.wait_for_timeout(150)
        if len(found) == presses:
            return found
    raise RuntimeError("the picture does not follow a control to and fro")


def measure(lab: Lab, chapter: str, presses: int) -> dict[str, list[float]]:
    """Samples by panel and control of one chapter."""
    lab.open(f"notebooks/{PANELS_OF}{chapter}.ipynb").restart_and_run_all()
    if lab.errors():
        raise RuntimeError(f"{chapter}: {lab.errors()[0]}")
    found = {}
    for number, panel in enumerate(Panel(lab, where) for where in lab.panels()):
        for i, control in enumerate(panel.controls()):
            found[f"panel {number}, control {i}"] = samples(lab, panel, control, presses)
    lab.close()
    return found


def main() -> None:
    """Measures, prints medians, writes every sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER")
    parser.add_argument("--presses", type=int, default=10)
    options = parser.parse_args()
    every = sorted(path.stem for path in (nbs.ROOT / "notebooks").glob("*.ipynb"))
    target, key = RESULTS / "widgets.json", "milliseconds by chapter, panel and control"
    results = json.loads(target.read_text())[key] if target.exists() and options.chapters else {}
    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as (url, token):
        with page_on(url, token, Path(folder)) as lab:
            for chapter in options.chapters or every:
                results[chapter] = measure(lab, chapter, options.presses)
                for name, values in results[chapter].items():
                    print(f"{chapter:<30}{name:<24}{statistics.median(values):6.0f} ms", flush=True)
    print(write("widgets", {key: dict(sorted(results.items()))}, ("jupyterlab", "ipywidgets", "matplotlib")))


if __name__ == "__main__":
    main()
