"""How a streamed answer leaves the server: events, and the connection that they go out on. Chapter 12."""

from helpers.serving.streams.connection import Connection, straight
from helpers.serving.streams.event_stream import EventStream
from helpers.serving.streams.wire import LINGER_ROUNDS, LINGER_SECONDS, Wire

__all__ = ["LINGER_ROUNDS", "LINGER_SECONDS", "Connection", "EventStream", "Wire", "straight"]
