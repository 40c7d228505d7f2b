"""A real cluster of Ray on this machine: answers, and replicas killed under load. In a part of the tests of its own.

`COURSE_RAY_TESTS=1` runs these tests; nothing else should run beside them.
"""

import asyncio
import os
import random
import signal
import time
from functools import partial

import pytest

pytest.importorskip("ray", reason="Ray is in .venv-serve alone: course.py serve --replicas makes it")

from helpers.replicas.on_ray import RayGroup, deploy, start_ray, stop
from tests.replicas.on_ray.support import make
from tests.serving.service import NAME, alone, request
from tools.notebooks import ROOT

KILLS, SECONDS = 10, 90

if os.environ.get("COURSE_RAY_TESTS") != "1":
    pytest.skip("Ray needs the machine for itself: COURSE_RAY_TESTS=1 starts it", allow_module_level=True)


@pytest.fixture(scope="module")
def group():
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        start_ray()
    except RuntimeError as error:
        stop()
        pytest.skip(f"{error}")
    made = RayGroup(handle := deploy(partial(make, 0.02), 3, "bounded-prefix", (128, 8)), 64)
    made.handle = handle
    yield made
    stop()


def processes():
    """The processes of the replicas that live, as Ray's own table has them."""
    from ray._private.state import actors

    return [
        actor["Pid"] for actor in actors().values()
        if actor["State"] == "ALIVE" and "EngineActor" in actor["ActorClassName"]
    ]  # fmt: skip


async def pieces_of(answers):
    """The tokens, the text, and why the answer ended."""
    pieces = [piece async for piece in answers]
    assert [piece.finish_reason is not None for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    return [piece.token_id for piece in pieces], "".join(piece.text for piece in pieces)


def test_answers_are_as_generate_gives_them(group):
    assert group.handle.serves.remote().result(timeout_s=60).model == NAME

    async def call():
        calls = [group.submit([request(f"a{i}", f"Prompt {i}", 8)]) for i in range(8)]
        return await asyncio.wait_for(asyncio.gather(*map(pieces_of, calls)), 60)

    expected = [alone(f"Prompt {i}", 8) for i in range(8)]
    assert asyncio.run(call()) == [(one.token_ids, one.answer) for one in expected]
    assert group.num_answers == 0


def test_replicas_killed_under_load_lose_and_double_nothing(group, capsys):
    """Eight readers ask without a pause while replicas are killed: each answer is whole, greedy or drawn."""
    drawn, ended, killed, kinds = random.Random(1), [], [], [{}, dict(temperature=1.0, top_k=8, seed=5)]

    async def ask(name, i, kind):
        return await pieces_of(group.submit([request(name, f"Prompt {i}", 30, **kinds[kind])]))

    async def before():
        return {(i, kind): await ask(("first", i, kind), i, kind) for i in range(3) for kind in (0, 1)}

    async def reader(name):
        count = 0
        while (len(killed) < KILLS and time.monotonic() < begun + SECONDS) or count == 0:
            i, kind = drawn.randrange(3), drawn.randrange(2)
            found = await ask((name, count), i, kind)
            pairs = enumerate(zip(found[0], expected[i, kind][0], strict=False))
            differ = next((place for place, (one, other) in pairs if one != other), None)
            assert found == expected[i, kind], (kind, differ, len(found[0]), found[0], expected[i, kind][0])
            ended.append(name)
            count += 1

    async def killer():
        while len(killed) < KILLS and time.monotonic() < begun + SECONDS:
            await asyncio.sleep(drawn.uniform(0.2, 0.8))
            living = [pid for pid in await asyncio.to_thread(processes) if pid not in killed]
            if len(living) > 1:
                killed.append(drawn.choice(living))
                os.kill(killed[-1], signal.SIGKILL)

    async def everyone():
        await asyncio.wait_for(asyncio.gather(killer(), *map(reader, range(8))), SECONDS + 60)

    expected = asyncio.run(before())
    assert [expected[i, 0][1] for i in range(3)] == [alone(f"Prompt {i}", 30).answer for i in range(3)]
    begun = time.monotonic()
    asyncio.run(everyone())
    with capsys.disabled():
        print(
            f"\n{len(killed)} replicas killed, {len(ended)} answers whole, in {time.monotonic() - begun:.0f} s"
        )
    assert len(killed) == len(set(killed)) >= 1
    assert group.num_answers == 0


def test_less_than_one_replica_is_refused():
    with pytest.raises(ValueError, match="replicas must be 1 or more, got 0"):
        deploy(make, 0)
