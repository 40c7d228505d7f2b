"""JupyterLab in a real browser, as a person uses it: with its menus, the mouse and the keyboard."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from playwright.sync_api import Locator, Page

T = TypeVar("T")
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
NOTEBOOK = f"{PANEL} .jp-Notebook"
OUTPUT = f"{NOTEBOOK} .jp-OutputArea-output"
FAILED = ", ".join(
    f'{OUTPUT}[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in ("error", "stderr")
)
CONTENTS = '.lm-TabBar-tab[data-id="table-of-contents"]'
TALL = 30_000  # pixels: the whole notebook is on the screen, nothing is scrolled
# How many cells run or wait their turn, how many are done, and what the kernel says of itself.
STATE = """([notebook, panel]) => {
    const prompts = [...document.querySelectorAll(notebook + ' .jp-CodeCell .jp-InputPrompt')].map(p => p.textContent)
    const kernel = document.querySelector(panel + ' .jp-Notebook-ExecutionIndicator')
    return [prompts.filter(p => p.includes('*')).length, prompts.filter(p => /[0-9]/.test(p)).length, kernel?.dataset.status ?? '']
}"""
TALL_ENOUGH = "([notebook, tall]) => document.querySelector(notebook).clientHeight > tall / 2"
BOTTOM = """notebook => {
    const cells = [...document.querySelectorAll(notebook + ' .jp-Cell')]
    cells[0].scrollIntoView()
    return cells.at(-1).getBoundingClientRect().bottom
}"""
PASTE = """(editor, text) => {
    const data = new DataTransfer()
    data.setData('text/plain', text)
    editor.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}))
}"""


class Lab:
    """One browser page on a running JupyterLab."""

    def __init__(self, page: Page, url: str, token: str, screenshots: Path):
        self.page, self._url, self._token, self._screenshots = page, url, token, screenshots

    def open(self, path: str = "") -> Lab:
        """Opens a notebook, or without a path what `course.py lab` opens, and waits for its kernel."""
        place = f"lab/tree/{path}?reset&" if path else "?"
        self.page.goto(f"{self._url}/{place}token={self._token}")
        self.page.locator(f"{NOTEBOOK} .jp-Cell").first.wait_for()
        self.page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()
        self.page.wait_for_timeout(1_500)  # what is run while JupyterLab still connects gets lost
        return self

    def close(self) -> None:
        """Shuts the notebook's kernel down, so that the next one has the machine to itself."""
        self.menu("Kernel", "Shut Down Kernel")
        self.page.wait_for_timeout(500)

    def restart_and_run_all(self, seconds: float = 1200) -> None:
        """Kernel > Restart Kernel and Run All Cells, and waits until the last cell is done."""
        for _ in range(2):
            self.menu("Kernel", "Restart Kernel and Run All Cells…")
            self.page.get_by_role("button", name="Confirm Kernel Restart").click()
            self.until(lambda: self._state()[0], 200, "the first cell")
            if self._finishes(seconds):
                self.page.wait_for_timeout(1_000)  # the last output is drawn
                return
        raise TimeoutError("JupyterLab lost the cells of two restarts")

    def errors(self) -> list[str]:
        """The text of each error and of what went to the standard error, in order."""
        return self.page.locator(FAILED).all_inner_texts()

    def headings(self) -> list[str]:
        """What the table of contents lists."""
        self.page.locator(CONTENTS).click()
        items = self.page.locator(".jp-TableOfContents-content .jp-tocItem-content")
        items.first.wait_for()
        texts = items.all_inner_texts()
        self.page.locator(CONTENTS).click()
        return [text.strip() for text in texts if text.strip()]

    def cell(self, number: int) -> Locator:
        """A code cell by its place among them."""
        return self.page.locator(f"{NOTEBOOK} .jp-CodeCell").nth(number)

    def run_cell(self, number: int, source: str | None = None, seconds: float = 400) -> str:
        """Runs a code cell, with a new source if one is given; its output's text."""
        cell = self.cell(number)
        before = self._prompt(cell)
        cell.locator(".cm-content").click()
        if source is not None:
            self.page.keyboard.press("ControlOrMeta+a")
            cell.locator(".cm-content").evaluate(PASTE, source)
        self.page.keyboard.press("ControlOrMeta+Enter")
        self.until(lambda: self._prompt(cell) not in (before, "[*]:"), seconds, "a cell")
        self.until(lambda: self._state()[2] == "idle", seconds, "a cell's last output")
        self.page.wait_for_timeout(200)  # its output is drawn
        return "\n".join(cell.locator(".jp-OutputArea-output").all_inner_texts()).strip()

    def panels(self) -> list[Locator]:
        """The notebook's panels: outputs with controls."""
        return self.page.locator(f"{OUTPUT}:has(.widget-vbox)").all()

    def theme(self, name: str) -> None:
        """Settings > Theme: another set of colours, `JupyterLab Light` or `JupyterLab Dark`."""
        self.menu("Settings", "Theme", name)
        seen = "document.body.dataset.jpThemeName"
        self.until(lambda: self.page.evaluate(seen) == name, 200, f"the theme {name}")
        self.page.wait_for_timeout(300)  # its colours are drawn

    def resize(self, width: int, height: int = 1_000) -> None:
        """Another size of the window, in pixels."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.wait_for_timeout(500)

    def picture(self, name: str) -> None:
        """A screenshot of what is on the screen, kept for people to look at."""
        self._screenshots.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self._screenshots / f"{name}.png")

    def long_picture(self, name: str, width: int) -> None:
        """A screenshot of the whole notebook, which takes long to draw."""
        self.resize(width, TALL)
        self.until(lambda: self.page.evaluate(TALL_ENOUGH, [NOTEBOOK, TALL]), 400, "a tall window")
        self.page.wait_for_timeout(2_000)  # cells that were never on the screen are drawn
        bottom = self.page.evaluate(BOTTOM, NOTEBOOK)
        self.resize(width, min(TALL, int(bottom) + 60))
        self.picture(name)

    def until(self, holds: Callable[[], Any], seconds: float, what: str, every: int = 100) -> None:
        """Waits until something holds; TimeoutError that names `what` did not come."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                self.picture("too_late")
                raise TimeoutError(f"{what}: not within {seconds:g} seconds")
            self.page.wait_for_timeout(every)

    def amiss(self, found: Callable[[], T], seconds: float = 60) -> T:
        """What is found amiss when nothing is, or after so many seconds: a busy machine draws late."""
        end = time.monotonic() + seconds
        while (wrong := found()) and time.monotonic() < end:
            self.page.wait_for_timeout(200)
        return wrong

    def menu(self, menu: str, *entries: str) -> None:
        """Chooses an entry of a menu, or of its submenus."""
        self.page.locator(".lm-MenuBar-itemLabel").get_by_text(menu, exact=True).first.click()
        for entry in entries:
            self.page.locator(".lm-Menu-itemLabel").get_by_text(entry, exact=True).click()

    @staticmethod
    def _prompt(cell: Locator) -> str:
        """What stands before a code cell: [ ]:, [*]: or a number."""
        return cell.locator(".jp-InputPrompt").inner_text().strip()

    def _finishes(self, seconds: float) -> bool:
        """Whether all cells come to their end; no, where cells wait and the kernel has long had nothing to do."""
        idle_since = None

        def ended() -> bool:
            nonlocal idle_since
            waiting, _, status = self._state()
            idle_since = None if status != "idle" else idle_since or time.monotonic()
            return not waiting or (idle_since is not None and time.monotonic() - idle_since > 30)

        self.until(
            ended, seconds, "all cells", every=400
        )  # a question costs the browser time, which the cells need
        return not self._state()[0]

    def _state(self) -> tuple[int, int, str]:
        """How many cells run or wait, how many have run, and the kernel's state."""
        waiting, done, status = self.page.evaluate(STATE, [NOTEBOOK, PANEL])
        return waiting, done, status
