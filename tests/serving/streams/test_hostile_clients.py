"""Clients that break the rules of HTTP, or use them to the full: raw bytes on real connections."""

import contextlib
import json
import logging
import math
import socket

import pytest

from helpers.serving import Limits, make_service
from tests.serving.service import HTTP, NAME, SIZES, GatedModel, Running, is_empty, running, tokenizer, until

BODY = {"prompt": "The rivers", "max_tokens": 12, "temperature": 0, "ignore_eos": True, "stream": True}
DONE = b"data: [DONE]\n\n"


@pytest.fixture(scope="module")
def server():
    with running(limits=Limits(body_bytes=5000)) as here:
        yield here


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """A server that takes in what comes behind its answers until the client ends: no test is a race."""
    monkeypatch.setattr("helpers.serving.streams.wire.LINGER_SECONDS", 60.0)


@contextlib.contextmanager
def connected(server):
    """A connection to a server."""
    with socket.create_connection(("127.0.0.1", server.port), 120) as client:
        yield client


def call(body=BODY, path="/v1/completions", kind="application/json", version="1.1", **more):
    """A call as bytes."""
    raw = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Type: {kind}"]
    fields = {"Content_Length": len(raw), **more}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode() + raw


def heard(client):
    """All that comes until the connection ends, which it must do without a reset."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def ended(client):
    """All that comes until the connection ends, in whichever way."""
    raw = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(65536):
            raw += piece
    return raw


def next_answer(client):
    """The status and the body of the next answer on a connection that goes on; head and body may come apart."""
    raw = b""
    while b"\r\n\r\n" not in raw or len(raw) < length_of(raw):
        piece = client.recv(65536)
        assert piece, "the connection ended"
        raw += piece
    return answer(raw)


def length_of(raw):
    """The bytes of an answer whose head has come."""
    head, mark, _ = raw.partition(b"\r\n\r\n")
    return len(head + mark) + int(head.lower().partition(b"content-length:")[2].split()[0])


def answer(raw):
    """The status and the body of one answer with a length, and what stands behind it."""
    end = length_of(raw)
    assert len(raw) >= end, raw
    head, _, body = raw[:end].partition(b"\r\n\r\n")
    return int(head.split()[1]), body, raw[end:]


def stream(raw):
    """The body of one streamed answer, whose chunks must be whole, and what stands behind it."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    whole, size = b"", 1
    while size:
        word, _, rest = rest.partition(b"\r\n")
        size = int(word, 16)
        assert rest[size : size + 2] == b"\r\n", "a chunk has another size than it says"
        whole, rest = whole + rest[:size], rest[size + 2 :]
    return whole, rest


def alone(server, **options):
    """The events of a stream that is alone on its connection, without names and times."""
    return choices(HTTP.post(server.url + "/v1/completions", json={**BODY, **options}).content)


def choices(body):
    """What the events of a stream tell; `[DONE]` must stand at the end, once."""
    assert body.endswith(DONE)
    assert body.count(DONE) == 1
    events = [json.loads(line.removeprefix("data: ")) for line in body.decode().split("\n\n")[:-2]]
    text = {}
    for event in events:
        for choice in event["choices"]:
            text[choice["index"]] = text.get(choice["index"], "") + choice["text"]
    return text


ENDLESS = {
    "a head": (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000, 400),
    "a path with a slash": (call(path="/tokenize/", Connection="close", Content_Length=4000)[:-90], 307),
    "a broken body": (call(Content_Length=None, Transfer_Encoding="chunked") + b"\r\n", 400),
    "a second call": (call(kind="text/plain") + call(Content_Length=4000)[:-90], 415),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_no_answer_is_lost_to_a_reset(server, what):
    """Where the server ends a connection, it takes in for a while what the client still sends."""
    first, status = ENDLESS[what]
    with connected(server) as client:
        client.sendall(first)
        client.recv(1, socket.MSG_PEEK)
        for _ in range(40):
            client.sendall(b"x" * 500)
        client.shutdown(socket.SHUT_WR)
        raw = heard(client)
        assert answer(raw)[0] == status
        assert answer(raw)[2] == b""


NO_HTTP = [
    b"GET /health HTTP/1.1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET /health\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500,
    call(Content_Length=5, Transfer_Encoding="gzip, chunked"),
    call().replace(b"Host: x", b"Content-Length: 7\r\nHost: x"),
    call(Content_Length="+5"),
    call(Content_Length="9" * 30),
    call(Content_Length=None, Transfer_Encoding="chunked") + b"\r\n",
    b"HEAD /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
]


@pytest.mark.parametrize("raw", NO_HTTP)
def test_what_is_no_http_is_refused_as_the_routes_refuse(server, raw, caplog):
    with caplog.at_level(logging.ERROR), connected(server) as client:
        client.sendall(raw)
        status, body, behind = answer(heard(client))
    error = json.loads(body)["error"]
    assert (status, error["type"], behind) == (400, "invalid_request_error", b"")
    assert not caplog.records
    assert is_empty(server)


@pytest.mark.parametrize(("kind", "path"), [("text/plain", "/tokenize"), ("application/json", "/v1/nothing")])
def test_a_broken_body_behind_a_refusal_only_ends_the_connection(server, kind, path, caplog):
    head = call(path=path, kind=kind, Content_Length=None, Transfer_Encoding="chunked").partition(b"{")[0]
    with caplog.at_level(logging.ERROR), connected(server) as client:
        client.sendall(head + b"5\r\nhello\r\n")
        client.recv(1, socket.MSG_PEEK)
        client.sendall(b"zz\r\nzz\r\n")
        client.shutdown(socket.SHUT_WR)
        assert answer(heard(client))[2] == b""
    assert not caplog.records


def test_a_connection_without_a_whole_head_is_not_kept_for_ever(server, monkeypatch):
    """Without a byte; in the middle of a head; in the rest of a body whose call was refused."""
    with connected(server) as endless:
        endless.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert next_answer(endless)[0] == 200
        monkeypatch.setattr("helpers.serving.streams.connection.HEAD_SECONDS", 0.2)
        endless.sendall(call(path="/v1/nothing", Content_Length=4000))
        endless.recv(1, socket.MSG_PEEK)
        endless.sendall(b"x")
        with connected(server) as silent, connected(server) as slow:
            with contextlib.suppress(ConnectionError):  # on a busy machine its time may be over
                slow.sendall(b"GET /health HT")
            assert ended(silent) == ended(slow) == b""
            assert answer(heard(endless))[0] == 404


def test_the_time_for_a_head_ends_with_the_head():
    """No answer is cut by the time that its client had for the head."""
    gated = GatedModel(1)
    with running(model=gated) as server, connected(server) as client:
        client.sendall(call({**BODY, "stream": False}))
        until(lambda: gated.begun == 2)
        (connection,) = server.server.server_state.connections
        assert connection._patience is None
        gated.let()
        assert next_answer(client)[0] == 200
        until(lambda: connection._patience is not None)


def test_a_request_in_pieces_of_one_byte(server):
    with connected(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in call(Connection="close"):
            client.send(bytes([byte]))
        assert choices(stream(heard(client))[0]) == alone(server)


def test_expect_and_an_offered_upgrade_change_no_answer(server):
    offer = dict(Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMAAABkAAQAAP__")
    head, body = call(Expect="100-continue", Connection="close").split(b"\r\n\r\n")
    with connected(server) as client:
        client.sendall(call(**offer) + head + b"\r\n\r\n")
        raw = b""
        while not raw.endswith(b"HTTP/1.1 100 \r\n\r\n") and not raw.endswith(b" 100 Continue\r\n\r\n"):
            raw += client.recv(65536)
        client.sendall(body)
        first, interim = stream(raw)
        assert interim.startswith(b"HTTP/1.1 100 ")
        second, behind = stream(heard(client))
        assert choices(first) == choices(second) == alone(server)
        assert behind == b""


def test_the_answers_to_pipelined_calls_come_one_after_the_other(server):
    """The second call comes in the middle of the first stream; refusals and whole answers stand between."""
    gated = GatedModel(3)
    with running(model=gated) as other, connected(other) as client:
        client.sendall(call({**BODY, "n": 2}))
        raw = b""
        while b"data: " not in raw:
            raw += client.recv(65536)
        client.sendall(call({**BODY, "prompt": "Another"}) + call(path="/v1/nothing"))
        client.sendall(call({**BODY, "stream": False}) + call(Connection="close"))
        gated.let()
        first, rest = stream(raw + heard(client))
        second, rest = stream(rest)
        status, _, rest = answer(rest)
        whole, body, rest = answer(rest)
        last, behind = stream(rest)
    assert (status, whole, behind) == (404, 200, b"")
    assert choices(first) == alone(server, n=2)
    assert choices(second) == alone(server, prompt="Another")
    assert choices(last) == alone(server) == {0: json.loads(body)["choices"][0]["text"]}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("pipelined", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_a_client_that_leaves_ends_its_call(streamed, pipelined, half):
    """A closed sending side counts as leaving, and is seen behind a call that waits for its turn, too."""
    gated = GatedModel(1)
    with running(model=gated) as server, connected(server) as client:
        client.sendall(call({**BODY, "stream": streamed, "max_tokens": 400}))
        until(lambda: gated.begun == 2)
        if pipelined:
            client.sendall(call())
        client.shutdown(socket.SHUT_WR) if half else client.close()
        until(lambda: not server.server.server_state.tasks)
        gated.let()
        until(lambda: is_empty(server))
        assert gated.begun < 5


def test_what_needs_no_pass_is_answered_to_a_client_that_only_reads_on(server):
    with connected(server) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        status, body, _ = answer(heard(client))
        assert (status, json.loads(body)["data"][0]["id"]) == (200, NAME)


def test_an_error_in_mid_stream_is_told_before_the_one_end():
    gated = GatedModel(3)
    with running(model=gated) as server, connected(server) as client:
        client.sendall(call(Connection="close"))
        raw = b""
        while b"data: " not in raw:
            raw += client.recv(65536)
        server.service.loop.drain(-1.0)
        gated.let()
        body, behind = stream(raw + heard(client))
    assert behind == b""
    assert body.endswith(DONE)
    assert body.count(DONE) == 1
    assert json.loads(body.split(b"\n\n")[-3].removeprefix(b"data: "))["error"]["code"] == "shutting_down"


def test_300_refused_clients_that_go_on_sending_hold_up_no_other(server):
    refused = call(kind="text/plain", Content_Length=10**6)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(300)]
        for client in clients:
            client.sendall(refused)
        for client in clients:
            assert client.recv(12, socket.MSG_WAITALL).endswith(b"415")
        for client in clients:
            client.sendall(b"x" * 500)
        assert alone(server)
    until(lambda: len(server.server.server_state.connections) < 5)


def test_a_signal_ends_idle_connections_and_lets_answers_end(monkeypatch):
    monkeypatch.setattr("helpers.serving.streams.wire.LINGER_SECONDS", 0.2)
    gated = GatedModel(1)
    server = Running(make_service(gated, tokenizer(), NAME, **SIZES))
    with connected(server) as new, connected(server) as idle, connected(server) as busy:
        with connected(server) as half, connected(server) as refused:
            idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            half.sendall(b"GET /health HT")
            refused.sendall(call(path="/v1/nothing", Content_Length=10**6))
            busy.sendall(call() + call())
            assert next_answer(idle)[0] == 200
            assert refused.recv(1, socket.MSG_PEEK)
            until(lambda: gated.begun == 2)
            server.server.handle_exit(15, None)
            assert heard(new) == heard(idle) == heard(half) == b""
            assert answer(heard(refused))[0] == 404
            gated.let()
            body, behind = stream(heard(busy))
            assert body.endswith(DONE)
            assert behind == b"", "the server ends, and takes no second call"
            server.close()
    assert is_empty(server)


def test_a_signal_is_not_held_up_by_a_client_that_never_reads():
    """Its stream is given up when the time is over, though the answer has been computed."""
    server = Running(make_service(GatedModel(math.inf), tokenizer(), NAME, **SIZES))
    server.server.config.timeout_graceful_shutdown = 1
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(call({**BODY, "n": 8, "max_tokens": 480}))
        client.recv(1, socket.MSG_PEEK)
        until(lambda: is_empty(server))
        assert server.server.server_state.tasks, "the stream waits for its reader"
        server.close()
    assert is_empty(server)


def test_bytes_behind_the_last_answer_give_their_client_more_time():
    with running() as server, connected(server) as client:
        client.sendall(call(kind="text/plain", Content_Length=10**6))
        assert client.recv(12, socket.MSG_WAITALL).endswith(b"415")
        (connection,) = server.server.server_state.connections
        until(lambda: connection._wire.is_closing() and not connection._wire._heard)
        client.sendall(b"x")
        until(lambda: connection._wire._heard)
