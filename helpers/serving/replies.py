"""What clients get: whole answers as one object, or events of a stream."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from helpers.serving.answers import Answers, Piece
from helpers.serving.bodies import ChatBody, CompletionBody, StreamOptions
from helpers.serving.errors import ApiError
from helpers.serving.logprob_lists import LogprobLists


class Reply:
    """Gather the pieces of one call; write them as `whole()`, or one event after the other.

    Subclasses say how completions and chats differ.
    """

    object_name = event_name = ""

    def __init__(
        self, name: str, model: str, body: CompletionBody | ChatBody, prompt_tokens: int, names: LogprobLists
    ):
        """Begin without pieces; `names` writes tokens as text."""
        self.head: dict[str, Any] = {"id": name, "created": int(time.time()), "model": model}
        self._body, self._prompt_tokens, self._names = body, prompt_tokens, names
        self._options = body.stream_options or StreamOptions()
        self._completion_tokens = self._cached_tokens = 0
        self._choices: dict[int, list[Piece]] = {}
        self._frames: dict[int, tuple[str, str]] = {}

    def take(self, piece: Piece) -> None:
        """Count a piece, and keep the piece where the answer is sent as a whole."""
        self._completion_tokens += 1
        self._cached_tokens += piece.cached_tokens
        if not self._body.stream:
            self._choices.setdefault(piece.choice, []).append(piece)

    def usage(self) -> dict[str, Any]:
        """Return the tokens of prompts and answers so far."""
        prompt, answer = self._prompt_tokens, self._completion_tokens
        counts = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        return {**counts, "prompt_tokens_details": {"cached_tokens": self._cached_tokens}}

    def whole(self) -> dict[str, Any]:
        """Return the answer as one object."""
        choices = [self._whole_choice(index, pieces) for index, pieces in sorted(self._choices.items())]
        return {**self.head, "object": self.object_name, "choices": choices, "usage": self.usage()}

    async def events(self, first: Piece, answers: Answers) -> AsyncIterator[bytes]:
        """Yield the answer as server-sent events; an error is the last event before `[DONE]`.

        Events that are ready at the same time are yielded as one.
        """
        events = [self._event([begin]) for begin in self._begin()]
        pieces = [first]
        try:
            while pieces:
                events += map(self._told, pieces)
                if answers.left and (ready := "".join(events)):
                    yield ready.encode()
                    events.clear()
                pieces = await answers.some()
            if self._options.include_usage:
                events.append(self._event([], True))
        except ApiError as error:
            events.append(_sse(error.body()))
        yield "".join([*events, "data: [DONE]\n\n"]).encode()

    def _told(self, piece: Piece) -> str:
        """Count a piece; return its event, or an empty text where the piece tells nothing."""
        self.take(piece)
        usage, more = self._options.continuous_usage_stats, piece.finish_reason or piece.logprobs is not None
        if more or (usage and piece.text):
            return self._event([self._next(piece)], usage)
        if not piece.text:
            return ""
        before, behind = self._frame(piece.choice)
        return f"{before}{json.dumps(piece.text)}{behind}"

    def _frame(self, choice: int) -> tuple[str, str]:
        """Return what stands around the text in the events of an answer that tell nothing but text.

        Nearly all events of an answer differ in their text alone, so the rest is written once.
        """
        if choice not in self._frames:
            event = self._event([self._next(Piece(choice, "text"))])
            before, _, behind = event.rpartition('"text"')
            self._frames[choice] = before, behind
        return self._frames[choice]

    def _event(self, choices: list[dict[str, Any]], usage: bool = False) -> str:
        """Return one event."""
        told = {"usage": self.usage()} if usage else {}
        return _sse({**self.head, "object": self.event_name, "choices": choices, **told})

    def _begin(self) -> Iterator[dict[str, Any]]:
        """Yield the choices of the events that come before the first piece."""
        raise NotImplementedError

    def _next(self, piece: Piece) -> dict[str, Any]:
        """Return the choice of a piece's event."""
        raise NotImplementedError

    def _whole_choice(self, index: int, pieces: list[Piece]) -> dict[str, Any]:
        """Return one whole answer."""
        raise NotImplementedError


class ChatReply(Reply):
    """The answer to `/v1/chat/completions`."""

    object_name, event_name = "chat.completion", "chat.completion.chunk"

    def _begin(self) -> Iterator[dict[str, Any]]:
        for index in range(self._body.n):
            yield {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}

    def _next(self, piece: Piece) -> dict[str, Any]:
        delta = {"content": piece.text} if piece.text else {}
        return {"index": piece.choice, "delta": delta, **self._end([piece])}

    def _whole_choice(self, index: int, pieces: list[Piece]) -> dict[str, Any]:
        text = "".join(piece.text for piece in pieces)
        return {"index": index, "message": {"role": "assistant", "content": text}, **self._end(pieces)}

    def _end(self, pieces: list[Piece]) -> dict[str, Any]:
        """Return what stands behind the text."""
        told = [piece.logprobs for piece in pieces if piece.logprobs is not None]
        content = [entry for one in told for entry in self._names.of_chat(one)]
        logprobs = {"content": content} if told else None
        return {"logprobs": logprobs, "finish_reason": pieces[-1].finish_reason}


class TextReply(Reply):
    """The answer to `/v1/completions`."""

    object_name = event_name = "text_completion"

    def __init__(self, *arguments: Any, echoed: list[str] | None = None):
        """Take what `Reply` takes, and the prompts' texts where they are echoed."""
        super().__init__(*arguments)
        self._echoed = echoed or []
        self._offsets: dict[int, int] = {}

    def _begin(self) -> Iterator[dict[str, Any]]:
        for place, text in enumerate(self._echoed):
            for sample in range(self._body.n):
                index = place * self._body.n + sample
                yield {"index": index, "text": text, "logprobs": None, "finish_reason": None}

    def _next(self, piece: Piece) -> dict[str, Any]:
        return {"index": piece.choice, "text": piece.text, **self._end([piece])}

    def _whole_choice(self, index: int, pieces: list[Piece]) -> dict[str, Any]:
        before = self._echoed[index // self._body.n] if self._echoed else ""
        text = before + "".join(piece.text for piece in pieces)
        return {"index": index, "text": text, **self._end(pieces)}

    def _end(self, pieces: list[Piece]) -> dict[str, Any]:
        """Return what stands behind the text."""
        lists: dict[str, list[Any]] | None = None
        for piece in pieces:
            if piece.logprobs is None:
                continue
            offset = self._offsets.get(piece.choice, 0)
            self._offsets[piece.choice] = offset + self._names.num_characters(piece.logprobs.token_id)
            new = self._names.of_text(piece.logprobs, offset)
            lists = new if lists is None else {name: lists[name] + new[name] for name in new}
        return {"logprobs": lists, "finish_reason": pieces[-1].finish_reason}


def _sse(fields: dict[str, Any]) -> str:
    """Return an object as a server-sent event."""
    return f"data: {json.dumps(fields)}\n\n"
