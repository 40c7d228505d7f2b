"""Executes all notebooks without a browser and changes no file: one line each with its time; exit status 1 on a failure."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import notebooks as nbs


def run(path: Path) -> str | None:
    """What went wrong in the notebook, or None."""
    try:
        nbs.execute(nbs.read(path), path.parent)
    except nbs.FAILURES as error:
        return str(error)
    return None


def main(names: list[str]) -> int:
    """The command; `names` choose notebooks, none means all."""
    if {"-h", "--help"} & set(names):
        print(f"{__doc__}\n\nusage: course.py run [-- NAME ...]\n\nNAME: a notebook's name; none means all")
        return 0
    wanted, found = {Path(name).stem for name in names}, nbs.notebooks()
    if unknown := wanted - {path.stem for path in found}:
        print(f"no notebook named {', '.join(sorted(unknown))}")
        return 1
    nbs.use_this_interpreter()
    chosen = [path for path in found if not wanted or path.stem in wanted]
    failed = 0
    for path in chosen:
        print(f"{path.relative_to(nbs.ROOT)} ... ", end="", flush=True)
        start = time.perf_counter()
        problem = run(path)
        failed += problem is not None
        print(
            f"{'FAILED' if problem else 'ok'}, {time.perf_counter() - start:.1f} s"
            + (f"\n{problem}" if problem else "")
        )
    print(f"{len(chosen)} notebooks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
