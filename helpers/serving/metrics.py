"""What the server counts, under vLLM's names and in Prometheus' format, so that vLLM's dashboards read it."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from helpers.engine.batching import ContinuousBatcher
from helpers.engine.request import RequestState
from helpers.serving.engine_loop import Observer

_LABELS = ("model_name", "engine")
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5)
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
_GAUGES = {
    "num_requests_running": "Requests in the batch",
    "num_requests_waiting": "Requests in the queue",
    "kv_cache_usage_perc": "Share of the pages that requests hold, 0 to 1",
}
_COUNTERS = {  # prometheus_client adds _total to each name
    "prompt_tokens": "Prompt tokens of the requests that had a first token",
    "generation_tokens": "New tokens",
    "num_preemptions": "Requests that were preempted",
    "prefix_cache_queries": "Prompt tokens that were looked up",
    "prefix_cache_hits": "Prompt tokens that were cached",
}
_HISTOGRAMS = {
    "time_to_first_token_seconds": ("From a call to its first token", _LONG),
    "inter_token_latency_seconds": ("Between two tokens of an answer", _SHORT),
    "request_time_per_output_token_seconds": ("Mean time between an answer's tokens", _SHORT),
    "e2e_request_latency_seconds": ("From a call to the end of its answer", _LONG),
    "request_queue_time_seconds": ("From a call to its admission", _LONG),
    "request_prompt_tokens": ("Tokens of a prompt", _TOKENS),
    "request_generation_tokens": ("Tokens of an answer", _TOKENS),
}
_REASONS = {"stop": "stop", "length": "length", "cancelled": "abort", "failed": "error"}
"""What vLLM calls each end of a request."""


class _Histogram:
    """One engine's values of one kind, counted by size.

    The engine's thread observes a value with each token. A histogram of prometheus_client takes longer, because
    it asks bucket after bucket and locks. Here one thread writes, and any thread reads.
    """

    def __init__(self, bounds: Sequence[float]):
        """Begin without values; a bucket holds the values up to its bound."""
        self._bounds, self._created = (*map(float, bounds), math.inf), time.time()
        self._counts, self._sum = [0] * len(self._bounds), 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def show(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add what was counted to what a page shows."""
        names = map(floatToGoString, self._bounds)
        family.add_metric(labels, list(zip(names, accumulate(self._counts), strict=True)), self._sum)
        family.add_sample(f"{family.name}_created", dict(zip(_LABELS, labels, strict=True)), self._created)


class _Page(Collector):
    """The metrics that `/metrics` shows, for any number of engines."""

    def __init__(self) -> None:
        """Begin without engines."""
        self.engines = 0
        self.registry = here = CollectorRegistry()
        self.gauges = {
            name: Gauge(f"vllm:{name}", text, _LABELS, registry=here) for name, text in _GAUGES.items()
        }
        self.counters = {
            name: Counter(f"vllm:{name}", text, _LABELS, registry=here) for name, text in _COUNTERS.items()
        }
        ends = "vllm:request_success"
        self.ends = Counter(ends, "Ended requests", (*_LABELS, "finished_reason"), registry=here)
        self._histograms: dict[tuple[str, ...], dict[str, _Histogram]] = {}
        here.register(self)

    def add_histograms(self, *labels: str) -> dict[str, _Histogram]:
        """Return new histograms by name; the labels tell them from those of other engines."""
        made = {name: _Histogram(bounds) for name, (_, bounds) in _HISTOGRAMS.items()}
        self._histograms[labels] = made
        return made

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield all histograms, as prometheus_client asks for them."""
        for name, (text, _) in _HISTOGRAMS.items():
            family = HistogramMetricFamily(f"vllm:{name}", text, labels=_LABELS)
            for labels, histograms in self._histograms.items():
                histograms[name].show(family, labels)
            yield family


class ServerMetrics(Observer):
    """Count what one engine does; the engine's thread writes, any thread reads.

    Engines beside each other share a page: the label `engine` tells their numbers apart, as in vLLM. Times are in seconds. A request that is cancelled before its first token is in `request_success` alone.
    """

    def __init__(self, model: str, beside: ServerMetrics | None = None):
        """Begin at 0, for the model of that name; with `beside`, on the page of another engine's metrics."""
        self._page: _Page = _Page() if beside is None else beside._page
        self._page.engines += 1
        self.registry = self._page.registry
        labels = {"model_name": model, "engine": str(self._page.engines - 1)}
        self._gauges = {name: gauge.labels(**labels) for name, gauge in self._page.gauges.items()}
        self._counters = {name: counter.labels(**labels) for name, counter in self._page.counters.items()}
        self._histograms = self._page.add_histograms(*labels.values())
        self._ends = {
            reason: self._page.ends.labels(**labels, finished_reason=name)
            for reason, name in _REASONS.items()
        }
        self._looked_up = self._hits = 0

    def exposition(self) -> bytes:
        """Return all numbers in Prometheus' text format."""
        return generate_latest(self.registry)

    def passed(self, engine: ContinuousBatcher) -> None:
        """Note running and waiting requests, the pages in use, and the pool's counts since the last pass."""
        pages = engine.cache
        self._gauges["num_requests_running"].set(len(engine.running))
        self._gauges["num_requests_waiting"].set(len(engine.waiting))
        self._gauges["kv_cache_usage_perc"].set(pages.used_pages * pages.page_size / pages.capacity)
        looked_up, hits = pages.pool.looked_up
        self._counters["prefix_cache_queries"].inc(looked_up - self._looked_up)
        self._counters["prefix_cache_hits"].inc(hits - self._hits)
        self._looked_up, self._hits = looked_up, hits

    def took(self, state: RequestState, received: float) -> None:
        """Note a new token, and how long it took."""
        times = state.token_times
        self._counters["generation_tokens"].inc()
        if len(times) > 1:
            self._observe("inter_token_latency_seconds", times[-1] - times[-2])
            return
        self._counters["prompt_tokens"].inc(state.num_prompt)
        self._observe("time_to_first_token_seconds", times[0] - received)

    def ended(self, state: RequestState, received: float) -> None:
        """Note how a request ended, and its times."""
        if state.finish_reason is not None:
            self._ends[state.finish_reason].inc()
        self._counters["num_preemptions"].inc(state.preemptions)
        if not state.token_times or state.ended is None:
            return
        if len(state.token_times) > 1:
            self._observe("request_time_per_output_token_seconds", state.tpot)
        self._observe("e2e_request_latency_seconds", state.ended - received)
        if state.first_scheduled is not None:
            self._observe("request_queue_time_seconds", max(state.first_scheduled - received, 0.0))
        self._observe("request_prompt_tokens", state.num_prompt)
        self._observe("request_generation_tokens", len(state.token_ids))

    def gauge(self, name: str, value: float) -> None:
        """Set a number that goes up and down, by its name without `vllm:`."""
        self._gauges[name].set(value)

    def count(self, name: str, amount: float) -> None:
        """Add to a number that only grows, by its name without `vllm:` and `_total`."""
        self._counters[name].inc(amount)

    def _observe(self, name: str, value: float) -> None:
        """Add a value to a histogram."""
        self._histograms[name].observe(value)
