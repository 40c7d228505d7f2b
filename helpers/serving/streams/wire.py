"""A connection's transport, which ends without a reset."""

from __future__ import annotations

import asyncio
from typing import Any

LINGER_SECONDS = 2.0
"""How long a client may be silent before the connection's last end."""
LINGER_ROUNDS = 15
"""How often a client that still sends gets that time again."""


class Wire(asyncio.Transport):
    """Write to a transport; `close` ends the writing, and what still comes is taken in and dropped for a while.

    A connection that is closed while bytes come in is reset, and the client may lose its answer (RFC 9112,
    section 9.6). The end of the writing tells the client that the answer is whole: no client waits.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop):
        """Stand before a transport of an event loop."""
        super().__init__()
        self._transport, self._loop = transport, loop
        self._ending = self._heard = False

    def close(self) -> None:
        """End the writing behind what is written, and linger. Closing again changes nothing."""
        if self.is_closing():
            return
        self._ending = self._heard = True
        self._transport.resume_reading()
        try:
            self._transport.write_eof()
        except OSError:  # the client has left
            self._transport.abort()
            return
        self._linger(LINGER_ROUNDS)

    def drop(self) -> None:
        """Close at once: the client has nothing on its way."""
        self._ending = True
        self._transport.close()

    def heard(self) -> None:
        """Note that the client still sends."""
        self._heard = True

    def is_closing(self) -> bool:
        """Return whether nothing more is written."""
        return self._ending or self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write; behind `close`, drop the data as a closed transport does."""
        if not self._ending:
            self._transport.write(data)

    def write_now(self, data: bytes) -> bool:
        """Write where nothing waits for the client and nothing ends; return whether that was so."""
        wire = self._transport
        if self._ending or wire.get_write_buffer_size() or wire.is_closing():
            return False
        wire.write(data)
        return True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows of itself."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Take in no more for now; behind `close`, change nothing."""
        if not self._ending:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take in what comes."""
        self._transport.resume_reading()

    def _linger(self, rounds: int) -> None:
        """Close when the client has been silent for a round, or has sent in all rounds."""
        if not self._heard or not rounds:
            self._transport.close()
            return
        self._heard = False
        self._loop.call_later(LINGER_SECONDS, self._linger, rounds - 1)
