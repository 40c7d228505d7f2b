"""Files with traces: opened whether gzipped or not, and told apart by how they begin."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_READ = "CSV tables (Azure, BurstGPT), JSON lines (Mooncake), conversations (ShareGPT), and saved traces"


@contextmanager
def opened(path: Path | str) -> Iterator[TextIO]:
    """Open a text file, gzipped or not, by its first bytes.

    Raise ValueError, naming the file, for what is no text.
    """
    with Path(path).open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if zipped
            else Path(path).open(encoding="utf-8-sig", newline="") as text
        ):
            yield text
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text; {_READ} are read") from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is gzipped and not whole ({error})") from error


def kind_of(path: Path | str) -> str:
    """Return "table", "lines", "conversations" or "saved".

    Raise ValueError that says what another file seems to be.
    """
    with opened(path) as file:
        begin = file.read(4096).lstrip()
    if begin.startswith("["):
        if '"conversations"' in begin or begin in ("[]", "[]\n"):
            return "conversations"
        raise ValueError(
            f"{path} seems to be a JSON list of something else than conversations; {_READ} are read"
        )
    if begin.startswith("{"):
        return _kind_of_line(path, begin.splitlines()[0])
    if begin.startswith("<"):
        raise ValueError(f"{path} seems to be a page (HTML or XML), not a trace; {_READ} are read")
    return "table"


def _kind_of_line(path: Path | str, line: str) -> str:
    """Return the kind of a file whose first line begins a JSON object."""
    if '"input_length"' in line:
        return "lines"
    try:
        fields = json.loads(line)
    except ValueError:
        fields = {}
    if isinstance(fields.get("format"), str) and fields["format"].startswith("inference-trace"):
        return "saved"
    names = ", ".join(list(fields)[:6]) or "no whole line"
    raise ValueError(f"{path} seems to be JSON with {names[:80]}; {_READ} are read")
