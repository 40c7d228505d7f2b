"""Tokens as text, piece by piece, without half a character."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_UNFINISHED = "\ufffd"  # what decoders write for bytes that are no character, or no character yet


class Detokeniser:
    """Turn one answer's tokens into text, piece by piece.

    The pieces joined are `tokenizer.decode(tokens, skip_special_tokens=True,
    clean_up_tokenization_spaces=False)` of all tokens, whatever the tokens. No piece is taken back.

    A piece waits where a later token could change the text. A token may hold the first bytes of a character
    only: that character waits. In a sentencepiece vocabulary with byte fallback (`<0xE2>`), a run of such
    tokens is one unit. If the run is no valid UTF-8, the decoder replaces each byte. So a run waits for its end.

    Only the last few tokens are decoded anew. One token before these stays as context: the first token of
    a text may lose its leading space, and the tokens after it must not.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        """Begin without tokens."""
        self._tokenizer = tokenizer
        self._skipped = _special_tokens(tokenizer)
        self._context: list[int] = []  # the last token whose text is settled
        self._before = 0  # characters of the context's own text
        self._open: list[int] = []  # tokens whose text is not settled
        self._sent = 0  # characters of the open tokens that were given out
        self._in_bytes = False  # whether the last open token is a byte

    def push(self, token: int) -> str:
        """Return the text that is settled with this token, often one word; an empty string if none is.

        Special tokens and tokens that the tokenizer does not know have no text, as in `decode`.
        """
        name = None if token in self._skipped else self._tokenizer.convert_ids_to_tokens(token)
        if name is None:
            return ""
        self._open.append(token)
        self._in_bytes = _BYTE.fullmatch(str(name)) is not None
        if self._in_bytes:
            return ""
        text = self._decoded()
        if text.endswith(_UNFINISHED):
            return self._give_out(text, len(text) - 1)
        piece = self._give_out(text, len(text))
        self._settle(token)
        return piece

    def finish(self) -> str:
        """Return the text that still waits: no token follows."""
        if not self._open:
            return ""
        text = self._decoded()
        return self._give_out(text, len(text))

    def _decoded(self) -> str:
        """Return the text of the open tokens."""
        return self._text(self._context + self._open)[self._before :]

    def _give_out(self, text: str, end: int) -> str:
        """Return the characters up to `end` that were not given out yet."""
        piece = text[self._sent : end]
        self._sent = max(self._sent, end)
        return piece

    def _settle(self, token: int) -> None:
        """Make `token`, the last open one, the context of what follows."""
        self._context, self._open, self._sent = [token], [], 0
        self._before = len(self._text(self._context))

    def _text(self, tokens: list[int]) -> str:
        """Return the tokens' text, as the tokenizer decodes it."""
        return str(self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False))


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that `decode` leaves out when it skips special tokens."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset({*tokenizer.all_special_ids, *(token for token, entry in added if entry.special)})
