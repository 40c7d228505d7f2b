"""Greedy text generation, one request at a time: the loop that the whole course makes faster."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from helpers.model.batch import FlatBatch
from helpers.model.cache import Cache
from helpers.model.decoder import DecoderLM
from helpers.model.text.answer_text import AnswerText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


CLEAR_MARGIN = 0.05
"""Logit distance under which rounding on another processor may turn a greedy choice."""


@dataclass
class Generation:
    """The result of one request."""

    prompt_ids: list[int]
    token_ids: list[int] = field(default_factory=list)
    """New tokens, the end-of-text token included when the model chose it."""
    margins: list[float] = field(default_factory=list)
    """For each new token: its logit minus the second-best logit."""
    finish_reason: str = "length"
    """Why the answer ends: "stop" after a token of `stop_ids` or at a text of `stop`, else "length"."""
    answer: str = ""
    """The answer in words, up to a text of `stop`; empty where no tokenizer was given."""
    tokens_computed: int = 0
    """Tokens that went through the model, over all passes."""

    @property
    def min_margin(self) -> float:
        """Return the smallest margin of all new tokens, in logits."""
        return min(self.margins)

    def text(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the answer in words, for showing where outputs are compared across machines.

        Raises ValueError when a choice was closer than `CLEAR_MARGIN`: print a verdict instead of such a
        text.
        """
        if self.min_margin <= CLEAR_MARGIN:
            place = self.margins.index(self.min_margin)
            raise ValueError(
                f"token {place} was chosen by {self.min_margin:.3f}, not clearly ({CLEAR_MARGIN}); "
                "another processor may answer differently, so do not show this text"
            )
        return str(tokenizer.decode(self.token_ids, skip_special_tokens=True))


def generate(
    model: DecoderLM,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    cache: Cache | None = None,
    stop_ids: Collection[int] = (),
    on_token: Callable[[int], None] | None = None,
    cached: int = 0,
    at_context_end: Literal["refuse", "cut"] = "refuse",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    stop: Sequence[str] = (),
    ignore_eos: bool = False,
    min_tokens: int = 0,
) -> Generation:
    """Return the greedy continuation of `prompt_ids`: up to `max_new_tokens`, ending early after a token of
    `stop_ids`, or when the text holds a string of `stop`.

    With a cache each pass computes the new tokens only; without a cache, every pass computes the whole text
    again. The cache is fresh, or holds the prompt's first `cached` tokens. `on_token` gets each new token at
    once. With `ignore_eos` the answer goes on after `stop_ids`. Among the first `min_tokens` tokens, none of
    `stop_ids` is chosen and no string of `stop` is looked for.

    Raises ValueError for an empty prompt, a count under 1, or a prompt that is cached wholly: the prompt's
    last token is always computed. Raises ValueError for `stop` without a `tokenizer`, and for `min_tokens`
    above `max_new_tokens`. An answer that cannot fit into the model's positions is refused first, or with
    "cut" ends there. Raises ValueError for logits that are not a number.
    """
    longest = _longest_answer(model, prompt_ids, max_new_tokens, at_context_end)
    if not 0 <= cached < len(prompt_ids) or (cached and cache is None):
        raise ValueError(
            f"of {len(prompt_ids)} prompt tokens {cached} cannot be cached; the last is always computed"
        )
    answer = _answer_text(tokenizer, stop, min_tokens, max_new_tokens)
    result = Generation(list(prompt_ids))
    computed = cached  # tokens that the cache holds
    while True:
        text, place = result.prompt_ids + result.token_ids, len(result.token_ids)
        batch = FlatBatch.pack([text[computed:]], history=[computed], device=model.device)
        may_stop = place >= min_tokens and not ignore_eos
        banned = () if may_stop or ignore_eos else stop_ids
        token, margin = _likeliest(model(batch, cache)[0], banned, place)
        result.token_ids.append(token)
        result.margins.append(margin)
        result.tokens_computed += len(text) - computed
        computed = len(text) if cache is not None else 0
        if on_token is not None:
            on_token(token)
        stops = may_stop and token in stop_ids
        if not stops and answer is not None:
            stops = answer.push(token)
        if stops or place + 1 == longest:
            return _ended(result, stops, answer)


def _longest_answer(model: DecoderLM, prompt_ids: Sequence[int], max_new_tokens: int, at_end: str) -> int:
    """Return the largest number of new tokens; raise ValueError for what does not fit into the model."""
    if not prompt_ids:
        raise ValueError("the prompt is empty; give at least one token")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be 1 or more, got {max_new_tokens}")
    # The last token needs no position: no pass computes it.
    room = model.cfg.max_positions + 1 - len(prompt_ids)
    if room < max_new_tokens and (room < 1 or at_end == "refuse"):
        raise ValueError(
            f"{len(prompt_ids)} prompt tokens and {max_new_tokens} new ones do not fit into the model's "
            f"{model.cfg.max_positions} positions"
        )
    return min(max_new_tokens, room)


def _answer_text(
    tokenizer: PreTrainedTokenizerBase | None, stop: Sequence[str], min_tokens: int, max_new_tokens: int
) -> AnswerText | None:
    """Return an answer's text, none without a tokenizer; raise ValueError for what `generate` refuses."""
    if not 0 <= min_tokens <= max_new_tokens:
        raise ValueError(f"min_tokens must be 0 to max_new_tokens ({max_new_tokens}), got {min_tokens}")
    if isinstance(stop, str):
        raise ValueError(f"stop must be a list of texts, got the text {stop!r:.60}")
    if stop and tokenizer is None:
        raise ValueError("stop texts need a tokenizer; pass tokenizer=")
    return None if tokenizer is None else AnswerText(tokenizer, stop, min_tokens)


def _likeliest(logits: Tensor, banned: Collection[int], place: int) -> tuple[int, float]:
    """Return the likeliest token of `logits [vocab]` that is not banned, and its distance to the second best.

    Raises ValueError for logits that are not a number.
    """
    if left_out := [token for token in banned if 0 <= token < len(logits)]:
        logits = logits.clone()
        logits[left_out] -= math.inf  # not set: a NaN stays one
    best = logits.topk(2)
    if bool(best.values.isnan().any()):
        raise ValueError(f"the logits of new token {place} are not a number (NaN)")
    return int(best.indices[0]), float(best.values[0] - best.values[1])


def _ended(result: Generation, stops: bool, answer: AnswerText | None) -> Generation:
    """Return the result with its reason and its text."""
    if answer is not None:
        stops = answer.finish() or stops
        result.answer = answer.text
    result.finish_reason = "stop" if stops else "length"
    return result


def end_tokens(model: DecoderLM, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return all tokens that end an answer: the checkpoint's, and the tokenizer's own."""
    own = tokenizer.eos_token_id
    return sorted({*model.end_tokens, *([] if own is None else [int(own)])})


def chat_prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """Return the token ids of a one-question conversation in the model's own chat format, ready for an
    answer.
    """
    messages = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
