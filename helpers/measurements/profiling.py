"""The times of a generation, token by token: first token, output tokens, percentiles, throughput."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.caches.kv_cache import KVCache
from helpers.display import plots
from helpers.display.readings import measured
from helpers.display.tables import Table
from helpers.machine.device import synchronize
from helpers.machine.profile import device_trace
from helpers.machine.stopwatch import Lap
from helpers.model.decoder import DecoderLM
from helpers.model.generation import Generation, end_tokens, generate

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class GenerationProfile:
    """The times of one generation in seconds, shown as a table."""

    generation: Generation
    text: str
    """The new tokens as text."""
    ttft: float
    """Time to first token: from the request to the first new token, the prompt's pass (prefill) included."""
    step_times: tuple[float, ...]
    """For each token after the first, the time since the token before: one decode pass each."""

    @property
    def prompt_tokens(self) -> int:
        """Return the number of tokens of the prompt."""
        return len(self.generation.prompt_ids)

    @property
    def new_tokens(self) -> int:
        """Return the number of generated tokens."""
        return len(self.generation.token_ids)

    @property
    def total(self) -> float:
        """Return the seconds from the request to the last token."""
        return self.ttft + sum(self.step_times)

    @property
    def tpot(self) -> float:
        """Return the time per output token: the mean over all tokens after the first; 0 without any."""
        return statistics.fmean(self.step_times) if self.step_times else 0.0

    @property
    def throughput(self) -> float:
        """Return new tokens per second, from the request to the last token."""
        return self.new_tokens / self.total

    def percentile(self, percent: float) -> float:
        """Return the inter-token latency that `percent` % of the steps do not exceed.

        The method is the nearest rank, so the latency is one that occurred. Raises ValueError for a
        percentage outside (0, 100], and when only one token was generated.
        """
        if not 0 < percent <= 100:
            raise ValueError(f"a percentile lies above 0 and up to 100, got {percent}")
        if not self.step_times:
            raise ValueError("one token was generated; there is no time between tokens")
        rank = -(-len(self.step_times) * percent // 100)
        return sorted(self.step_times)[int(rank) - 1]

    def table(self) -> Table:
        """Return all numbers, one row each."""
        rows = [
            ("prompt tokens", str(self.prompt_tokens)),
            ("new tokens", str(self.new_tokens)),
            ("time to first token (TTFT)", measured(self.ttft)),
        ]
        if self.step_times:
            rows.append(("time per output token (TPOT)", measured(self.tpot)))
            rows += [(f"inter-token latency, p{p}", measured(self.percentile(p))) for p in (50, 90, 99)]
        rows += [("total", measured(self.total)), ("throughput", measured(self.throughput, "tok/s"))]
        return Table(("", "value"), rows)

    def plot(self) -> Figure:
        """Return a figure of each token's time: the first in prefill's colour, the others in decode's."""
        fig, ax = plots.new_figure("Time of each new token", "new token", "ms")
        ax.bar([1], [self.ttft * 1e3], color=plots.COLORS["prefill"], label="first token (prefill)")
        steps = range(2, self.new_tokens + 1)
        ax.bar(steps, [t * 1e3 for t in self.step_times], color=plots.COLORS["decode"], label="decode steps")
        plots.legend(ax)
        return fig

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        """Return the table as HTML, for a notebook."""
        return self.table()._repr_html_()


class InferenceProfiler:
    """Times greedy generation of one request with a KV cache.

    The profiler warms up first, because first calls pay for memory and kernel selection. The timed run begins
    when the device is idle. The clock is monotonic: the host's for a CPU, the device's own events for an
    accelerator.
    """

    def __init__(self, warmup: int = 1):
        """Set the number of short generations before the one that counts; raise ValueError under 0."""
        if warmup < 0:
            raise ValueError(f"warmup must be 0 or more, got {warmup}")
        self.warmup = warmup

    def profile_generation(
        self,
        model: DecoderLM,
        tokenizer: PreTrainedTokenizerBase,
        prompt: str | Sequence[int],
        max_new_tokens: int = 100,
        trace_folder: str | Path | None = None,
    ) -> GenerationProfile:
        """Return the profile of the greedy continuation of `prompt`, which is text or token ids.

        Generation ends early at the end-of-text token. With a `trace_folder` the device's own profiler writes
        a trace there; the times then include that profiler's work. Raises ValueError for an empty prompt, or
        a count under 1.
        """
        prompt_ids = list(tokenizer(prompt)["input_ids"]) if isinstance(prompt, str) else list(prompt)
        room = min(len(prompt_ids) + max_new_tokens, model.cfg.max_positions)
        cache = KVCache.for_model(model, batch_size=1, max_seq_len=max(room, 1))
        for _ in range(self.warmup):
            generate(model, prompt_ids, min(2, max_new_tokens), cache)
            cache.clear()
        stop_ids = end_tokens(model, tokenizer)
        synchronize(model.device)
        lap = Lap(model.device)
        traced = nullcontext() if trace_folder is None else device_trace(model.device, Path(trace_folder))
        with traced:
            lap.mark()
            result = generate(
                model, prompt_ids, max_new_tokens, cache, stop_ids, on_token=lambda token: lap.mark()
            )
        first, *others = lap.seconds()
        text = str(tokenizer.decode(result.token_ids, skip_special_tokens=True))
        return GenerationProfile(result, text, first, tuple(others))
