"""The links at the end of each notebook: `python tools/way.py [NAME ...] [--check]`.

The last text cell of a chapter ends with the way on: its lab, the next chapter, the one before; that of a lab with its chapter
and the next one. They follow from which sources there are and from their titles, so that a new chapter is linked. Notebooks
are taken along (text only, nothing is executed), and the labs made anew. `--check` writes nothing.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import make_labs, refresh
from tools import notebooks as nbs

# The last text cell of a source, and in it the paragraph that this file writes.
LAST_TEXT = re.compile(r"(?s)\A.*^# %% \[markdown\][^\n]*\n(?P<text>(?:#[^\n]*\n?)+)", re.MULTILINE)
PARAGRAPH = re.compile(r"(?s)(\n#\s*)?\n# (Now you|Next|Back): .*\Z")


def title(source: Path) -> str:
    """The first heading of a source."""
    found = re.search(r"^# # (.+)$", source.read_text(), re.MULTILINE)
    if not found:
        raise ValueError(f"{source.name} has no title")
    return found.group(1).strip()


def links(source: Path, root: Path = nbs.ROOT) -> list[str]:
    """The links that a source ends with, each a line of Markdown."""
    chapters = sorted((root / "notebooks" / "src").glob("*.py"))
    in_lab = source.parent.parent.name == "solutions"
    before = [path for path in chapters if path.stem < source.stem or (in_lab and path.stem == source.stem)]
    after = [path for path in chapters if path.stem > source.stem]

    def to(chapter: Path) -> str:
        return f"[{title(chapter)}]({'../notebooks/' if in_lab else ''}{chapter.stem}.ipynb)"

    found = []
    if not in_lab and (root / "solutions" / "src" / source.name).exists():
        found.append(f"Now you: [Lab {int(source.stem[:2])}](../labs/{source.stem}.ipynb).")
    found += [f"Next: {to(path)}." for path in after[:1]]
    found += [f"Back: {to(path)}." for path in before[-1:]]
    words = "Words: [glossary](../docs/glossary.md). Formulas: [cheat sheet](../docs/cheat_sheet.md)."
    return [*found, f"{words} All chapters: [contents](../README.md#chapters)."]


def linked(source: Path, root: Path = nbs.ROOT) -> str:
    """The source's text with the links that it should end with."""
    text = source.read_text()
    last = LAST_TEXT.match(text)
    if not last:
        raise ValueError(f"{source.name} has no text cell")
    start, end = last.span("text")
    kept = PARAGRAPH.sub("", text[start:end].rstrip("\n"))
    written = "\n".join([kept, "#", *(f"# {line}" for line in links(source, root))])
    return text[:start] + written + "\n" + text[end:]


def stale(root: Path = nbs.ROOT) -> list[Path]:
    """The sources whose links are not what they should be."""
    return [source for source in nbs.sources(root) if linked(source, root) != source.read_text()]


def main(arguments: list[str]) -> int:
    """The command: exit status 1 where a check fails, or where a notebook wants executing."""
    check, names = "--check" in arguments, {Path(word).stem for word in arguments if word != "--check"}
    status = 0
    for source in [path for path in stale() if not names or path.stem in names]:
        name = source.relative_to(nbs.ROOT)
        if check:
            print(f"{name} ends with other links than it should; run: python tools/way.py")
            status = 1
            continue
        source.write_text(linked(source))
        try:
            refresh.take_text(source)
            print(name)
        except ValueError as error:
            print(f"{name}: {error}")
            status = 1
    return status if check else make_labs.main([]) or status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
