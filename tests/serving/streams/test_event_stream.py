"""A response of events: sent to its end, or given up when the client leaves."""

import asyncio

from helpers.serving import Answers, EventStream, Piece
from tests.serving.service import run


async def told(answers):
    """A piece's text for each piece."""
    async for piece in answers:
        yield piece.text.encode()


def sent(pieces, leaves):
    """What a client got, and how often its answers were cancelled."""

    async def call():
        cancelled, messages, left = [], [], asyncio.Event()
        answers = Answers(1, 0.0, cancelled.append)
        for piece in pieces:
            answers.deliver(piece)
        if leaves:
            left.set()

        async def receive():
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            messages.append(message)

        await EventStream(told(answers), answers)({"type": "http", "http_version": "1.1"}, receive, send)
        return [message.get("body") for message in messages], len(cancelled)

    return run(call())


def test_events_are_sent_to_the_end():
    assert sent([Piece(0, "a"), Piece(0, "b", None, "stop")], leaves=False) == ([None, b"a", b"b", b""], 0)


def test_a_client_that_leaves_cancels_once():
    assert sent([Piece(0, "a")], leaves=True)[1] == 1
