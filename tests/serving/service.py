"""A tiny model with a real tokenizer behind the real server, in a thread of the tests' process.

Limits of time here end a test that hangs. No test may depend on them: on a busy machine, all takes long.
"""

import asyncio
import contextlib
import copy
import math
import socket
import threading
import time
from functools import cache

import httpx
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from helpers.caches import PagedKVCache
from helpers.engine import Request
from helpers.model import DecoderLM, build, generate
from helpers.serving import Server, make_service
from tests.model.text.tokenizers import default

NAME = "tiny"
ROOM = 512
HTTP = httpx.Client(verify=False, timeout=120)
"""A plain client, made once: making one reads the machine's certificates."""
SIZES = dict(policy="fcfs", max_batch_size=8, token_budget=128, num_pages=128, page_size=8)


@cache
def tokenizer():
    """The course's tokenizer: byte-level, so that a random model answers in halves of characters, too."""
    return default()


@cache
def config():
    """The sizes of the tiny model."""
    return LlamaConfig(
        vocab_size=len(tokenizer()), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=ROOM,
        attn_implementation="eager",
    )  # fmt: skip


@cache
def reference():
    """`transformers`' own model with random weights."""
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config())).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@cache
def model() -> DecoderLM:
    """The same model as ours. Its answers end with the tokenizer's end token only."""
    return build(reference().config, reference().state_dict(), torch.float32)


def alone(prompt, max_tokens, **options):
    """What `generate` answers to a text or to tokens."""
    tokens = tokenizer()(prompt)["input_ids"] if isinstance(prompt, str) else prompt
    ends = [tokenizer().eos_token_id]
    pages = PagedKVCache.for_model(model(), ROOM // 8 + 1, 8)
    return generate(model(), tokens, max_tokens, pages, ends, tokenizer=tokenizer(), **options)


def request(name, prompt="Hello there", max_tokens=8, **options):
    """A request for the engine."""
    return Request(name, tokenizer()(prompt)["input_ids"], max_tokens, **options)


class SlowModel(DecoderLM):
    """The tiny model with passes of a chosen length, so that a test may act in the middle of an answer."""

    def __init__(self, seconds=0.0, poison=None, ends=()):
        super().__init__(model().cfg)
        self.load_state_dict(model().state_dict())
        self.end_tokens = ends
        self.seconds, self.poison = seconds, poison

    def forward(self, batch, cache=None, logits="last"):
        """Compute as the model does; a batch with the token `poison` fails."""
        time.sleep(self.seconds)
        if self.poison is not None and self.poison in batch.token_ids.tolist():
            raise RuntimeError("this token cannot be computed")
        return super().forward(batch, cache, logits)


class GatedModel(SlowModel):
    """The tiny model, which computes as many passes as were let through: no answer ends before a test says so."""

    def __init__(self, passes=0):
        super().__init__()
        self._gate, self._left, self.begun = threading.Condition(), passes, 0

    def let(self, passes=math.inf):
        """Set how many passes may be computed from now on."""
        with self._gate:
            self._left = passes
            self._gate.notify_all()

    def forward(self, batch, cache=None, logits="last"):
        """Wait for the turn of this pass, and compute as the model does."""
        with self._gate:
            self.begun += 1
            assert self._gate.wait_for(lambda: self._left > 0, 120), "the gate stayed closed"
            self._left -= 1
        return super().forward(batch, cache, logits)


class Running:
    """A server that listens on a free port."""

    def __init__(self, service, api_key=None):
        self.service = service
        self.server = Server(service, api_key, grace=60.0)
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        until(lambda: self.server.started)

    def close(self):
        """End the server as a signal would, and wait."""
        self.server.handle_exit(15, None)
        self.thread.join(120)
        self.service.loop.close()
        assert not self.thread.is_alive()


@contextlib.contextmanager
def running(api_key=None, slow=0.0, poison=None, ends=(), model=None, **sizes):
    """A server of the tiny model, or of another one, for the time of a block; afterwards no page is in use."""
    used = model or SlowModel(slow, poison, ends)
    server = Running(make_service(used, tokenizer(), NAME, **{**SIZES, **sizes}), api_key)
    try:
        yield server
    finally:
        server.close()
        assert server.service.loop.engine.cache.used_pages == 0
        assert server.service.loop.num_answers == 0


def until(condition, seconds=120.0):
    """Wait until something holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def is_empty(server):
    """Whether the server has nothing on its way and no page in use."""
    loop = server.service.loop
    return loop.num_answers == 0 and loop.engine.cache.used_pages == 0


async def gather(answers):
    """All pieces of a call, as text and reason for each choice."""
    texts, reasons = {}, {}
    async for piece in answers:
        texts[piece.choice] = texts.get(piece.choice, "") + piece.text
        if piece.finish_reason:
            reasons[piece.choice] = piece.finish_reason
    return [texts[i] for i in sorted(texts)], [reasons[i] for i in sorted(reasons)]


def run(coroutine, seconds=120):
    """Run a coroutine to its end; fail when it takes too long."""
    return asyncio.run(asyncio.wait_for(coroutine, seconds))
