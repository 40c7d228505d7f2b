"""What a compiler makes on this machine: built once, in a scratch folder, and kept in the cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.storage.files import writing_to


def kept(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Return `folder`; where the folder is missing, `fill` first makes its content in a scratch folder.

    The scratch folder is then renamed: of two processes that build at once, the first one counts. Raises
    CacheError when the cache folder cannot be written, and what `fill` raises.
    """
    if folder.exists():
        return folder
    with writing_to(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=folder.parent) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            fill(made)
            try:
                made.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
    return folder


def compiler(variable: str, names: Sequence[str], purpose: str) -> str:
    """Return the compiler that an environment variable names, or the first of `names` on the PATH.

    Raises RuntimeError, with the `purpose` in the message, when there is none.
    """
    named = os.environ.get(variable)
    for name in [named] if named else names:
        found = shutil.which(name)
        if found is not None:
            return found
    kind = "C++" if any("+" in name for name in names) else "C"
    raise RuntimeError(
        f"{purpose} a {kind} compiler once ({' or '.join(names)}, or the one that {variable} names)"
    )


def compile_into(made: Path, command: Sequence[str | Path]) -> None:
    """Run a compiler's command, which makes the file `made`.

    Raises RuntimeError with the end of the compiler's complaint when the compiler fails.
    """
    words = [*(str(word) for word in command), "-o", str(made)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the compiler could not build {made.name}:\n{done.stderr.strip()[-2000:]}")
