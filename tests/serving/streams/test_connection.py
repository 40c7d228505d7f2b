"""The short way to a socket: the same bytes, and every case that must take the long way."""

import asyncio
import json
import socket

import httpx

from helpers.serving.streams import Wire, straight
from tests.serving.service import run, running

BODY = {"prompt": "The rivers", "max_tokens": 12, "temperature": 0, "ignore_eos": True, "stream": True}


class Transport:
    """A transport that keeps what is written."""

    def __init__(self, waiting=0, closing=False):
        self.waiting, self.closing, self.written = waiting, closing, []

    def get_write_buffer_size(self):
        return self.waiting

    def is_closing(self):
        return self.closing

    def write(self, data):
        self.written.append(data)


def sent(transport, message, version="1.1"):
    """What takes the way of ASGI, and what goes straight to the wire."""
    messages = []

    async def send(message):
        messages.append(message)

    state = {} if transport is None else {"transport": Wire(transport, None)}
    run(straight({"state": state, "http_version": version}, send)(message))
    return messages, [] if transport is None else transport.written


def piece(body, more=True):
    """A message with a piece of a body."""
    return {"type": "http.response.body", "body": body, "more_body": more}


def test_a_piece_of_a_body_is_one_chunk():
    assert sent(Transport(), piece(b"x" * 26)) == ([], [b"1a\r\n" + b"x" * 26 + b"\r\n"])


def test_all_else_takes_the_way_of_asgi():
    head = {"type": "http.response.start", "status": 200, "headers": []}
    for message in (head, piece(b""), piece(b"", False), piece(b"end", False)):
        assert sent(Transport(), message) == ([message], [])
    some = piece(b"some")
    assert sent(Transport(waiting=1), some) == ([some], []), "a reader that is behind"
    assert sent(Transport(closing=True), some) == ([some], []), "a reader that has left"
    assert sent(Transport(), some, "1.0") == ([some], []), "a reader without chunks"
    assert sent(None, some) == ([some], []), "another server"


def events(raw):
    """The choices of a stream's events."""
    lines = raw.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: "))["choices"] for line in lines[:-2]]


def test_http_1_0_gets_the_same_events_without_chunks():
    with running() as server:
        chunked = httpx.post(server.url + "/v1/completions", json=BODY, timeout=60)
        assert chunked.headers["Transfer-Encoding"] == "chunked"
        body = json.dumps(BODY)
        head = (
            f"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as wire:
            wire.sendall(f"{head}\r\n\r\n{body}".encode())
            raw = b"".join(iter(lambda: wire.recv(65536), b""))
        head, _, plain = raw.partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert events(plain) == events(chunked.content)


def test_a_connection_serves_one_stream_after_the_other():
    with running() as server, httpx.Client(timeout=60) as client:
        answers = [client.post(server.url + "/v1/completions", json=BODY) for _ in range(3)]
        assert len({str(events(answer.content)) for answer in answers}) == 1
        ports = {answer.extensions["network_stream"].get_extra_info("client_addr") for answer in answers}
        assert len(ports) == 1


def test_a_reader_that_reads_nothing_holds_its_own_answer_alone():
    """Its socket takes some 100 kB; behind that, the stream waits, and others are served."""
    with running() as server:
        body = json.dumps({**BODY, "max_tokens": 480, "n": 8})
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        with socket.socket() as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.connect(("127.0.0.1", server.port))
            wire.sendall(f"{head}\r\nConnection: close\r\n\r\n{body}".encode())
            beside = httpx.post(server.url + "/v1/completions", json=BODY, timeout=60)
            assert len(events(beside.content)) > 1
            raw = b"".join(iter(lambda: wire.recv(65536), b""))
        chunks = raw.partition(b"\r\n\r\n")[2]
        whole = b""
        while chunks:
            size, _, rest = chunks.partition(b"\r\n")
            whole, chunks = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        ends = [choice for found in events(whole) for choice in found if choice["finish_reason"]]
        assert sorted(choice["index"] for choice in ends) == list(range(8))


def test_nothing_is_lost_between_the_two_ways():
    """Pieces that go straight and pieces that wait come in order: both are written to one transport."""

    async def call():
        got = []

        async def handle(reader, _):
            got.append(await reader.read())

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())

        async def send(message):
            writer.transport.write(b"%x\r\n%b\r\n" % (len(message["body"]), message["body"]))
            await writer.drain()

        wire = Wire(writer.transport, asyncio.get_running_loop())
        sender = straight({"state": {"transport": wire}, "http_version": "1.1"}, send)
        for i in range(40):
            await sender(piece(str(i).encode() * 20_000))
        writer.close()
        await writer.wait_closed()
        while not got:
            await asyncio.sleep(0.001)
        server.close()
        return got[0]

    expected = [str(i).encode() * 20_000 for i in range(40)]
    assert run(call()) == b"".join(b"%x\r\n%b\r\n" % (len(body), body) for body in expected)
