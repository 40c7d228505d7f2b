"""EngineLoop: answers equal to `generate`, cancellation, failure of one alone, the queue's bound, the end."""

import asyncio
import random

import pytest

from helpers.caches import PagedKVCache
from helpers.engine import ContinuousBatcher, FirstComeFirstServed, Request
from helpers.serving import BadRequest, Busy, Draining, EngineLoop, Observer, RequestFailed
from tests.serving.service import GatedModel, SlowModel, alone, gather, request, run, tokenizer, until


def engine_loop(
    max_waiting=64, slow=0.0, poison=None, policy="fcfs", pages=128, seats=8, observer=None, model=None
):
    used = model or SlowModel(slow, poison)
    engine = ContinuousBatcher(
        used, PagedKVCache.for_model(used, pages, 8), seats, 128, policy=policy, log=1, tokenizer=tokenizer()
    )
    return EngineLoop(engine, max_waiting, observer)


def test_many_calls_at_once_are_each_as_generate_answers():
    loop, prompts = engine_loop(), [f"Prompt {i} " + "word " * (i % 7) for i in range(40)]

    async def all_of_them():
        calls = [loop.submit([request(i, prompt, 5 + i % 9)]) for i, prompt in enumerate(prompts)]
        return await asyncio.gather(*map(gather, calls))

    for i, (texts, reasons) in enumerate(run(all_of_them())):
        expected = alone(prompts[i], 5 + i % 9)
        assert (texts, reasons) == ([expected.answer], [expected.finish_reason])
    assert (loop.engine.cache.used_pages, loop.num_answers, loop.engine.finished) == (0, 0, {})
    loop.close()


def test_samples_and_several_prompts_are_one_call():
    loop = engine_loop()

    async def call():
        requests = [request(("x", i), prompt, 6) for i, prompt in enumerate(("One", "Two"))]
        return await gather(loop.submit(requests, 2))

    texts, reasons = run(call())
    one, two = alone("One", 6).answer, alone("Two", 6).answer
    assert texts == [one, one, two, two]
    assert len(reasons) == 4
    loop.close()


def test_a_closed_call_frees_its_pages_and_disturbs_nobody():
    loop = engine_loop(slow=0.01)

    async def call():
        leaving, staying = loop.submit([request("a", "Go", 200)], 3), loop.submit([request("b", "Stay", 30)])
        for _ in range(5):
            await anext(leaving)
        leaving.close()
        leaving.close()
        with pytest.raises(StopAsyncIteration):
            await anext(leaving)
        return await gather(staying)

    assert run(call())[0] == [alone("Stay", 30).answer]
    until(lambda: loop.num_answers == 0)
    assert loop.engine.cache.used_pages == 0
    loop.close()


def test_random_leavers_leave_nothing_behind():
    loop, drawn = engine_loop(max_waiting=400), random.Random(3)

    async def one(i):
        answers = loop.submit([request(i, f"Number {i % 5}", drawn.randint(1, 40))], drawn.randint(1, 3))
        for _ in range(drawn.randint(0, 30)):
            if await anext(answers, None) is None:
                break
        answers.close()

    async def everyone():
        await asyncio.gather(*map(one, range(120)))

    run(everyone())
    until(lambda: loop.num_answers == 0)
    until(lambda: loop.engine.cache.used_pages == 0)
    assert not loop.engine.running
    assert not loop.engine.finished
    loop.close()


def test_a_request_that_fails_fails_alone():
    poison = tokenizer()("bad")["input_ids"][0]
    loop = engine_loop(poison=poison)

    async def call():
        good = loop.submit([request("a", "Fine", 12)])
        bad = loop.submit([request("b", "bad", 12), request("c", "Fine", 200)])
        with pytest.raises(RequestFailed, match="this token cannot be computed"):
            await gather(bad)
        return await gather(good)

    assert run(call())[0] == [alone("Fine", 12).answer]
    until(lambda: loop.num_answers == 0)
    assert loop.engine.cache.used_pages == 0
    loop.close()


def test_what_the_engine_refuses_is_told_and_undone():
    loop = engine_loop()

    async def call():
        long = Request("long", [1] * 500, 100)
        with pytest.raises(BadRequest, match="may need 599 tokens"):
            await gather(loop.submit([request("a"), long], 2))
        return await gather(loop.submit([request("a")]))

    assert run(call())[0] == [alone("Hello there", 8).answer]
    assert loop.num_answers == 0
    loop.close()


def test_above_the_bound_calls_are_refused_until_others_end():
    gated = GatedModel()
    loop = engine_loop(max_waiting=2, seats=2, model=gated)

    async def call():
        taken = [loop.submit([request(i, max_tokens=20)]) for i in range(4)]
        with pytest.raises(Busy, match="4 answers are on their way"):
            loop.submit([request("late")])
        with pytest.raises(BadRequest, match="5 answers were asked for, and 4 are computed at most"):
            loop.submit([request("many")], 5)
        taken.pop().close()
        while loop.num_answers == 4:
            gated.let(1)
            await asyncio.sleep(0.005)
        taken.append(loop.submit([request("late", max_tokens=3)]))
        gated.let()
        return [await gather(answers) for answers in taken]

    assert len(run(call())) == 4
    loop.close()


def test_a_policy_that_raises_ends_what_is_there_and_no_more():
    class Faulty(FirstComeFirstServed):
        broken = True

        def first(self, now):
            if self.broken:
                raise KeyError("no order")
            return super().first(now)

    policy = Faulty()
    loop = engine_loop(policy=policy)

    async def call():
        with pytest.raises(RequestFailed, match="KeyError: 'no order'"):
            await gather(loop.submit([request("a")], 2))
        policy.broken = False
        return await gather(loop.submit([request("a")]))

    assert run(call())[0] == [alone("Hello there", 8).answer]
    loop.close()


class FaultyPush(FirstComeFirstServed):
    """Raises when the request `bad` comes."""

    def push(self, state):
        if state.request.request_id == ("bad", 0):
            raise KeyError("no place")
        super().push(state)


class FaultyLeave(FirstComeFirstServed):
    """Raises when a request leaves the queue."""

    def leave(self, state):
        raise KeyError("no place")


class FaultyObserver(Observer):
    """Raises in one of its methods, behind the second token."""

    def __init__(self, method):
        self.tokens = 0
        setattr(self, method, self.fail)

    def took(self, state, received):
        self.tokens += 1

    def fail(self, *_):
        if self.tokens > 1:
            raise KeyError("no place")


class FaultyTook(Observer):
    """Raises at the first token."""

    def took(self, state, received):
        raise KeyError("no place")


@pytest.mark.parametrize(
    "parts",
    [
        dict(policy=FaultyPush()),
        dict(policy=FaultyLeave()),
        dict(observer=FaultyObserver("passed")),
        dict(observer=FaultyObserver("ended")),
        dict(observer=FaultyTook()),
    ],
    ids=["push", "leave", "passed", "ended", "took"],
)
def test_an_error_outside_of_a_pass_ends_every_call_and_the_thread(parts):
    gated = GatedModel()
    loop = engine_loop(model=gated, **parts)

    async def call():
        first = loop.submit([request("a", max_tokens=400)])
        until(lambda: gated.begun)  # nothing fails before all calls are there
        calls = [first, *(loop.submit([request(name, max_tokens=6)]) for name in ("bad", "behind"))]
        gated.let()
        ends = await asyncio.gather(*map(gather, calls), return_exceptions=True)
        until(lambda: not loop._thread.is_alive())
        with pytest.raises(Draining, match="takes no more requests"):
            loop.submit([request("late")])
        return ends

    for end in run(call()):
        assert isinstance(end, RequestFailed)
        assert "KeyError: 'no place'" in str(end)
    assert (loop.alive, loop.num_answers) == (False, 0)
    loop.close()


def test_draining_takes_no_more_and_lets_the_rest_finish():
    loop = engine_loop(slow=0.01)

    async def call():
        begun = loop.submit([request("a", max_tokens=20)])
        await anext(begun)
        loop.drain(120)
        assert not loop.alive
        with pytest.raises(Draining):
            loop.submit([request("b")])
        return [piece async for piece in begun]

    assert run(call())[-1].finish_reason == "length"
    loop.close()
    loop.close()


def test_what_is_not_ready_in_time_ends_with_an_error():
    gated = GatedModel(passes=1)
    loop = engine_loop(model=gated)

    async def call():
        begun = loop.submit([request("a", max_tokens=400)])
        await anext(begun)
        loop.drain(0.0)
        gated.let()
        with pytest.raises(Draining, match="was not ready in time"):
            await gather(begun)

    run(call())
    assert loop.engine.cache.used_pages == 0
    loop.close()


def test_an_event_loop_that_has_ended_is_not_waited_for():
    loop = engine_loop(slow=0.01)

    async def begin():
        await anext(loop.submit([request("a", max_tokens=400)]))

    run(begin())
    until(lambda: loop.num_answers == 0)
    assert loop.engine.cache.used_pages == 0
    assert loop.alive
    loop.close()


def test_a_negative_bound_is_refused():
    with pytest.raises(ValueError, match="max_waiting must be 0 or more, got -1"):
        engine_loop(max_waiting=-1)
