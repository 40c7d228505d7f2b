"""The command: `python -m benchmarks.serving PART [--help]`."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys

import benchmarks.serving
from benchmarks.rivals.process import RivalFailed

PARTS = ("overhead", "rivals", "public", "streams", "replicas")


def main() -> None:
    """Carry one part out."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=benchmarks.serving.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    modules = {part: importlib.import_module(f"benchmarks.serving.{part}") for part in PARTS}
    for part, module in modules.items():
        words = (module.__doc__ or "").strip()
        module.options(
            parts.add_parser(part, description=words, help=words.splitlines()[0].replace("%", "%%"),
                             formatter_class=argparse.RawDescriptionHelpFormatter)
        )  # fmt: skip
    chosen = parser.parse_args()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # so that all processes are ended
    try:
        modules[chosen.part].main(chosen)
    except RivalFailed as reason:
        raise SystemExit(f"{chosen.part}: {reason}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"\n{chosen.part}: interrupted") from None


if __name__ == "__main__":
    main()
