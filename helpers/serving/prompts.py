"""Texts and chats as prompts: tokens that an engine computes."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from helpers.serving.bodies import CompletionBody, Message, TokenizeBody
from helpers.serving.errors import BadRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Prompts:
    """Turn what clients send into tokens. Threads may share an object: they take turns."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        """Keep a copy of the tokenizer: the engine's thread uses the other one at the same time."""
        self._tokenizer, self._turn = copy.deepcopy(tokenizer), threading.Lock()

    def copy(self) -> Prompts:
        """Return an object with a tokenizer of its own: neither object waits for the other one's turn."""
        with self._turn:
            return Prompts(self._tokenizer)

    def of_text(self, text: str, special: bool = True) -> list[int]:
        """Return a text's tokens, with the tokenizer's own special tokens unless told otherwise."""
        with self._turn:
            return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def of_completion(self, body: CompletionBody) -> list[list[int]]:
        """Return the tokens of each prompt of a completion."""
        given = body.prompt
        if isinstance(given, str):
            return [self.of_text(given)]
        if given and isinstance(given[0], int):
            return [[token for token in given if isinstance(token, int)]]
        return [self.of_text(text) if isinstance(text, str) else self._list(text) for text in given]

    def of_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return a chat's tokens in the model's own format, ready for an answer.

        Raises BadRequest for a chat that the format does not allow, such as one without a question.
        """
        plain = [{"role": message.role, "content": message.text} for message in messages]
        with self._turn:
            try:
                text = self._tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
            except Exception as error:  # a template raises whatever its author or Jinja chose
                raise BadRequest(
                    f"the model's chat template refuses the messages: {error}", "messages"
                ) from error
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def of_tokenize(self, body: TokenizeBody) -> list[int]:
        """Return the tokens that `/tokenize` was asked for. Raises BadRequest without one text."""
        if (body.prompt is None) == (body.messages is None):
            raise BadRequest("give either prompt or messages", "prompt")
        if body.messages is not None:
            return self.of_chat(body.messages)
        return self.of_text(body.prompt or "", body.add_special_tokens)

    def texts_of(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each prompt's tokens."""
        return [self.text_of(tokens) for tokens in prompts]

    def text_of(self, tokens: Sequence[int]) -> str:
        """Return the text of a prompt's tokens."""
        with self._turn:
            return str(self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    @staticmethod
    def _list(tokens: object) -> list[int]:
        """Return tokens as a list."""
        return list(tokens) if isinstance(tokens, list) else []
