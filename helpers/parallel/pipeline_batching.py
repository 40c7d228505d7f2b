"""Continuous batching in a pipeline: groups of requests go round, so that each stage computes one while others wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from helpers.caches.paged_kv_cache import PagedKVCache
from helpers.engine.batching import ContinuousBatcher
from helpers.engine.request import Request, RequestState, TokenLogprobs
from helpers.engine.step import Chunk, Part, Step
from helpers.model.batch import FlatBatch
from helpers.parallel.grid import Grid
from helpers.parallel.shared_clock import SentClock
from helpers.parallel.stage_model import StageLM

_TOKENS = 1000  # tags of messages with tokens begin here; below are hidden states, by group


class PipelineGroup(ContinuousBatcher):
    """One group's engine on one stage, in two halves: `launch` sends a pass on its way, `land` takes its tokens.

    Every stage runs the same engine on the same requests, with a cache of its own layers. Plans are equal, so that only
    hidden states and tokens travel. Log-probabilities are known in the last stage alone. A pass that fails ends all ranks.
    """

    model: StageLM

    def __init__(self, grid: Grid, number: int, model: StageLM, cache: PagedKVCache, **options: Any):
        """Take the group's number, which tags its messages; `options` as in `ContinuousBatcher`."""
        super().__init__(model, cache, **options)
        self.grid, self.number, self.busy = grid, number, 0.0
        self._flying: deque[tuple[list[Chunk], list[int], list[RequestState], Tensor | None, Step]] = deque()

    @property
    def flying(self) -> bool:
        """Return whether a pass is on its way."""
        return bool(self._flying)

    def launch(self) -> bool:
        """Compute this stage's part of the next pass and send it on; return whether there was a pass to compute."""
        begin = self._clock()
        planned = self.schedule_batch()
        if not planned:
            return False
        batch = FlatBatch.pack(
            [chunk.tokens for chunk in planned],
            [chunk.state.computed for chunk in planned],
            [chunk.state.name for chunk in planned],
        )
        used = self.cache.used_pages
        logits = self._through(batch)
        parts = tuple(
            Part(state.name, state.computed, len(tokens), state.remaining == 1 and bool(state.token_ids))
            for state, tokens in planned
        )
        step = Step(begin, begin, parts, tuple(self.scheduler.preempted), used)
        rows, states = self._due(planned)
        self._flying.append((planned, rows, states, logits, step))
        self._planned = []
        return True

    def land(self) -> list[tuple[Hashable, int]]:
        """Return the new tokens of the pass on its way, which every stage takes; waits for the last stage."""
        _, rows, states, logits, step = self._flying.popleft()
        tokens, logprobs = self._tokens(rows, states, logits)
        now, taken = self._clock(), []
        for state, token, entry in zip(states, tokens, logprobs, strict=True):
            if state.finish_reason is None:  # else it was cancelled on the way
                if entry is not None:
                    state.logprobs.append(entry)
                self.scheduler.took(state, token, now)
                taken.append((state.name, token))
        self.steps.append(Step(step.begin, now, step.parts, step.preempted, step.used_pages))
        return taken

    def _through(self, batch: FlatBatch) -> Tensor | None:
        """Run this stage on a batch; return logits in the last stage."""
        model, grid, hidden = self.model, self.grid, None
        if not model.first:
            shape = len(batch.token_ids), model.cfg.hidden_size
            hidden = torch.empty(shape, dtype=model.dtype, device=model.device)
            grid.receive(hidden, grid.stage - 1, self.number)
        begin = time.perf_counter()
        result = model.run(batch, self.cache, hidden)
        self.busy += time.perf_counter() - begin
        if model.last:
            return result
        grid.send(result, grid.stage + 1, self.number)
        return None

    def _tokens(
        self, rows: list[int], states: list[RequestState], logits: Tensor | None
    ) -> tuple[list[int], list[TokenLogprobs | None]]:
        """Return a token for each request, and log-probabilities: chosen in the last stage, tokens received in others."""
        if not states:
            return [], []
        grid, tag = self.grid, _TOKENS + self.number
        if logits is None:
            received = grid.receive(torch.empty(len(states), dtype=torch.int64), grid.last, tag)
            return [int(token) for token in received], [None] * len(states)
        tokens, logprobs = self._chosen(logits, rows, states)
        for stage in range(grid.last):
            grid.send(torch.tensor(tokens), stage, tag)
        return tokens, logprobs


class PipelineBatcher:
    """Serve requests over all stages: `groups` engines in turn, each with its own requests and pages.

    A stage that waits for one group's tokens computes another group. With as many groups as stages, and equal stages,
    no stage waits but at the beginning and at the end.
    """

    def __init__(
        self,
        grid: Grid,
        model: StageLM,
        groups: int,
        num_pages: int,
        page_size: int = 16,
        clock: Callable[[], float] = time.perf_counter,
        **options: Any,
    ):
        """Begin without requests, with `num_pages` pages for each group; `options` as in `ContinuousBatcher`.

        The policy is given by name. Raises ValueError for less than one group, and as `ContinuousBatcher` does.
        """
        if not 1 <= groups <= _TOKENS:
            raise ValueError(f"a pipeline has 1 to {_TOKENS} groups, got {groups}")
        self.grid, self._clock = grid, SentClock(clock)
        self.log: list[int] = []
        """The group of each pass, in the order of this stage."""
        self._names: dict[Hashable, PipelineGroup] = {}
        self.groups = [
            PipelineGroup(
                grid, number, model, PagedKVCache.for_model(model, num_pages, page_size),
                clock=self._clock, **options,
            )
            for number in range(groups)
        ]  # fmt: skip

    def add_request(self, request: Request) -> None:
        """Give a request to the group with the fewest unfinished requests. Errors as in `ContinuousBatcher`."""
        if request.request_id in self._names:
            raise ValueError(f"request {request.request_id!r} is here already")
        group = min(self.groups, key=lambda each: len(each.waiting) + len(each.running))
        group.add_request(request)
        self._names[request.request_id] = group

    @property
    def busy(self) -> float:
        """Return the seconds in which this stage computed."""
        return sum(group.busy for group in self.groups)

    def run(self, on_token: Callable[[Hashable, int], None] | None = None) -> dict[Hashable, RequestState]:
        """Run until no request waits or runs; return the finished requests by name.

        `on_token` is called with each new token; a request that it adds joins its group when that group's turn comes.
        """
        active = True
        while active:
            active = False
            for group in self.groups:
                for name, token in group.land() if group.flying else ():
                    if on_token is not None:
                        on_token(name, token)
                if group.launch():
                    self.log.append(group.number)
                    active = True
        self.grid.flush()
        self._clock.flush()
        return {name: state for group in self.groups for name, state in group.finished.items()}
