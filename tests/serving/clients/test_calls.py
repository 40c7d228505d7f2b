"""One call from outside: its text, its counts, its moments, and every way in which it can fail."""

import socket

import pytest

from helpers.serving import Limits
from helpers.serving.clients import Heard, call, completion
from tests.serving.service import alone, is_empty, running, tokenizer, until


@pytest.fixture(scope="module")
def server():
    with running() as started:
        yield started


def test_text_counts_and_moments(server):
    prompt = tokenizer()("The rivers")["input_ids"]
    heard = call(server.url, completion("The rivers", 24))
    own = alone("The rivers", 24, ignore_eos=True)
    assert (heard.status, heard.text, heard.finish_reason) == (200, own.answer, "length")
    assert (heard.prompt_tokens, heard.new_tokens, heard.ok) == (len(prompt), 24, True)
    assert 0 < len(heard.moments) <= 24
    assert heard.begun < heard.moments[0] <= heard.moments[-1] <= heard.ended
    assert heard.moments == sorted(heard.moments)
    assert heard.seconds == heard.ended - heard.begun


def test_cached_tokens_are_told(server):
    body = completion(list(range(200, 240)), 2)
    assert call(server.url, body).cached_tokens == 0
    assert call(server.url, body).cached_tokens == 32  # full pages of 8 tokens, and never the last token


def test_a_chat_is_heard_too(server):
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "temperature": 0}
    heard = call(server.url, {**body, "ignore_eos": True}, path="/v1/chat/completions")
    assert (heard.ok, heard.new_tokens) == (True, 5)


def test_a_client_that_leaves(server):
    heard = call(server.url, completion("The rivers", 400), leave_after=2)
    assert (heard.status, len(heard.moments), heard.finish_reason, heard.ok) == (200, 2, None, False)
    until(lambda: is_empty(server))


def test_a_refusal_is_a_record(server):
    heard = call(server.url, completion("x", 100_000))
    assert (heard.status, heard.ok, heard.moments) == (400, False, [])
    assert "do not fit" in heard.error
    with running(max_batch_size=1, max_waiting=0, limits=Limits(answers=4)) as small:
        heard = call(small.url, completion("x", 3, n=2))
    assert heard.status == 400


def test_a_broken_connection_is_a_record():
    with socket.socket() as deaf:  # has the port, so that nothing else gets it, and does not listen
        deaf.bind(("127.0.0.1", 0))
        heard = call(f"http://127.0.0.1:{deaf.getsockname()[1]}", completion("x", 3))
    assert (heard.status, heard.ok) == (0, False)
    assert heard.error.startswith("ConnectError")


def test_an_outcome_is_what_the_report_needs():
    heard = Heard(1.0, 4.0, 200, "ab", [1.5, 2.0, 3.5], 7, 3, 4, "length")
    seen = heard.outcome("name", "client")
    assert (seen.ttft, seen.tpot, seen.latency, seen.largest_gap) == (0.5, 1.0, 3.0, 1.5)
    assert (seen.prompt_tokens, seen.cached_tokens, seen.client, seen.served) == (7, 4, "client", True)
    refused = Heard(1.0, 1.25, 429).outcome("name")
    assert (refused.served, refused.ttft, refused.new_tokens) == (False, None, 0)
