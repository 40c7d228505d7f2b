"""Takes the README's figure out of its notebook: `python tools/readme_figure.py [--check]`."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import notebooks as nbs

CHAPTER, ALT = "03_kv_cache", "Without a cache the time grows steeply; with KVCache it stays flat"
TARGET = nbs.ROOT / "docs" / "images" / "time_per_token.png"


def figure(chapter: str = CHAPTER, alt: str = ALT) -> bytes:
    """The PNG that a chapter shows with this text alternative; ValueError where there is none."""
    for cell in nbs.read(nbs.ROOT / "notebooks" / f"{chapter}.ipynb").cells:
        for output in cell.get("outputs", []):
            if output.get("metadata", {}).get("image/png", {}).get("alt") == alt:
                return base64.b64decode(output.data["image/png"])
    raise ValueError(f"{chapter} has no figure whose text alternative is {alt!r}")


def main(arguments: list[str]) -> int:
    """The command."""
    name = TARGET.relative_to(nbs.ROOT)
    if arguments != ["--check"]:
        TARGET.write_bytes(figure())
    elif TARGET.read_bytes() != figure():
        print(f"{name} is not its chapter's; run: python tools/readme_figure.py")
        return 1
    print(f"{name} is the figure of {CHAPTER}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
