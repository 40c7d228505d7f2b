"""Server-sent events: text lines on the wire become events, whatever pieces the network cuts them into.

The format is WHATWG's (HTML Standard, section 9.2); this parser reads the field `data` alone.
"""

from __future__ import annotations

import codecs


class EventParser:
    """Turn the bytes of a stream, piece by piece, into the data of its events.

    An event ends with an empty line. A piece may end anywhere: inside an event, a line end or a character.
    """

    def __init__(self) -> None:
        """Begin before the first byte."""
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""  # a line that has not ended yet
        self._data: list[str] = []  # the lines of the event that has not ended yet

    def feed(self, piece: bytes) -> list[str]:
        """Return the data of each event that ends within this piece, often none."""
        text = self._rest + self._decoder.decode(piece)
        held = "\r" if text.endswith("\r") else ""  # a line feed may follow, and both are one line end
        *lines, self._rest = text.removesuffix(held).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest += held
        return [data for line in lines if (data := self._take(line)) is not None]

    def _take(self, line: str) -> str | None:
        """Take a line; return the data of the event that the line ends, or None."""
        if not line:
            event, self._data = self._data, []
            return "\n".join(event) if event else None
        field, _, value = line.partition(":")
        if field == "data":
            self._data.append(value.removeprefix(" "))
        return None
