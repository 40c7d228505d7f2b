"""Log-probabilities in the two forms of OpenAI's API: one list of objects for chats, four lists for texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from helpers.engine.request import TokenLogprobs

LEAST = -9999.0
"""What stands for the logarithm of 0, which JSON cannot say; OpenAI's own number."""


class LogprobLists:
    """Write log-probabilities with the tokens' texts.

    A token that is no whole characters is written `token_id:123`, so that two such tokens keep two names.
    """

    def __init__(self, text_of: Callable[[Sequence[int]], str]):
        """Take the function that gives a list of tokens its text."""
        self._text_of = text_of
        self._names: dict[int, tuple[str, list[int] | None]] = {}

    def of_chat(self, entry: TokenLogprobs) -> list[dict[str, Any]]:
        """Return the value of `logprobs.content` for one token."""
        top = [self._object(token, logprob) for token, logprob in entry.top]
        return [{**self._object(entry.token_id, entry.logprob), "top_logprobs": top}]

    def of_text(self, entry: TokenLogprobs, offset: int) -> dict[str, list[Any]]:
        """Return the value of `logprobs` for one token whose text begins at character `offset`."""
        top = {self.name(token): max(logprob, LEAST) for token, logprob in entry.top}
        return {
            "tokens": [self.name(entry.token_id)],
            "token_logprobs": [max(entry.logprob, LEAST)],
            "top_logprobs": [top],
            "text_offset": [offset],
        }

    def name(self, token: int) -> str:
        """Return a token's text, or its number where the token is no whole characters."""
        return self._named(token)[0]

    def num_characters(self, token: int) -> int:
        """Return the characters of a token; 0 where the token is no whole characters."""
        name, raw = self._named(token)
        return 0 if raw is None else len(name)

    def _object(self, token: int, logprob: float) -> dict[str, Any]:
        """Return one token as chats have it."""
        name, raw = self._named(token)
        return {"token": name, "logprob": max(logprob, LEAST), "bytes": raw}

    def _named(self, token: int) -> tuple[str, list[int] | None]:
        """Return a token's name, and its bytes where the name is its text. A vocabulary bounds the memory."""
        if token not in self._names:
            text = self._text_of([token])
            whole = "\ufffd" not in text
            self._names[token] = (text, list(text.encode())) if whole else (f"token_id:{token}", None)
        return self._names[token]
