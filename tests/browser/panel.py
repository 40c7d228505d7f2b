"""One panel in the browser: its controls are moved with the keyboard, its picture and table are watched."""

from __future__ import annotations

from playwright.sync_api import Locator

from tests.browser.lab import Lab

SLIDER, LIST = ".noUi-handle", "select"
# What the picture and the table hold, short enough to be asked for often.
SHOWN = """panel => {
    const data = panel.querySelector('img')?.src ?? ''
    let sum = data.length
    for (let i = 0; i < data.length; i++) sum = (sum * 31 + data.charCodeAt(i)) | 0
    return [String(sum), panel.querySelector('table')?.innerText ?? '']
}"""


class Panel:
    """Controls, a picture and a table."""

    def __init__(self, lab: Lab, where: Locator):
        self._lab, self.where = lab, where

    def controls(self) -> list[Locator]:
        """What can be moved, in the order of the tab key."""
        return self.where.locator(f"{SLIDER}, {LIST}, input[type=checkbox]").all()

    def boxes(self) -> list[dict[str, float]]:
        """Where the controls, the picture and the table are on the screen."""
        parts = self.where.locator(".widget-inline-hbox, .widget-html")
        return [dict(box) for part in parts.all() if (box := part.bounding_box())]

    def shown(self) -> tuple[str, str]:
        """What identifies the picture, and the table's text."""
        picture, table = self.where.evaluate(SHOWN)
        return picture, table

    def move(self, control: Locator) -> tuple[bool, bool]:
        """Uses the keyboard on a control until picture and table have changed, and puts it back; whether each has."""
        before, start, changed = self.shown(), self._place(control), (False, False)
        there, back = keys_of(control)
        for key in [there] * 6 + [back] * 12:
            self._press(control, key)
            now = self.shown()
            changed = (changed[0] or now[0] != before[0], changed[1] or now[1] != before[1])
            if all(changed):
                break
        for _ in range(18):  # not more than were pressed above
            if (place := self._place(control)) == start:
                break
            self._press(control, back if place > start else there)
        return changed

    def _press(self, control: Locator, key: str) -> None:
        """Presses a key; waits until something has changed, a second at most, and then until nothing does."""
        last = self.shown()
        control.focus()
        self._lab.page.keyboard.press(key)
        for wait in [25] * 40:
            self._lab.page.wait_for_timeout(wait)
            if (now := self.shown()) != last:
                break
        while now != last:
            last = now
            self._lab.page.wait_for_timeout(60)
            now = self.shown()

    @staticmethod
    def _place(control: Locator) -> float:
        """Where a slider or a list stands: its value, or the number of the entry; 0 for a box that is ticked."""
        if control.get_attribute("role") == "slider":
            return float(control.get_attribute("aria-valuenow") or 0)
        return int(control.evaluate("control => control.selectedIndex ?? 0"))


def keys_of(control: Locator) -> tuple[str, str]:
    """The keys that move a control there and back."""
    is_list = control.evaluate("control => control.tagName === 'SELECT'")
    return ("ArrowDown", "ArrowUp") if is_list else ("ArrowRight", "ArrowLeft")
