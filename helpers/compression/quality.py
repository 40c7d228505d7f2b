"""What a changed model has lost, measured on fixed texts against the model that it was made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.model.batch import FlatBatch
from helpers.model.decoder import DecoderLM


@dataclass(frozen=True)
class Quality:
    """How far a model's next-token distributions are from those of the reference, over all tokens of the texts."""

    divergence: float
    """Mean Kullback-Leibler divergence from the reference's distribution, in nats a token; 0 for equal ones."""
    agreement: float
    """Share of tokens at which both models hold the same token for the likeliest."""
    perplexity: float
    """Exponential of the mean negative log-likelihood of the texts' own next tokens."""

    def __str__(self) -> str:
        """Return the three numbers, to digits that do not depend on the processor."""
        perplexity = f"{self.perplexity:.3g}" if self.perplexity < 1000 else "over 1000"
        return f"KL {self.shown()}, top-1 {self.agreement:.0%}, perplexity {perplexity}"

    def shown(self, digits: int = 2) -> str:
        """Return the divergence to some significant digits; below 0.0001 as zero.

        Weights of few bits are the same numbers on every processor. Activations are not: a sum in another order
        may round to the next int8 number, so that one digit is all that int8 activations allow.
        """
        return "0" if self.divergence < 1e-4 else f"{self.divergence:.{digits}g}"


class Yardstick:
    """Fixed texts and a reference model's distributions over them, computed once."""

    def __init__(self, reference: DecoderLM, texts: Sequence[Sequence[int]]):
        """Compute the reference. Raises ValueError for a text of less than two tokens, or no text."""
        if not texts or min(map(len, texts)) < 2:
            raise ValueError("a yardstick needs texts of two tokens or more")
        self.texts = [list(text) for text in texts]
        self._reference = [_log_probabilities(reference, text) for text in self.texts]

    @property
    def num_tokens(self) -> int:
        """Return the tokens of all texts."""
        return sum(map(len, self.texts))

    def measure(self, model: DecoderLM) -> Quality:
        """Return a model's quality; the reference itself has divergence 0 and agreement 1."""
        divergence = agreement = likelihood = 0.0
        for text, expected in zip(self.texts, self._reference, strict=True):
            found = _log_probabilities(model, text)
            divergence += float((expected.exp() * (expected - found)).sum())
            agreement += float((expected.argmax(-1) == found.argmax(-1)).sum())
            likelihood -= float(found[:-1].gather(1, torch.tensor(text[1:]).unsqueeze(1)).sum())
        predicted = self.num_tokens - len(self.texts)
        tokens = self.num_tokens
        return Quality(max(0.0, divergence / tokens), agreement / tokens, math.exp(likelihood / predicted))


def _log_probabilities(model: DecoderLM, text: list[int]) -> Tensor:
    """Return the logarithms of the next token's probabilities after each token, `[T, vocab]`, on the CPU."""
    logits: Tensor = model(FlatBatch.pack([text]), logits="all")
    return logits.log_softmax(-1).cpu()
