"""The server's numbers: they parse, they have vLLM's names, and they count what happened."""

import json
import re

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from helpers.engine import Request, RequestState
from helpers.serving import ServerMetrics
from tests.serving.service import HTTP, running, until
from tools.notebooks import ROOT

EXPECTED = [
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "prompt_tokens",
    "generation_tokens",
    "num_preemptions",
    "prefix_cache_queries",
    "prefix_cache_hits",
    "request_success",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
]


def numbers(server):
    """All samples by name, those of one name summed; also those of `request_success` by reason."""
    families = list(text_string_to_metric_families(HTTP.get(server.url + "/metrics").text))
    found = {}
    samples = [sample for family in families for sample in family.samples]
    for sample in [sample for sample in samples if not sample.name.endswith("_created")]:
        assert sample.labels["model_name"] == "tiny"
        name = sample.name.removeprefix("vllm:")
        found[name] = found.get(name, 0) + sample.value
        found[name, sample.labels.get("finished_reason")] = sample.value
    names = {family.name.removeprefix("vllm:") for family in families if family.samples}
    return {name for name in names if not name.endswith("_created")}, found


def test_what_happened_is_counted():
    with running(slow=0.002, num_pages=12, ends=()) as server:
        names, found = numbers(server)
        assert names == set(EXPECTED)
        assert set(found.values()) == {0}
        body = {"prompt": list(range(500, 520)), "max_tokens": 5, "temperature": 0}
        for _ in range(2):
            assert HTTP.post(server.url + "/v1/completions", json=body).status_code == 200
        found = numbers(server)[1]
        counts = dict(
            prompt_tokens_total=40, generation_tokens_total=10, prefix_cache_queries_total=40,
            prefix_cache_hits_total=16, time_to_first_token_seconds_count=2, inter_token_latency_seconds_count=8,
            request_time_per_output_token_seconds_count=2, e2e_request_latency_seconds_count=2,
            request_queue_time_seconds_count=2, request_prompt_tokens_sum=40, request_generation_tokens_sum=10,
            num_requests_running=0, num_requests_waiting=0, kv_cache_usage_perc=0, num_preemptions_total=0,
        )  # fmt: skip
        assert {name: found[name] for name in counts} == counts
        assert found["request_success_total", "length"] == 2
        times = [found[f"{name}_seconds_sum"] for name in ("time_to_first_token", "e2e_request_latency")]
        assert 0 < times[0] < times[1]
        assert found["inter_token_latency_seconds_sum"] == pytest.approx(times[1] - times[0], rel=0.5)


def test_histograms_are_those_of_prometheus_client():
    metrics, bounds = ServerMetrics("m"), (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1)
    bounds = (*bounds, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5)
    theirs = Histogram("theirs", "As vLLM has it", registry=CollectorRegistry(), buckets=bounds)
    for gap in (0.0, *bounds, 0.004, 7.0):
        state = RequestState(Request("a", [1], 4), 0.0)
        state.token_times = [1.0, 1.0 + gap]
        metrics.took(state, 0.0)
        theirs.observe(state.token_times[1] - state.token_times[0])
    labels = {"model_name": "m", "engine": "0"}
    for sample in next(iter(theirs.collect())).samples:
        name = sample.name.replace("theirs", "vllm:inter_token_latency_seconds")
        if not name.endswith("_created"):
            assert metrics.registry.get_sample_value(name, {**labels, **sample.labels}) == sample.value


def test_gauges_and_preemptions_while_the_memory_is_short():
    with running(slow=0.01, num_pages=12, max_batch_size=2) as server:
        body = {"prompt": "x", "max_tokens": 60, "ignore_eos": True, "stream": True, "n": 3}
        with HTTP.stream("POST", server.url + "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            found = numbers(server)[1]
            assert found["num_requests_running"] == 2
            assert found["num_requests_waiting"] == 1
            assert found["kv_cache_usage_perc"] in [k / 12 for k in range(1, 13)]
            assert len(list(lines)) > 180
        until(lambda: numbers(server)[1]["kv_cache_usage_perc"] == 0)
        found = numbers(server)[1]
        assert found["num_preemptions_total"] >= 1
        assert found["generation_tokens_total"] == 180


def test_the_dashboard_asks_for_what_there_is():
    text = (ROOT / "docs/grafana/serving.json").read_text()
    panels = json.loads(text)["panels"]
    asked = {
        name for panel in panels for t in panel["targets"] for name in re.findall(r"vllm:(\w+)", t["expr"])
    }
    with running() as server:
        there = {name for name in numbers(server)[1] if isinstance(name, str)}
    assert asked
    assert asked <= there
