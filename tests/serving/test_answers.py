"""Answers: pieces in order, an end for each choice, and one cancellation."""

import pytest

from helpers.serving import Answers, Piece, RequestFailed
from tests.serving.service import run


def test_pieces_come_until_every_choice_has_ended():
    async def call():
        cancelled = []
        answers = Answers(2, 0.0, cancelled.append)
        for piece in (Piece(0, "a"), Piece(1, "b", None, "stop"), Piece(0, "c", None, "length")):
            answers.deliver(piece)
        texts = [piece.text async for piece in answers]
        answers.close()
        return texts, cancelled

    assert run(call()) == (["a", "b", "c"], [])


def test_closing_cancels_once_and_an_error_ends_all():
    async def call():
        cancelled = []
        answers = Answers(1, 0.0, cancelled.append)
        answers.close()
        answers.close()
        assert cancelled == [answers]
        assert await anext(answers, None) is None
        failing = Answers(2, 0.0, cancelled.append)
        failing.deliver(RequestFailed("broken"))
        with pytest.raises(RequestFailed, match="broken"):
            await anext(failing)
        assert await anext(failing, None) is None
        failing.close()
        assert cancelled == [answers]

    run(call())
