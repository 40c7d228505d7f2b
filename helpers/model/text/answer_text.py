"""The text of one answer, as a reader of the stream may see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from helpers.model.text.detokeniser import Detokeniser
from helpers.model.text.stop_strings import StopStrings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class AnswerText:
    """Keep the text of an answer while its tokens come; the text ends before the first stop string.

    The text only grows, by whole characters, and never holds a part of a stop string. A reader of a stream
    remembers how many characters it has, and takes the rest.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stop: Sequence[str] = (),
        min_tokens: int = 0,
        answered: Sequence[int] = (),
    ):
        """Begin with the text of `answered`, the tokens that the answer has already.

        Stop strings are looked for in the text that comes after the first `min_tokens` tokens. Special tokens
        have no text, so that no stop string can name one. Raises ValueError for an empty stop string, and for
        `answered` tokens whose text holds a stop string.
        """
        self._detokeniser, self._stop = Detokeniser(tokenizer), StopStrings(stop)
        self._tokens, self._min_tokens, self.text = 0, min_tokens, ""
        for token in answered:
            if self.push(token):
                raise ValueError(
                    f"the answer has ended already, with the stop string {self._stop.found!r:.60}"
                )

    def push(self, token: int) -> bool:
        """Add a token; return whether a stop string ends the text with it."""
        self._tokens += 1
        piece = self._detokeniser.push(token)
        if self._tokens <= self._min_tokens:
            self.text += piece
            return False
        self.text += self._stop.push(piece)
        return self._stop.found is not None

    def finish(self) -> bool:
        """Add what was held back, since no token follows; return whether a stop string ends the text."""
        if self._stop.found is None:
            self.text += self._stop.push(self._detokeniser.finish()) + self._stop.finish()
        return self._stop.found is not None
