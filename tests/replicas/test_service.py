"""The real server over several engines: one address, the routes of one engine, one page of metrics."""

import re

import pytest

from helpers.replicas import make_group_service
from tests.serving.service import HTTP, NAME, SIZES, Running, SlowModel, alone, model, tokenizer, until

MODEL = SlowModel(0.002)


@pytest.fixture(scope="module")
def server():
    started = Running(make_group_service(MODEL, tokenizer(), NAME, 2, "round-robin", **SIZES))
    yield started
    started.close()


def total(server, name, label=""):
    """A metric's sum over the engines, or that of one."""
    page = HTTP.get(server.url + "/metrics").text
    lines = re.findall(rf"^vllm:{name}{{([^}}]*)}} (\S+)$", page, re.MULTILINE)
    return sum(float(value) for labels, value in lines if label in labels)


def test_streamed_and_whole_answers_and_metrics_of_both_engines(server):
    body = {"prompt": ["One", "Two"], "max_tokens": 6, "temperature": 0, "n": 2}
    answer = HTTP.post(server.url + "/v1/completions", json=body).json()
    assert [choice["text"] for choice in answer["choices"]] == [
        alone(prompt, 6).answer for prompt in ("One", "One", "Two", "Two")
    ]
    assert answer["usage"]["completion_tokens"] == 24
    until(lambda: server.service.loop.num_answers == 0)
    assert total(server, "generation_tokens_total") == 24
    assert [total(server, "generation_tokens_total", f'engine="{i}"') for i in range(2)] == [12, 12]
    assert HTTP.get(server.url + "/health").status_code == 200


def test_a_client_that_leaves_is_cancelled_at_its_replica(server, monkeypatch):
    monkeypatch.setattr(MODEL, "seconds", 0.1)  # 40 s for the whole answer: a busy machine sees it running
    body = {"prompt": "Go", "max_tokens": 400, "temperature": 0, "stream": True, "ignore_eos": True}
    with HTTP.stream("POST", server.url + "/v1/completions", json=body) as answer:
        lines = answer.iter_lines()  # held: httpx hangs up when the iterator is collected
        next(lines)
        assert server.service.loop.num_requests == 1
    until(lambda: server.service.loop.num_answers == 0)
    assert all(r.loop.engine.cache.used_pages == 0 for r in server.service.loop.replicas)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(replicas=0), "replicas must be 1 or more, got 0"),
        (dict(router="lottery"), "unknown router 'lottery'"),
        (dict(policy="lottery"), "lottery"),
    ],
)
def test_what_cannot_be_is_refused_before_a_thread_starts(options, words):
    with pytest.raises(ValueError, match=words):
        make_group_service(model(), tokenizer(), NAME, **{**SIZES, **options})
