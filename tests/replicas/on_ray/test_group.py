"""The actors' code without a cluster: Ray's local mode runs the deployment in this process, and asks no router."""

import asyncio
from functools import partial

import pytest

pytest.importorskip("ray", reason="Ray is in .venv-serve alone: course.py serve --replicas makes it")

from helpers.engine import Request
from helpers.replicas.on_ray import RayGroup, deploy
from helpers.serving import BadRequest, Busy, Draining
from tests.replicas.on_ray.support import make
from tests.serving.service import alone, gather, request, run, until


@pytest.fixture(scope="module")
def handle():
    return deploy(partial(make, 0.003), 1, local=True)


def test_answers_are_those_of_the_engine(handle):
    here = RayGroup(handle, 64)

    async def call():
        calls = [here.submit([request(f"a{i}", f"Prompt {i}", 6)], 1 + i % 2) for i in range(6)]
        assert here.num_answers == 9
        return await asyncio.gather(*map(gather, calls))

    for i, (texts, _) in enumerate(run(call())):
        assert texts == [alone(f"Prompt {i}", 6).answer] * (1 + i % 2)
    assert (here.num_answers, here.tokens_asked) == (0, 0)


def test_a_reader_that_leaves_is_cancelled_in_the_actor(handle):
    here = RayGroup(handle, 64)

    async def call():
        answers = here.submit([request("leaving", "Go", 400, ignore_eos=True)])
        await anext(answers)
        answers.close()
        await asyncio.sleep(0.1)

    run(call())
    until(lambda: here.num_answers == 0)


def test_errors_come_as_themselves(handle):
    here = RayGroup(handle, 4)

    async def call():
        with pytest.raises(BadRequest, match="may need 599 tokens"):
            await gather(here.submit([Request("long", [1] * 500, 100)]))
        with pytest.raises(BadRequest, match="5 answers were asked for, and 4 are computed at most"):
            here.submit([request("many")], 5)
        taken = here.submit([request("four", max_tokens=30)], 4)
        with pytest.raises(Busy, match="4 answers are on their way"):
            here.submit([request("late")])
        here.drain(0.0)
        with pytest.raises(Draining, match="was not ready in time"):
            await gather(taken)
        with pytest.raises(Draining, match="takes no more requests"):
            here.submit([request("late")])

    run(call())
    assert not here.alive
    here.close()
