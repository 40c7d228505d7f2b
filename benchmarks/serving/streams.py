"""Many streams at once on the real model: is each answer the one that `generate` gives to its prompt alone?

SmolLM2-135M-Instruct, fp32, greedy. All clients ask at the same time, with prompts of many lengths, half of which begin
alike; passes hold up to 32 requests, so that the other half waits. results/serving_streams.json says how many answers
are equal. The command ends with status 1 when one is not.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from benchmarks.record import write
from helpers.caches import PagedKVCache
from helpers.model import Checkpoint, Generation, checkpoint, generate
from helpers.serving import make_service
from helpers.serving.clients import Loopback, at_once, completion

BEGINNING = "You are a helpful assistant who answers in one short sentence. The question of this guest is: "
THINGS = (
    "a river",
    "the moon",
    "two old cats",
    "bread and salt",
    "an engine",
    "the number seven",
    "rain",
    "a violin",
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--streams", type=int, default=64, help="clients (64)")
    parser.add_argument("--tokens", type=int, default=12, help="tokens of an answer (12)")
    parser.add_argument("--threads", type=int, default=None, help="threads of the engine (torch's choice)")


def main(options: argparse.Namespace) -> None:
    """Ask, compare, print, and write results/serving_streams.json."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    loaded = checkpoint.load(device="cpu")
    texts = prompts(options.streams)
    service = make_service(
        loaded.model,
        loaded.tokenizer,
        "model",
        max_batch_size=32,
        max_waiting=options.streams,
        num_pages=1024,
    )
    begun = time.perf_counter()
    with Loopback(service) as server:
        heard = at_once(server.url, [completion(text, options.tokens) for text in texts])
    seconds = time.perf_counter() - begun
    alone = [whole(loaded, text, options.tokens) for text in texts]
    wrong: list[dict[str, Any]] = [
        {"prompt": text, "streamed": one.text, "alone": other.answer, "margin": other.min_margin, "error": one.error}
        for text, one, other in zip(texts, heard, alone, strict=True)
        if not one.ok or one.text != other.answer or one.new_tokens != len(other.token_ids)
    ]  # fmt: skip
    equal = options.streams - len(wrong)
    print(f"{equal} of {options.streams} answers of {options.tokens} tokens are those of their own runs, "
          f"streamed in {seconds:.1f} s; smallest margin {min(one.min_margin for one in alone):.4f}")  # fmt: skip
    sizes = {"streams": options.streams, "tokens": options.tokens}
    print(write("serving_streams", {"options": sizes, "equal": equal, "wrong": wrong}))
    if wrong:
        raise SystemExit(f"not equal: {wrong[:3]}")


def prompts(count: int) -> list[str]:
    """Return prompts, all different, of some 5 to 60 tokens; every other one begins like the others."""
    return [
        (BEGINNING if i % 2 else "") + f"Story {i} tells of {THINGS[i % 8]}" + " and the sea" * (i % 5) + "."
        for i in range(count)
    ]


def whole(loaded: Checkpoint, text: str, tokens: int) -> Generation:
    """Return what `generate` answers to a prompt alone, with pages of its own."""
    ids = loaded.tokenizer(text)["input_ids"]
    pages = PagedKVCache.for_model(loaded.model, 16, 16)
    return generate(loaded.model, ids, tokens, pages, tokenizer=loaded.tokenizer)
