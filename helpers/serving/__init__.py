"""The engine behind an address: an OpenAI-compatible server, for chapter 12.

Read in this order: `engine_loop` (one thread steps the engine), `answers` (what a client reads), `app` (the
routes), `streams` (how events go out). `python -m helpers.serving` starts the server.
"""

from helpers.serving.answers import Answers, Piece
from helpers.serving.app import Service, make_app
from helpers.serving.bodies import ChatBody, CompletionBody, TokenizeBody, parsed
from helpers.serving.calls import Limits, Serves
from helpers.serving.engine_loop import EngineLoop, Loop, Observer
from helpers.serving.errors import (
    ApiError,
    BadRequest,
    Busy,
    Draining,
    EngineLost,
    NoRoute,
    RequestFailed,
    TooLarge,
    TooSlow,
    Unauthorized,
    UnknownModel,
    WrongMediaType,
)
from helpers.serving.gate import Gate, error_response
from helpers.serving.logprob_lists import LogprobLists
from helpers.serving.metrics import ServerMetrics
from helpers.serving.prompts import Prompts
from helpers.serving.replies import ChatReply, Reply, TextReply
from helpers.serving.server import (
    Server,
    bind,
    command_line,
    main,
    make_engine,
    make_service,
    parse,
    run,
    serves_of,
    service_of,
    sizes_of,
)
from helpers.serving.streams.event_stream import EventStream

__all__ = [
    "Answers",
    "ApiError",
    "BadRequest",
    "Busy",
    "ChatBody",
    "ChatReply",
    "CompletionBody",
    "Draining",
    "EngineLoop",
    "EngineLost",
    "EventStream",
    "Gate",
    "Limits",
    "LogprobLists",
    "Loop",
    "NoRoute",
    "Observer",
    "Piece",
    "Prompts",
    "Reply",
    "RequestFailed",
    "Server",
    "ServerMetrics",
    "Serves",
    "Service",
    "TextReply",
    "TokenizeBody",
    "TooLarge",
    "TooSlow",
    "Unauthorized",
    "UnknownModel",
    "WrongMediaType",
    "bind",
    "command_line",
    "error_response",
    "main",
    "make_app",
    "make_engine",
    "make_service",
    "parse",
    "parsed",
    "run",
    "serves_of",
    "service_of",
    "sizes_of",
]
