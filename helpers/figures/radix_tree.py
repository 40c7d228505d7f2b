"""The picture of a radix tree: a box for each run of tokens, to its right the texts that share the run."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.caches.radix_node import Node
from helpers.caches.radix_tree import RadixTree
from helpers.display import plots

PINNED, EVICTABLE = "pinned: in use", "may be evicted"
_COLORS = {PINNED: "accent", EVICTABLE: "kv_cache"}
_LETTERS = 22  # letters in a line of a box
_BOX = 2.3  # inches, the width of such a line
_GAP, _LINE = 0.4, 0.19


@dataclass
class _Box:
    """Place one node: left edge and middle in inches, from the upper left corner."""

    text: str
    node: Node | None
    left: float = 0.0
    middle: float = 0.0
    children: list[_Box] = field(default_factory=list)

    @property
    def height(self) -> float:
        """Return the height of the box alone, in inches."""
        return _LINE * (self.text.count("\n") + 1) + 0.16


def draw_tree(tree: RadixTree, title: str, label: Callable[[Sequence[int]], str] | None = None) -> Figure:
    """Return the tree from left to right: each box says what its run holds, and how many tokens.

    The colour of a box says whether its run may be evicted. `label` makes words of tokens; without `label`
    the tokens are shown as numbers. Long words end in dots. The picture can be read for up to about 15 runs.
    Texts of different salts have roots of their own.
    """
    roots = _roots(tree, label or (lambda tokens: " ".join(map(str, tokens))))
    bottom = 0.0
    for root in roots:
        bottom = _place(root, 0.0, bottom)
    boxes = [box for root in roots for box in _all(root)]
    width = max(box.left for box in boxes) + _BOX
    fig, ax = plots.new_figure(title, "", "", width=max(7.0, width + 0.4), height=bottom + 0.9)
    fig.subplots_adjust(left=0.2 / fig.get_figwidth(), bottom=0.5 / fig.get_figheight())
    ax.set_axis_off()
    ax.set_xlim(0, fig.get_figwidth() - 0.45)
    ax.set_ylim(bottom, 0)
    for box in boxes:
        _draw(ax, box)
    for name, color in _COLORS.items():
        ax.plot([], [], "s", color=plots.COLORS[color], markersize=9, label=name)
    plots.legend(ax, loc="lower left", ncols=2, bbox_to_anchor=(0.02, 0.0), bbox_transform=fig.transFigure)
    return fig


def _roots(tree: RadixTree, label: Callable[[Sequence[int]], str]) -> list[_Box]:
    """Return a root for each salt, with all boxes below it."""
    boxes: dict[Node, _Box] = {}
    roots: dict[object, _Box] = {}
    for node in tree.nodes():
        boxes[node] = box = _Box(_words(node, label), node)
        if node.parent in boxes:
            boxes[node.parent].children.append(box)
        else:
            name = "start" if node.salt is None else f"start, salt {node.salt!r}"
            roots.setdefault(node.salt, _Box(name, None)).children.append(box)
    return list(roots.values()) or [_Box("start", None)]


def _words(node: Node, label: Callable[[Sequence[int]], str]) -> str:
    """Return the text of a box."""
    words = label(node.tokens).replace("$", r"\$")
    lines = textwrap.wrap(words, _LETTERS, max_lines=3, placeholder=" ...") or [repr(words)]
    count = _counted(len(node.tokens), "token")
    if len(node.pages) != len(node.tokens):
        count += f", {_counted(len(node.pages), 'page')}"
    return "\n".join([*lines, count])


def _counted(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _place(box: _Box, left: float, top: float) -> float:
    """Place a box and all boxes below it, from `top` down; return the bottom of these boxes."""
    box.left = left
    width = _BOX if box.node else 0.3 + 0.09 * len(box.text)
    bottom = top
    for child in box.children:
        bottom = _place(child, left + width + _GAP, bottom)
    if not box.children:
        bottom = top + box.height + 0.12
        box.middle = (top + bottom) / 2
        return bottom
    box.middle = (box.children[0].middle + box.children[-1].middle) / 2
    return max(bottom, top + box.height + 0.12)


def _all(box: _Box) -> list[_Box]:
    """Return a box and all boxes below it."""
    return [box, *(below for child in box.children for below in _all(child))]


def _draw(ax: Axes, box: _Box) -> None:
    """Draw one box with the lines to its children."""
    color = "muted" if box.node is None else _COLORS[PINNED if box.node.pins else EVICTABLE]
    shape = {
        "boxstyle": "round,pad=0.3",
        "facecolor": "white",
        "edgecolor": plots.COLORS[color],
        "linewidth": 2,
    }
    for child in box.children:  # this box is drawn later and covers the line's beginning
        turn = child.left - _GAP / 2
        ax.plot(
            [box.left + 0.2, turn, turn, child.left + 0.05],
            [box.middle, box.middle, child.middle, child.middle],
            color=plots.COLORS["muted"],
            zorder=0,
        )
    ax.text(box.left + 0.08, box.middle, box.text, va="center", fontsize=10.5, linespacing=1.2, bbox=shape)
