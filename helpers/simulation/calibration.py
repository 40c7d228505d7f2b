"""Times of passes on this machine, from a short run of the engine itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from helpers.caches.paged_kv_cache import PagedKVCache
from helpers.engine.batching import ContinuousBatcher
from helpers.engine.request import Request
from helpers.engine.step import Step
from helpers.model.decoder import DecoderLM
from helpers.simulation.pass_time import FittedTime
from helpers.traffic.lengths import Lengths, stream


def calibrate(
    model: DecoderLM,
    max_batch_size: int = 16,
    token_budget: int = 512,
    page_size: int = 16,
    rounds: int = 2,
    prompts: Lengths | None = None,
) -> FittedTime:
    """Return pass times fitted to `calibration_run`, for engines with the same limits.

    The times are measured, so no two calls give the same times.
    """
    return FittedTime.of(calibration_run(model, max_batch_size, token_budget, page_size, rounds, prompts))


def calibration_run(
    model: DecoderLM,
    max_batch_size: int = 16,
    token_budget: int = 512,
    page_size: int = 16,
    rounds: int = 2,
    prompts: Lengths | None = None,
) -> Sequence[Step]:
    """Return the log of a run with batches of all sizes, and prompts of many lengths.

    Prompts run alone and beside decode steps. In each round requests join one by one, in every other pass,
    until the engine is full. Then the requests end one by one. Kernels that pad sequences to the longest take
    longer where lengths differ more. So give the `prompts` of the traffic that is to be predicted (default:
    all powers of two). Raises ValueError for sizes or rounds under 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be 1 or more, got {rounds}")
    longest = min(token_budget, model.cfg.max_positions // 2)
    lengths = [2**i for i in range(3, longest.bit_length()) if 2**i < longest] + [longest]
    if prompts is not None:
        drawn = prompts.draw(max_batch_size * rounds, stream(0, "calibration"))
        lengths = [min(count, longest) for count in drawn]
        lengths[-1] = longest  # the log needs a pass of the largest size, and a fit skips the first pass
    pages = max_batch_size * -(-(longest + 4 * max_batch_size + 8) // page_size)
    batcher = ContinuousBatcher(
        model, PagedKVCache.for_model(model, pages, page_size), max_batch_size, token_budget
    )
    rng = random.Random(0)
    for turn in range(rounds):
        for i in range(max_batch_size):
            count = lengths[(i + turn * max_batch_size if prompts else i + turn) % len(lengths)]
            prompt = [rng.randrange(model.cfg.vocab_size) for _ in range(count)]
            answer = min(3 * (max_batch_size - i) + rng.randint(1, 8), model.cfg.max_positions - count)
            batcher.add_request(Request((turn, i), prompt, answer))
            for _ in range(2):
                batcher.process_batch()
        batcher.run()
    return batcher.steps


def whole_passes(steps: Sequence[Step]) -> list[Step]:
    """Return passes, each of which lasts until the next one begins, where a request goes on into the next one.

    A busy engine behind a server also takes requests and hands tokens over; this time belongs to a pass, too.
    """
    lasting = [
        replace(one, end=after.begin)
        if {part.request_id for part in one.parts} & {part.request_id for part in after.parts}
        else one
        for one, after in pairwise(steps)
    ]
    return [*lasting, *steps[-1:]]
