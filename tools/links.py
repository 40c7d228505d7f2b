"""Says whether every link of documents and notebooks leads somewhere: `python tools/links.py [--online]`.

Files, anchors and entries of the glossary are looked up in the repository; nothing is fetched. `--online` also asks each server
of the web for each address, which is for hands, not for tests: a server may be down, and a page may refuse to be asked.
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import notebooks as nbs
from tools.glossary import slug_of

FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`[^`\n]*`")
TARGET = re.compile(
    r"\]\(\s*<?([^)\s>]+)>?[^)]*\)"  # [text](target "title") and ![picture](target)
    r"|^ {0,3}\[[^\]]+\]:\s+<?(\S+?)>?$"  # [name]: target
    r"|<(https?://[^>\s]+)>"
    r"|<(?:a|img)\b[^>]*?\b(?:href|src)=[\"']([^\"']+)",
    re.MULTILINE,
)
HEADING = re.compile(r"^ {0,3}#{1,6} +(.+?) *#*$", re.MULTILINE)
MARKED = re.compile(r"<a\b[^>]*?\b(?:id|name)=[\"']([^\"']+)")


def pages(root: Path = nbs.ROOT) -> list[Path]:
    """All documents and notebooks: what a reader can open."""
    documents = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    folders = (root / name for name in ("notebooks", "labs", "solutions"))
    return sorted([*documents, *(path for folder in folders for path in folder.glob("*.ipynb"))])


def text_of(page: Path) -> str:
    """The Markdown of a document or a notebook, without what stands in code."""
    if page.suffix == ".ipynb":
        text = "\n\n".join(cell.source for cell in nbs.read(page).cells if cell.cell_type == "markdown")
    else:
        text = page.read_text()
    return SPAN.sub("", FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    """The anchors of a page: one for each heading, numbered where a heading comes again, and those that are set by hand."""
    text = page.read_text() if page.suffix == ".md" else text_of(page)
    seen: Counter[str] = Counter()
    found = set(MARKED.findall(text))
    for heading in HEADING.findall(FENCE.sub("", text)):
        slug = slug_of(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading))
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        if page.suffix == ".ipynb":
            found.add(heading.replace(" ", "-"))  # JupyterLab's own form
        seen[slug] += 1
    return found


def targets(page: Path) -> list[str]:
    """Where the links and pictures of a page lead."""
    return [next(filter(None, groups)) for groups in TARGET.findall(text_of(page))]


def problem(page: Path, target: str, root: Path = nbs.ROOT) -> str | None:
    """What is wrong with a link, in a few words; None where it leads somewhere."""
    parts = urlsplit(target)
    if parts.scheme in ("http", "https"):
        return None if "." in parts.netloc else "has no host"
    if parts.scheme:
        return None if parts.scheme == "mailto" else f"has the scheme {parts.scheme}"
    file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not file.is_relative_to(root.resolve()) and file != page:
        return "leaves the repository"
    if not file.exists():
        return "leads to no file"
    if parts.fragment and unquote(parts.fragment) not in anchors(file):
        return "is no entry of the glossary" if file.name == "glossary.md" else "leads to no heading"
    return None


def problems(root: Path = nbs.ROOT) -> list[str]:
    """One sentence for each link that leads nowhere."""
    return [
        f"{page.relative_to(root)}: {target} {wrong}"
        for page in pages(root)
        for target in targets(page)
        if (wrong := problem(page, target, root))
    ]


def addresses(root: Path = nbs.ROOT) -> list[str]:
    """Every address of the web that a page leads to, once."""
    return sorted({t for page in pages(root) for t in targets(page) if t.startswith("http")})


def refusals(found: list[str]) -> Iterator[str]:
    """One sentence for each address whose server does not give the page."""
    for address in found:
        request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "course-links"})
        try:
            urllib.request.urlopen(request, timeout=20).close()
        except (urllib.error.URLError, OSError) as error:
            yield f"{address}: {error}"


def main(arguments: list[str]) -> int:
    """The command."""
    found = problems()
    if "--online" in arguments:
        found += refusals(addresses())
    print("\n".join(found) if found else f"{len(pages())} pages, and every link leads somewhere")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
