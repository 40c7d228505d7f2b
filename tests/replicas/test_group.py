"""ReplicaGroup: answers as one engine gives them, routed as the router says, refused and ended as one loop does."""

import asyncio

import pytest

from helpers.engine import BoundedPrefixRouter, Request, least_requests, least_tokens
from helpers.replicas import ReplicaGroup
from helpers.serving import BadRequest, Busy, Draining, RequestFailed
from tests.replicas.support import group, is_empty, loop
from tests.serving.service import GatedModel, SlowModel, alone, gather, request, run, tokenizer, until


def test_many_calls_at_once_are_each_as_generate_answers():
    here, prompts = group(None, None, None), [f"Prompt {i} " + "word " * (i % 7) for i in range(30)]

    async def all_of_them():
        calls = [here.submit([request(i, prompt, 5 + i % 9)]) for i, prompt in enumerate(prompts)]
        assert [replica.num_requests for replica in here.replicas] == [10, 10, 10]
        assert here.tokens_asked == sum(
            len(request(0, prompt).prompt_ids) + 5 + i % 9 for i, prompt in enumerate(prompts)
        )
        return await asyncio.gather(*map(gather, calls))

    for i, answer in enumerate(run(all_of_them())):
        expected = alone(prompts[i], 5 + i % 9)
        assert answer == ([expected.answer], [expected.finish_reason])
    assert is_empty(here)
    here.close()
    here.close()


def test_samples_and_several_prompts_are_one_call():
    here = group(None, None)

    async def call():
        requests = [request(("x", i), prompt, 6) for i, prompt in enumerate(("One", "Two", "Three"))]
        answers = here.submit(requests, 2)
        assert [replica.num_requests for replica in here.replicas] == [4, 2], (
            "samples of a prompt stay together"
        )
        return await gather(answers)

    texts, reasons = run(call())
    assert texts == [alone(prompt, 6).answer for prompt in ("One", "One", "Two", "Two", "Three", "Three")]
    assert len(reasons) == 6
    assert is_empty(here)
    here.close()


def test_the_router_reads_the_caches_of_the_engines_themselves():
    here = group(None, None, router=BoundedPrefixRouter(10**6))
    first, other = (
        "The same long beginning of two questions, which fills some pages: ",
        "Quite another text. " * 5,
    )

    async def one(name, prompt):
        answers = here.submit([request(name, prompt, 4)])
        place = [replica.num_requests for replica in here.replicas].index(1)
        await gather(answers)
        return place

    async def calls():
        places = [await one(i, text) for i, text in enumerate((first + "a", first + "b", other, first + "c"))]
        cached = here.cached_tokens(request(0, first + "d").prompt_ids)
        assert cached == max(
            replica.cached_tokens(request(0, first + "d").prompt_ids) for replica in here.replicas
        )
        assert cached >= 8
        return places

    assert run(calls()) == [0, 0, 0, 0], "of idle engines the first, and what is cached stays"
    here.close()


def test_a_closed_call_frees_its_pages_at_all_replicas_and_disturbs_nobody():
    here = group(None, None, slow=0.01)

    async def call():
        leaving = here.submit([request(("a", i), "Go", 200) for i in range(2)], 2)
        staying = here.submit([request("b", "Stay", 30)])
        for _ in range(5):
            await anext(leaving)
        leaving.close()
        with pytest.raises(StopAsyncIteration):
            await anext(leaving)
        return await gather(staying)

    assert run(call())[0] == [alone("Stay", 30).answer]
    until(lambda: is_empty(here))
    here.close()


def test_a_reader_who_never_began_leaves_nothing_behind():
    here = group(None, None, slow=0.01)

    async def call():
        here.submit([request("a", "Go", 200)], 3).close()
        here.submit([request("b", "Go", 200)])  # neither read nor closed: the event loop ends
        await asyncio.sleep(0.05)

    run(call())
    until(lambda: is_empty(here))
    here.close()


def test_above_the_bound_another_replica_takes_a_call_and_then_none():
    gated, sizes = [GatedModel(), GatedModel()], dict(seats=1, max_waiting=1)
    here = group(None, None, router=lambda request, engines: 0, **sizes)
    for replica, model in zip(here.replicas, gated, strict=True):
        replica.loop.engine.model = model

    async def call():
        assert here.capacity == 4
        taken = [here.submit([request(i, max_tokens=30)]) for i in range(4)]
        assert [replica.num_requests for replica in here.replicas] == [2, 2]
        with pytest.raises(Busy, match="on their way"):
            here.submit([request("late")])
        with pytest.raises(Busy, match="on their way"):
            here.submit([request("two"), request("three")])
        with pytest.raises(BadRequest, match="6 answers were asked for, and 4 are computed at most"):
            here.submit([request("many")], 6)
        taken.pop().close()
        while (
            here.num_answers == 4
        ):  # what is closed ends between two passes, and may be told after the first
            gated[1].let(1)
            await asyncio.sleep(0.005)
        taken.append(here.submit([request("late", max_tokens=3)]))
        for model in gated:
            model.let()
        return [await gather(answers) for answers in taken]

    assert len(run(call())) == 4
    assert is_empty(here)
    here.close()


def test_what_an_engine_refuses_is_told_and_undone():
    here = group(None, None)

    async def call():
        with pytest.raises(BadRequest, match="may need 599 tokens"):
            await gather(here.submit([request("a"), Request("long", [1] * 500, 100)], 2))
        return await gather(here.submit([request("b")]))

    assert run(call())[0] == [alone("Hello there", 8).answer]
    until(lambda: is_empty(here))
    here.close()


def test_a_router_that_raises_takes_nothing():
    def faulty(request, engines):
        raise KeyError("no way")

    here = group(None, router=faulty)

    async def call():
        with pytest.raises(KeyError):
            here.submit([request("a")])

    run(call())
    assert is_empty(here)
    here.close()


def test_draining_takes_no_more_and_lets_the_rest_finish():
    here = group(None, None, slow=0.01)

    async def call():
        begun = [here.submit([request(i, max_tokens=20)]) for i in range(3)]
        here.drain(120)
        assert not here.alive
        with pytest.raises(Draining, match="no replica takes requests"):
            here.submit([request("b")])
        return [await gather(answers) for answers in begun]

    assert run(call()) == [([alone("Hello there", 20).answer], ["length"])] * 3
    here.close()


def test_no_loop_is_refused():
    with pytest.raises(ValueError, match="one engine loop or more"):
        ReplicaGroup([], least_tokens)


def test_groups_can_stand_behind_a_router_themselves():
    here = ReplicaGroup([group(None, None), loop()], least_requests)

    async def call():
        calls = [here.submit([request(i, f"Prompt {i}")]) for i in range(8)]
        return await asyncio.gather(*map(gather, calls))

    assert run(call()) == [([alone(f"Prompt {i}", 8).answer], ["length"]) for i in range(8)]
    here.close()


def test_a_request_that_fails_alone_is_not_tried_again():
    poison = tokenizer()("bad")["input_ids"][0]
    here = group(None, None)
    for replica in here.replicas:
        replica.loop.engine.model = SlowModel(poison=poison)

    async def call():
        with pytest.raises(RequestFailed, match="this token cannot be computed"):
            await gather(here.submit([request("b", "bad", 12)]))
        return await gather(here.submit([request("a")]))

    assert run(call())[0] == [alone("Hello there", 8).answer]
    assert all(replica.loop.alive for replica in here.replicas)
    here.close()
