"""The short way from an event to its socket.

A message of ASGI passes four layers of the web framework, and then h11, which checks every piece of a body as
it checks a head. A token's event is small, and each pass brings one to each stream: the way costs more than
the event.
"""

from __future__ import annotations

import asyncio
import json

import h11
from starlette.types import Message, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

from helpers.serving.errors import BadRequest
from helpers.serving.streams.wire import Wire

HEAD_SECONDS = 30.0
"""How long a client that has no call on its way may take for the whole head of the next call."""
_TRANSPORT = "transport"


class Connection(H11Protocol):
    """A connection of uvicorn that shows an application its transport, in the scope's `state`.

    The connection ends without a reset (`Wire`), and answers what is no HTTP as the routes answer errors. A
    client has `HEAD_SECONDS` for the head of a call. A client that closes its sending side has left: a server
    cannot tell such a client from one that has closed both sides, and an unread answer costs passes.
    """

    _wire: Wire
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, as uvicorn does."""
        self._wire = Wire(transport, self.loop)
        super().connection_made(self._wire)
        self.app_state = {**self.app_state, _TRANSPORT: self._wire}
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, as uvicorn does."""
        super().connection_lost(exc)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take in what comes; behind the last answer, drop it."""
        if self._wire.is_closing():
            self._wire.heard()
            return
        super().data_received(data)
        # Only a connection that is read shows that its client leaves, in the middle of an answer, too.
        if self.conn.their_state is h11.DONE and len(self.conn.trailing_data[0]) < HIGH_WATER_LIMIT:
            self.flow.resume_reading()
        self._watch()

    def on_response_complete(self) -> None:
        """Await the next call, or serve the one that has come already."""
        super().on_response_complete()
        self._watch()

    def shutdown(self) -> None:
        """End behind the answer that is on its way; without a call, at once."""
        idle = self._is_idle()
        super().shutdown()
        if idle:
            self._wire.drop()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection whose client was silent for too long; without a call, at once."""
        idle = self._is_idle()
        super().timeout_keep_alive_handler()
        if idle:
            self._wire.drop()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; where an answer has gone out already, end."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._wire.write(_refusal())
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._wire.close()

    def _is_idle(self) -> bool:
        """Return whether nothing of a call has come since the last answer."""
        return self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def _watch(self) -> None:
        """Begin the time for the next head where no call is on its way; end that time where one is."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self._wire.is_closing():
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
        elif self._patience is None:
            self._patience = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)


def straight(scope: Scope, send: Send) -> Send:
    """Return a `send` that writes pieces of a body straight to the connection, framed as HTTP/1.1's chunks.

    All other messages take the way of ASGI. So does a piece for a reader that is behind: there a `send` waits
    until the reader has caught up. So does everything for HTTP/1.0, which has no chunks, and on a connection
    that shows no transport.
    """
    wire: Wire | None = scope.get("state", {}).get(_TRANSPORT)
    if wire is None or scope["http_version"] != "1.1":
        return send
    write_now = wire.write_now

    async def sender(message: Message) -> None:
        body = message.get("body")
        if not body or not message["more_body"] or not write_now(b"%x\r\n%b\r\n" % (len(body), body)):
            await send(message)

    return sender


def _refusal() -> bytes:
    """Return the whole answer to bytes that cannot be read as a call."""
    error = BadRequest("this cannot be read as a call of HTTP/1.1, or its head is too long")
    body = json.dumps(error.body()).encode()
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body
