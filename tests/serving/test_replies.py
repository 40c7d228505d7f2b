"""Replies: whole answers and events say the same."""

import json

import pytest

from helpers.serving import (
    Answers,
    ChatBody,
    ChatReply,
    CompletionBody,
    LogprobLists,
    Piece,
    TextReply,
    parsed,
)
from tests.serving.service import run

PIECES = [
    Piece(1, "B"),
    Piece(0, "a"),
    Piece(0, ""),
    Piece(1, "C", None, "stop"),
    Piece(0, "b", None, "length", 4),
]
NAMES = LogprobLists(lambda tokens: "?")


def reply(chat, **fields):
    """A reply to two samples of one prompt of six tokens."""
    needed = {"messages": [{"role": "user", "content": "x"}]} if chat else {"prompt": "x"}
    body = parsed(ChatBody if chat else CompletionBody, json.dumps({**needed, "n": 2, **fields}).encode())
    if chat:
        return ChatReply("name", "model", body, 6, NAMES)
    return TextReply("name", "model", body, 6, NAMES, echoed=["P"] if body.echo else [])


def events(made):
    """The events of a stream, each as its object."""

    async def read():
        answers = Answers(2, 0.0, print)
        for piece in PIECES[1:]:
            answers.deliver(piece)
        return b"".join([ready async for ready in made.events(PIECES[0], answers)])

    *lines, done, rest = run(read()).decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize("chat", [False, True])
def test_whole(chat):
    made = reply(chat)
    for piece in PIECES:
        made.take(piece)
    whole = made.whole()
    texts = [c["message"]["content"] if chat else c["text"] for c in whole["choices"]]
    assert texts == ["ab", "BC"]
    assert [c["finish_reason"] for c in whole["choices"]] == ["length", "stop"]
    assert whole["usage"] == {
        "prompt_tokens": 6, "completion_tokens": 5, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 4},
    }  # fmt: skip


@pytest.mark.parametrize("chat", [False, True])
def test_events(chat):
    options = {"include_usage": True}
    found = events(reply(chat, stream=True, stream_options=options, **({} if chat else {"echo": True})))
    told = [choice for event in found for choice in event["choices"]]
    texts = [c["delta"].get("content", "") if chat else c["text"] for c in told]
    assert texts == (["", "", "B", "a", "C", "b"] if chat else ["P", "P", "B", "a", "C", "b"])
    assert [c["finish_reason"] for c in told[-2:]] == ["stop", "length"]
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["completion_tokens"] == 5
    assert all("usage" not in event for event in found[:-1])


@pytest.mark.parametrize("chat", [False, True])
def test_events_written_in_parts_are_those_written_at_once(chat):
    texts = ["a", 'say "text"', "\\n\n", "é\u2028\U0001f600", '", "text": "', "{}"]
    pieces = [Piece(i % 2, text) for i, text in enumerate(texts)]
    made = reply(chat, stream=True)

    async def read():
        answers = Answers(2, 0.0, print)
        for piece in (*pieces[1:], Piece(0, "", None, "stop"), Piece(1, "", None, "stop")):
            answers.deliver(piece)
        return b"".join([ready async for ready in made.events(pieces[0], answers)])

    found = run(read()).decode().split("\n\n")[2 * chat : 2 * chat + len(texts)]
    for event, piece in zip(found, pieces, strict=True):
        end = {"logprobs": None, "finish_reason": None}
        text = {"delta": {"content": piece.text}} if chat else {"text": piece.text}
        whole = {**made.head, "object": made.event_name, "choices": [{"index": piece.choice, **text, **end}]}
        assert event == f"data: {json.dumps(whole)}"
