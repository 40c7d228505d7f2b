"""The gate: the API key, bodies that are too large or too slow, and 300 bodies that are not what they should be."""

import json
import random
import socket

import httpx
import openai
import pytest

from helpers.serving import Limits, TooLarge, Unauthorized, error_response
from tests.serving.service import HTTP, NAME, alone, running, until

LIMITS = Limits(body_bytes=5000)
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server():
    with running(limits=LIMITS, num_pages=4) as here:
        yield here


def is_well(server):
    """Whether the server answers as it should and holds nothing."""
    assert HTTP.get(server.url + "/health").status_code == 200
    body = {"prompt": "The rivers", "max_tokens": 5, "temperature": 0}
    answer = HTTP.post(server.url + "/v1/completions", json=body)
    assert answer.json()["choices"][0]["text"] == alone("The rivers", 5).answer
    until(lambda: server.service.loop.engine.cache.used_pages == 0)
    return server.service.loop.num_answers == 0


def test_the_api_key():
    with running(api_key="s3cret ü") as server:
        for header in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic s3cret"},
            {"Authorization": "s3cret"},
        ):
            for path in ("/v1/models", "/metrics", "/tokenize", "/v1/nothing"):
                refused = HTTP.get(server.url + path, headers=header)
                assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
                assert refused.json()["error"]["code"] == "invalid_api_key"
        assert HTTP.get(server.url + "/health").status_code == 200
        right = {"Authorization": "Bearer s3cret ü".encode()}
        assert HTTP.get(server.url + "/v1/models", headers=right).status_code == 200
    with running(api_key="plain") as server:
        with openai.OpenAI(base_url=server.url + "/v1", api_key="other", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError, match="is missing or wrong"):
                client.models.list()
        with openai.OpenAI(base_url=server.url + "/v1", api_key="plain", max_retries=0) as client:
            assert client.models.list().data[0].id == NAME


def test_the_key_is_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr(
        "helpers.serving.gate.hmac.compare_digest", lambda a, b: compared.append((a, b)) or False
    )
    with running(api_key="key") as server:
        HTTP.get(server.url + "/v1/models", headers={"Authorization": "Bearer key"})
    assert compared == [(b"key", b"key")]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_not_read(server, announced):
    raw = json.dumps({"prompt": "x" * 6000}).encode()
    content = raw if announced else iter([raw[:3000], raw[3000:]])
    answer = HTTP.post(server.url + "/v1/completions", content=content, headers=JSON)
    assert answer.status_code == 413
    assert "5000 bytes at most" in answer.json()["error"]["message"]
    assert is_well(server)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize"])
def test_what_a_page_in_a_browser_may_send_unasked_is_refused(server, path):
    raw = json.dumps({"prompt": "x"}).encode()
    kinds = ("text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "", None)
    for kind in (*kinds, "multipart/form-data; boundary=x", "application/jsonp"):
        headers = {} if kind is None else {"Content-Type": kind}
        answer = HTTP.post(server.url + path, content=raw, headers=headers)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (415, "invalid_request_error")
        assert error["code"] == "unsupported_media_type"
        assert "Content-Type: application/json" in error["message"]
    assert is_well(server)


def test_json_is_known_by_every_spelling(server):
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/json ;charset=utf-8"):
        answer = HTTP.post(
            server.url + "/tokenize", content=b'{"prompt": "x"}', headers={"Content-Type": kind}
        )
        assert answer.status_code == 200


def test_a_body_that_does_not_come_is_given_up():
    hasty = running(limits=Limits(body_seconds=0.3))
    with hasty as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head(Content_Length=100) + b"{")
        client.settimeout(120)
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert server.service.loop.num_answers == 0


def head(kind="application/json", path="/v1/completions", **more):
    """The head of a call, as bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def status_and_end(client):
    """The status of an answer, which must be whole, after which the connection must end without a reset."""
    raw = b""
    while piece := client.recv(1000):
        raw += piece
    first, _, body = raw.partition(b"\r\n\r\n")
    length = int(first.lower().partition(b"content-length:")[2].split()[0])
    assert len(body) == length, raw
    return int(first.split()[1])


REFUSED = {
    415: dict(kind="text/plain", Content_Length=4000),
    413: dict(Content_Length=6000),
    401: dict(Content_Length=4000, Connection="close"),
    404: dict(path="/v1/nothing", Content_Length=4000, Connection="close", Authorization="Bearer key"),
    405: dict(path="/health", Content_Length=4000, Connection="close"),
}


@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_reaches_a_client_that_is_still_sending(status, monkeypatch):
    """A connection closed while bytes come in is reset, and takes the answer with it."""
    monkeypatch.setattr("helpers.serving.streams.wire.LINGER_SECONDS", 60.0)
    with running(limits=LIMITS, api_key="key") as server:
        fields = {"Authorization": "Bearer key", **REFUSED[status]}
        if status == 401:
            del fields["Authorization"]
        with socket.create_connection(("127.0.0.1", server.port), 120) as client:
            client.sendall(head(**fields))
            seen = client.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL)
            assert int(seen.split()[1]) == status  # the answer does not wait for the body
            for _ in range(fields["Content_Length"] // 500):
                client.sendall(b"x" * 500)
            assert status_and_end(client) == status
        key = {"Authorization": "Bearer key"}
        assert HTTP.get(server.url + "/v1/models", headers=key).status_code == 200


def test_the_rest_of_a_refused_body_is_not_awaited_for_ever(server, monkeypatch):
    monkeypatch.setattr("helpers.serving.streams.wire.LINGER_SECONDS", 0.2)
    for said in ({}, {"Content_Length": 10**9}, {"Transfer_Encoding": "chunked"}):
        with socket.create_connection(("127.0.0.1", server.port), 120) as client:
            client.sendall(head("text/plain", **said))
            assert status_and_end(client) == 415
    assert is_well(server)


def test_connections_that_break_off_harm_nobody(server):
    pieces = [
        b"",
        b"GET",
        b"POST /v1/completions HTTP/1.1\r\n",
        b"\x00\xff\r\n\r\n",
        b"GET /x HTTP/9.9\r\n\r\n",
    ]
    pieces.append(head(Content_Length=50) + b'{"prompt"')
    kept = []
    for piece in pieces * 3:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(piece)
        kept.append(client)
    assert is_well(server)
    for client in kept:
        client.close()
    assert is_well(server)


def test_errors_as_responses():
    assert error_response(Unauthorized("no")).headers["www-authenticate"] == "Bearer"
    large = error_response(TooLarge("no"))
    assert (large.status_code, large.headers["connection"]) == (413, "close")


STRANGE = [
    None, True, False, -1, 0, 17, 2**31, 2**63, 10**40, -(10**40), 1e308, -0.5, "", "x", "\u0000", "é" * 50, "𝕏\u202e",
    [], [[]], [None], [1, "a"], ["a", 1], {}, {"a": {}}, [{"role": "user"}], [{"content": "x"}], "1", [-1], [10**12],
]  # fmt: skip
NAMES = [
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "n",
    "stop",
    "stream",
    "stream_options",
    "user",
    "cache_salt",
    "priority",
    "ignore_eos",
    "min_tokens",
    "logprobs",
    "top_logprobs",
    "echo",
    "prompt",
    "messages",
    "model",
    "tools",
    "logit_bias",
    "best_of",
    "x",
    "$",
    "__class__",
    "suffix",
    "response_format",
    "presence_penalty",
]
BROKEN = [
    b"", b"{", b"nul", b"[]", b"1", b'"x"', b"\xff\xfe", b'{"prompt": NaN}', b'{"prompt": "x", "temperature": NaN}',
    b'{"prompt": "x", "top_p": Infinity}', b'{"prompt": "\\ud800"}', b'{"prompt": "x"}}', b"{'prompt': 'x'}",
    b"[" * 2000, b'{"a":' * 900, b'{"prompt": "x", "seed": 1' + b"0" * 4400 + b"}", b'{"prompt": "x" "n": 1}',
]  # fmt: skip


def fuzzed(number):
    """A path and a body that is broken, or has one field or more of a strange value."""
    drawn = random.Random(number)
    chat = drawn.random() < 0.5
    path = "/v1/chat/completions" if chat else "/v1/completions"
    if number < 2 * len(BROKEN):
        return path, BROKEN[number // 2]
    body = {
        "max_tokens": 2,
        **({"messages": [{"role": "user", "content": "x"}]} if chat else {"prompt": "x"}),
    }
    for name in drawn.sample(NAMES, drawn.randint(1, 4)):
        body[name] = drawn.choice(STRANGE)
    return path, json.dumps(body).encode()


def test_300_strange_bodies_are_answered_or_refused(server):
    statuses = []
    with httpx.Client(timeout=120) as client:
        for number in range(340):
            path, raw = fuzzed(number)
            answer = client.post(server.url + path, content=raw, headers=JSON)
            statuses.append(answer.status_code)
            if answer.status_code == 200:  # some are right by chance
                continue
            assert answer.status_code in (400, 404), (raw, answer.text)
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["type"] == "invalid_request_error"
            assert error["message"]
    assert len(statuses) - statuses.count(200) >= 300
    assert all(status != 200 for status in statuses[: 2 * len(BROKEN)])
    assert is_well(server)
