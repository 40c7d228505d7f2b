"""One engine in an actor, without Ray around it."""

import pytest

pytest.importorskip("ray", reason="Ray is in .venv-serve alone: course.py serve --replicas makes it")

from helpers.engine import Request
from helpers.replicas.on_ray import EngineActor
from helpers.serving import BadRequest
from tests.replicas.on_ray.support import make
from tests.serving.service import NAME, alone, request, run, until


def test_it_yields_pieces_and_errors_and_cancels_for_a_caller_that_leaves():
    actor = EngineActor(make)
    loop = actor._service.loop

    async def call():
        text = "".join([piece.text async for piece in actor.generate(request("a"), 1)])
        (error,) = [item async for item in actor.generate(Request("long", [1] * 500, 100), 1)]
        leaving = actor.generate(request("b", max_tokens=400, ignore_eos=True), 2)
        await anext(leaving)
        await leaving.aclose()
        return text, error, await actor.serves()

    text, error, serves = run(call())
    assert text == alone("Hello there", 8).answer
    assert isinstance(error, BadRequest)
    assert serves.model == NAME
    until(lambda: loop.num_answers == 0)
    actor.check_health()
    loop.close()
    with pytest.raises(RuntimeError, match="thread has ended"):
        actor.check_health()
    (error,) = run(_all(actor.generate(request("late"), 1)))
    assert "takes no more requests" in str(error)


async def _all(items):
    return [item async for item in items]
