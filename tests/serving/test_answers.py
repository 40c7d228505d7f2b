"""Answers: pieces in order, an end for each choice, and one cancellation."""

import asyncio

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


def test_some_pieces_are_all_that_are_there():
    async def call():
        answers = Answers(2, 0.0, print)
        waiting = asyncio.ensure_future(answers.some())
        await asyncio.sleep(0)
        assert not waiting.done()
        for piece in (Piece(0, "a"), Piece(1, "b", None, "stop")):
            answers.deliver(piece)
        assert [piece.text for piece in await waiting] == ["a", "b"]
        answers.deliver(Piece(0, "c"))
        answers.deliver(RequestFailed("broken"))
        assert [piece.text for piece in await answers.some()] == ["c"], "an error waits for its turn"
        with pytest.raises(RequestFailed, match="broken"):
            await answers.some()
        assert await answers.some() == []

    run(call())


def test_a_reader_that_gave_up_waiting_loses_no_piece():
    async def call():
        answers = Answers(1, 0.0, print)
        waiting = asyncio.ensure_future(anext(answers))
        await asyncio.sleep(0)
        waiting.cancel()
        answers.deliver(Piece(0, "a"))
        answers.deliver(Piece(0, "b", None, "stop"))
        return [piece.text async for piece in answers]

    assert run(call()) == ["a", "b"]
