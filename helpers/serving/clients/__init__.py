"""The server seen from outside: a server on this machine's own address, one measured call, load. Chapter 12.

Read in this order: `event_parser` (what is on the wire), `calls` (one call, with its moments), `load` (many
calls: at a fixed rate, or by a fixed number of clients), `loopback` (a server for the time of a block).
"""

from helpers.serving.clients.calls import Heard, call, completion, hear
from helpers.serving.clients.event_parser import EventParser
from helpers.serving.clients.load import as_sent, at_once, closed_loop, open_loop
from helpers.serving.clients.loopback import Loopback

__all__ = [
    "EventParser",
    "Heard",
    "Loopback",
    "as_sent",
    "at_once",
    "call",
    "closed_loop",
    "completion",
    "hear",
    "open_loop",
]
