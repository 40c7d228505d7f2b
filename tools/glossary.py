"""Makes docs/glossary.md from the chapters: `python tools/glossary.py [--check]`.

Where a chapter defines a term it writes it as a bold link into the glossary, `[**hit rate**](../docs/glossary.md#hit-rate)`: the
reader can look it up later, and the sentence around it is the glossary's entry. `--check` writes nothing.
"""

from __future__ import annotations

import itertools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import notebooks as nbs
from tools.way import title

HEAD = """# Glossary

Made from the chapters by `tools/glossary.py`; each entry is the sentence that defines the term, and links to its chapter.
"""
MARK = re.compile(r"\[\*\*(?P<term>[^*\]]+)\*\*\]\(\.\./docs/glossary\.md#(?P<slug>[^)]*)\)")
LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
# A sentence ends where a stop, perhaps within brackets or bold, stands before a capital letter or at the end of a paragraph.
END = re.compile(r"(?<=[.!?:])(?:\*\*|\))?\s+(?=[\"'(`*\[]*[A-Z])")


@dataclass(frozen=True)
class Entry:
    """A term, the sentence that defines it, and the chapter's source."""

    term: str
    slug: str
    sentence: str
    source: Path


def slug_of(term: str) -> str:
    """The anchor of a heading, as code hosts and JupyterLab make it."""
    return re.sub(r"[^a-z0-9 -]", "", term.lower()).replace(" ", "-")


def paragraphs(source: Path) -> list[str]:
    """The paragraphs of a source's text, each on one line."""
    cells = [cell.source for cell in nbs.read_source(source).cells if cell.cell_type == "markdown"]
    blocks = [block for cell in cells for block in re.split(r"\n\s*\n|\n(?=\s*[-*|] |\s*\d+\. )", cell)]
    return [" ".join(block.split()) for block in blocks]


def entries(root: Path = nbs.ROOT) -> list[Entry]:
    """All definitions, in the order of the alphabet."""
    found = []
    for source in sorted((root / "notebooks" / "src").glob("*.py")):
        for paragraph in paragraphs(source):
            for sentence in END.split(paragraph):
                found += [
                    Entry(m["term"], m["slug"], plain(sentence), source) for m in MARK.finditer(sentence)
                ]
    return sorted(found, key=lambda entry: entry.slug)


def heading(term: str) -> str:
    """A term as a glossary lists it: what is capital only because a sentence began with it is not."""
    first = term.partition(" ")[0]
    ordinary = first[1:].islower() and "'" not in first  # no abbreviation, nobody's name
    return term[0].lower() + term[1:] if ordinary else term


def plain(sentence: str) -> str:
    """A sentence without its links, which lead from a chapter and not from the glossary."""
    text = re.sub(r"^([-*]|\d+\.) ", "", LINK.sub(r"\1", sentence)).rstrip(":")
    return text if text.endswith((".", "!", "?", ".**", ")")) else f"{text}."


def problems(found: list[Entry]) -> list[str]:
    """One sentence for each wrong anchor, and for each term that is defined twice."""
    wrong = [f"{e.source.name}: {e.term} links to #{e.slug}" for e in found if e.slug != slug_of(e.term)]
    pairs = itertools.pairwise(found)
    return wrong + [
        f"{b.source.name}: {b.term} is defined in {a.source.name}" for a, b in pairs if a.slug == b.slug
    ]


def glossary(root: Path = nbs.ROOT) -> str:
    """The text of the glossary."""
    parts = [HEAD]
    for entry in entries(root):
        where = f"[{title(entry.source)}](../notebooks/{entry.source.stem}.ipynb)"
        parts.append(f"## {heading(entry.term)}\n\n{entry.sentence} ({where})\n")
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """The command."""
    target, found = nbs.ROOT / "docs" / "glossary.md", problems(entries())
    if arguments == ["--check"]:
        text = target.read_text() if target.exists() else ""
        found += (
            [] if text == glossary() else ["docs/glossary.md is out of date; run: python tools/glossary.py"]
        )
    elif not found:
        target.write_text(glossary())
    print("\n".join(found) if found else f"the glossary defines {len(entries())} terms")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
