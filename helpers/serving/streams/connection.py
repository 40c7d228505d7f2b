"""The short way from an event to its socket.

A message of ASGI passes four layers of the web framework, and then h11, which checks every piece of a body as
it checks a head. A token's event is small, and each pass brings one to each stream: the way costs more than
the event.
"""

from __future__ import annotations

import asyncio

from starlette.types import Message, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_TRANSPORT = "transport"


class Connection(H11Protocol):
    """A connection of uvicorn that shows an application its transport, in the scope's `state`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, as uvicorn does."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT: transport}


def straight(scope: Scope, send: Send) -> Send:
    """Return a `send` that writes pieces of a body straight to the connection, framed as HTTP/1.1's chunks.

    All other messages take the way of ASGI. So does a piece for a reader that is behind: there a `send` waits
    until the reader has caught up. So does everything for HTTP/1.0, which has no chunks, and on a connection
    that shows no transport.
    """
    transport: asyncio.Transport | None = scope.get("state", {}).get(_TRANSPORT)
    if transport is None or scope["http_version"] != "1.1":
        return send
    wire = transport

    async def sender(message: Message) -> None:
        body = message.get("body")
        if body and message["more_body"] and not wire.get_write_buffer_size() and not wire.is_closing():
            wire.write(b"%x\r\n%b\r\n" % (len(body), body))
        else:
            await send(message)

    return sender
