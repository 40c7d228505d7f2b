"""The server as a program: a model behind an address, from its start to its end by a signal."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import uvicorn

from helpers.caches.paged_kv_cache import PagedKVCache
from helpers.engine.batching import ContinuousBatcher
from helpers.engine.policies import POLICIES, Priority
from helpers.model import checkpoint
from helpers.model.decoder import DecoderLM
from helpers.model.generation import end_tokens
from helpers.serving.app import Service, make_app
from helpers.serving.calls import Limits, Serves
from helpers.serving.engine_loop import EngineLoop
from helpers.serving.metrics import ServerMetrics
from helpers.serving.prompts import Prompts
from helpers.serving.streams.connection import Connection
from helpers.storage.files import CacheError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def make_service(
    model: DecoderLM,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    *,
    policy: str = "fcfs",
    max_batch_size: int = 32,
    token_budget: int = 512,
    num_pages: int = 512,
    page_size: int = 16,
    max_waiting: int = 64,
    limits: Limits | None = None,
) -> Service:
    """Return a model's service: its engine runs in a thread from now on, until `service.loop.close()`.

    Raises ValueError for a size under 1 and an unknown policy.
    """
    engine = make_engine(model, tokenizer, policy, max_batch_size, token_budget, num_pages, page_size)
    metrics = ServerMetrics(name)
    loop = EngineLoop(engine, max_waiting, metrics)
    return Service(loop, serves_of(engine, tokenizer, name, limits), Prompts(tokenizer), metrics)


def make_engine(
    model: DecoderLM,
    tokenizer: PreTrainedTokenizerBase,
    policy: str = "fcfs",
    max_batch_size: int = 32,
    token_budget: int = 512,
    num_pages: int = 512,
    page_size: int = 16,
    log: int | None = 1,
) -> ContinuousBatcher:
    """Return an engine as a server uses it, which keeps its latest `log` passes; None keeps all.

    Raises ValueError for a size under 1 and an unknown policy.
    """
    cache = PagedKVCache.for_model(model, num_pages, page_size)
    return ContinuousBatcher(
        model, cache, max_batch_size, token_budget, policy=policy, log=log, tokenizer=tokenizer
    )


def serves_of(
    engine: ContinuousBatcher,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    limits: Limits | None = None,
) -> Serves:
    """Return what an engine can serve, under the model's name."""
    cfg = engine.model.cfg
    ends = tuple(end_tokens(engine.model, tokenizer))
    priorities = isinstance(engine.scheduler.policy, Priority)
    room = min(cfg.max_positions, engine.cache.capacity)
    return Serves(name, room, cfg.vocab_size, ends, priorities, limits or Limits())


class Server(uvicorn.Server):
    """Serve one service: the first signal ends taking, and what runs may finish for `grace` seconds."""

    def __init__(self, service: Service, api_key: str | None = None, grace: float = 30.0):
        self._loop, self._grace = service.loop, grace
        config = uvicorn.Config(
            make_app(service, api_key), log_level="warning", access_log=False, http=Connection, ws="none",
            timeout_graceful_shutdown=int(grace) + 5, server_header=False,
        )  # fmt: skip
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End taking; a second interrupt ends at once."""
        self._loop.drain(0.0 if self.should_exit else self._grace)
        super().handle_exit(sig, frame)


def main(words: Sequence[str] | None = None) -> int:
    """Serve the course's model until a signal comes; return an exit status: `python -m helpers.serving`."""
    return run(parse(words), service_of)


def run(options: argparse.Namespace, make: Callable[[argparse.Namespace], Service]) -> int:
    """Serve what `make` makes of the options until a signal comes; return an exit status.

    The address is taken first: a model that is loaded for nothing would be a long wait.
    """
    _take_signals()
    try:
        with bind(options.host, options.port) as taken:
            service = make(options)
            _take_signals()  # Ray has taken them
            return _serve(options, taken, service)
    except (CacheError, ValueError, RuntimeError, OSError) as error:
        print(f"serve: {error}", file=sys.stderr)
        return 1


def service_of(options: argparse.Namespace) -> Service:
    """Return the service of the course's model with the sizes of a command line."""
    loaded = checkpoint.load(DTYPES[options.dtype], options.device)
    name = checkpoint.locate().name
    return make_service(
        loaded.model, loaded.tokenizer, name, max_waiting=options.max_waiting, **sizes_of(options)
    )


def sizes_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the sizes of an engine, and its policy, as a command line has them."""
    return {
        "policy": options.policy,
        "max_batch_size": options.max_batch_size,
        "token_budget": options.token_budget,
        "num_pages": options.pages,
        "page_size": options.page_size,
    }


def parse(
    words: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None
) -> argparse.Namespace:
    """Return the options of a command line; exit with status 2 for what is not understood.

    `parser` is that of `command_line`, or one with more options.
    """
    parser = parser or command_line()
    options = parser.parse_args(words)
    given = os.environ.get("COURSE_API_KEY") if options.api_key is None else options.api_key
    options.api_key = None if given is None else given.strip()  # a key from a file ends with a line break
    if options.api_key == "":
        parser.error("the API key is empty; give --api-key or COURSE_API_KEY a value, or neither")
    if options.host not in LOOPBACK and options.api_key is None:
        parser.error(f"--host {options.host} lets other machines in, so it needs --api-key")
    return options


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the server's options."""
    parser = argparse.ArgumentParser(
        prog="serve", description="Answer OpenAI's clients with the course's model.", allow_abbrev=False
    )
    parser.add_argument("--host", default="127.0.0.1", help="address; any but this machine's own needs a key")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument("--device", help="cpu, cuda, npu, emulated-npu (default: the first that is there)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: float32")
    parser.add_argument(
        "--policy", choices=POLICIES, default="fcfs", help="which request is next (default: fcfs)"
    )
    for name, default, text in (
        ("--max-batch-size", 32, "requests in a pass"),
        ("--token-budget", 512, "tokens in a pass"),
        ("--pages", 512, "pages of the KV cache"),
        ("--page-size", 16, "tokens in a page"),
        ("--max-waiting", 64, "answers in the queue, above which calls get status 429"),
    ):
        parser.add_argument(name, type=size, default=default, help=f"{text} (default: {default})")
    parser.add_argument("--grace", type=size, default=30, help="seconds to finish after a signal (30)")
    parser.add_argument("--api-key", help="what clients must send (default: COURSE_API_KEY, else no key)")
    return parser


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises OSError with one sentence where the address cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        words = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        hint = "another program, maybe this server, listens there; end it, or take another --port"
        raise OSError(f"cannot listen on {host}:{port} ({words}); {hint}") from None


def address(taken: socket.socket) -> str:
    """Return a listening socket's address as clients write it."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _serve(options: argparse.Namespace, taken: socket.socket, service: Service) -> int:
    """Serve a service at a listening socket until a signal comes."""
    print(_greeting(address(taken), service.serves.model, options.api_key), flush=True)
    server = Server(service, options.api_key, options.grace)
    server.run(sockets=[taken])
    service.loop.close()
    return 0 if server.started else 1


def _greeting(url: str, model: str, api_key: str | None) -> str:
    """Return what is printed at the start: the address, and a command to try."""
    key = "" if api_key is None else '-H "Authorization: Bearer $COURSE_API_KEY" '
    question = '{"messages": [{"role": "user", "content": "What is the capital of France?"}]}'
    return (
        f"serving {model} at {url}/v1 (Ctrl+C ends)\n"
        f"try: curl {url}/v1/chat/completions {key}-H 'Content-Type: application/json' -d '{question}'"
    )


def _take_signals() -> None:
    """Have signals end this program with status 0: uvicorn raises a signal again when it has ended."""
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, _end_now)


def _end_now(*_: object) -> NoReturn:
    """End before the server has begun, or after its end: there is nothing to finish."""
    raise SystemExit(0)


def _port(word: str) -> int:
    """Return a port's number."""
    port = int(word)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"ports are 0 to 65535, got {port}")
    return port


def size(word: str) -> int:
    """Return a whole number from 1."""
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number
