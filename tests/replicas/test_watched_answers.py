"""What is counted where no engine is near: tokens, times as the client sees them, and each end once."""

import asyncio
import math

import pytest

from helpers.engine import Request
from helpers.replicas import WatchedAnswers
from helpers.serving import Piece, RequestFailed, ServerMetrics
from tests.serving.service import run


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self):
        return self.now


def number(metrics, name, **labels):
    """A sample of the page."""
    return metrics.registry.get_sample_value(f"vllm:{name}", {"model_name": "m", "engine": "0", **labels})


def test_pieces_are_counted_and_passed_on():
    metrics, clock = ServerMetrics("m"), Clock()

    async def call():
        answers = WatchedAnswers([Request("a", [1] * 7, 4)], 2, lambda _: None, metrics, clock)
        clock.now += 0.5
        answers.deliver(Piece(0, "x", token_id=3))
        clock.now += 0.25
        answers.deliver(Piece(0, "y", finish_reason="stop", cached_tokens=4, token_id=5))
        answers.deliver(Piece(1, "z", token_id=3))
        assert [(await anext(answers)).text for _ in range(3)] == ["x", "y", "z"]
        answers.close()
        answers.close()

    run(call())
    assert [number(metrics, f"{name}_total") for name in ("generation_tokens", "prompt_tokens")] == [3, 14]
    assert [number(metrics, f"prefix_cache_{name}_total") for name in ("queries", "hits")] == [7, 4]
    first = "time_to_first_token_seconds"
    assert [number(metrics, f"{first}_{part}") for part in ("count", "sum")] == [2, 0.5 + 0.75]
    assert number(metrics, "inter_token_latency_seconds_sum") == 0.25
    assert number(metrics, "e2e_request_latency_seconds_count") == 2
    ends = {
        reason: number(metrics, "request_success_total", finished_reason=reason)
        for reason in ("stop", "abort")
    }
    assert ends == {"stop": 1, "abort": 1}
    assert number(metrics, "request_queue_time_seconds_count") == 0, "only engines know"
    assert math.isnan(number(metrics, "kv_cache_usage_perc"))


def test_an_error_ends_all_answers_of_the_call():
    metrics = ServerMetrics("m")

    async def call():
        answers = WatchedAnswers([Request("a", [1], 4), Request("b", [1], 4)], 1, lambda _: None, metrics)
        answers.deliver(RequestFailed("no"))
        with pytest.raises(RequestFailed):
            await anext(answers)
        await asyncio.sleep(0)

    run(call())
    assert number(metrics, "request_success_total", finished_reason="error") == 2
