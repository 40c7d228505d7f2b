"""How a streamed answer leaves the server: events, and the connection that they go out on. Chapter 12."""

from helpers.serving.streams.connection import Connection, straight
from helpers.serving.streams.event_stream import EventStream
from helpers.serving.streams.wire import Wire

__all__ = ["Connection", "EventStream", "Wire", "straight"]
