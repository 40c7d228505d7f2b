"""A replica dies in mid-stream: its answers go on elsewhere, exactly, and others never notice."""

import asyncio
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.engine import RoundRobinRouter, least_tokens
from helpers.serving import Draining, EngineLost, RequestFailed
from tests.replicas.support import group, is_empty
from tests.serving.service import alone, request, run, until

# Draws from few tokens: where 49,152 share the probability, the last bit of a logit may choose another one.
OPTIONS = [
    {}, dict(temperature=1.3, top_k=40, seed=11), dict(temperature=0.8, top_k=9, top_p=0.9, seed=-3, logprobs=2),
    dict(logprobs=0), dict(temperature=1.0, top_k=5, seed=2, min_tokens=4), dict(stop=["e", "qu"], min_tokens=3),
]  # fmt: skip


def plan(i):
    """Request number i, with options of its own."""
    return request(i, f"Prompt {i % 3} " + "word " * (i % 5), 6 + 5 * (i % 4), **OPTIONS[i % len(OPTIONS)])


async def pieces_of(answers):
    """What a reader gets of each choice: tokens, text, log-probabilities, and why it ended, each exactly once."""
    found = {}
    async for piece in answers:
        tokens, texts, logprobs, reasons = found.setdefault(piece.choice, ([], [], [], []))
        assert not reasons, "nothing comes behind the end"
        tokens.append(piece.token_id)
        texts.append(piece.text)
        logprobs.append(piece.logprobs)
        reasons += [piece.finish_reason] * (piece.finish_reason is not None)
    return {choice: (t, "".join(x), p, r) for choice, (t, x, p, r) in sorted(found.items())}


def served(here, count, samples):
    """What a group answers to `count` calls at once."""

    async def all_of_them():
        calls = [here.submit([plan(i)], samples) for i in range(count)]
        return await asyncio.gather(*map(pieces_of, calls))

    try:
        answers = run(all_of_them())
        until(lambda: is_empty(here))
        return answers
    finally:
        here.close()


def exact(answers):
    """Answers without the log-probabilities' rounding."""
    return [
        {
            choice: (tokens, text, [p and (p.token_id, [t for t, _ in p.top]) for p in logprobs], reasons)
            for choice, (tokens, text, logprobs, reasons) in call.items()
        }
        for call in answers
    ]


@cache
def whole_answers(samples):
    """What a replica that does not die answers."""
    return served(group(None), 6, samples)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.lists(st.integers(0, 30), min_size=1, max_size=3))
def test_no_token_is_lost_or_doubled_wherever_replicas_die(count, samples, deaths):
    """Equal to a group in which no replica dies: tokens, text, log-probabilities and ends, of every choice."""
    whole = whole_answers(samples)[:count]
    broken = served(group(*deaths, None, most_deaths=10), count, samples)
    assert exact(broken) == exact(whole)
    for one, other in zip(whole, broken, strict=True):
        for choice in one:
            for there, here in zip(one[choice][2], other[choice][2], strict=True):
                assert (there is None) == (here is None)
                if there is not None:
                    assert here.logprob == pytest.approx(there.logprob, abs=1e-4)


def test_an_answer_goes_on_from_its_tokens_so_far_and_not_from_its_prompt():
    here = group(7, None)

    async def call():
        return await pieces_of(here.submit([request("a", max_tokens=20)]))

    (tokens, text, _, reasons) = run(call())[0]
    expected = alone("Hello there", 20)
    assert (tokens, text, reasons) == (expected.token_ids, expected.answer, ["length"])
    second = here.replicas[1].loop.engine
    assert [replica.loop.alive for replica in here.replicas] == [False, True]
    steps = list(second.steps)
    assert steps[-1].parts[0].start + 1 == len(request("a").prompt_ids) + 19, "the last token is not computed"
    here.close()


def test_others_are_not_touched():
    """Calls at the replica that lives run on, in the passes in which they would have run anyway."""
    here = group(3, None)

    async def call():
        calls = [here.submit([request(i, f"Prompt {i}", 25)]) for i in range(2)]
        answers = await asyncio.gather(*map(pieces_of, calls))
        return [answer[0][1] for answer in answers]

    assert run(call()) == [alone(f"Prompt {i}", 25).answer for i in range(2)]
    here.close()


def test_the_rest_is_taken_although_the_queue_is_full():
    here = group(4, None, seats=1, max_waiting=0)

    async def call():
        calls = [here.submit([request(i, f"Prompt {i}", 12)]) for i in range(2)]
        return [answer[0][1] for answer in await asyncio.gather(*map(pieces_of, calls))]

    assert run(call()) == [alone(f"Prompt {i}", 12).answer for i in range(2)]
    here.close()


def test_a_request_that_kills_replicas_is_given_up():
    here = group(0, 0, 0, 0, most_deaths=3)

    async def call():
        with pytest.raises(EngineLost, match="killed"):
            await pieces_of(here.submit([request("a")]))

    run(call())
    assert [replica.loop.alive for replica in here.replicas].count(True) == 1
    here.close()


def test_progress_forgives_deaths():
    here = group(3, 3, 3, 3, None, most_deaths=2)

    async def call():
        return await pieces_of(here.submit([request("a", max_tokens=30)]))

    assert run(call())[0][1] == alone("Hello there", 30).answer
    here.close()


def test_when_no_replica_is_left_the_call_ends():
    here = group(3)

    async def call():
        with pytest.raises(Draining, match="no replica takes requests"):
            await pieces_of(here.submit([request("a"), request("b")], 2))

    run(call())
    assert (here.alive, here.num_requests) == (False, 0)
    here.close()


def test_a_router_that_raises_later_ends_the_call_alone():
    class Once(RoundRobinRouter):
        def __call__(self, request, engines):
            if request.answered:
                raise KeyError("no way")
            return super().__call__(request, engines)

    here = group(3, None, router=Once())

    async def call():
        dying, living = here.submit([request("a", max_tokens=20)]), here.submit([request("b", max_tokens=20)])
        with pytest.raises(RequestFailed, match="KeyError: 'no way'"):
            await pieces_of(dying)
        return await pieces_of(living)

    assert run(call())[0][1] == alone("Hello there", 20).answer
    until(lambda: is_empty(here))
    here.close()


def test_a_reader_that_leaves_behind_a_death_leaves_nothing():
    here = group(4, None, router=least_tokens, slow=0.005)

    async def call():
        answers = here.submit([request("a", max_tokens=200)], 2)
        for _ in range(30):
            await anext(answers)
        assert not here.replicas[0].loop.alive
        answers.close()

    run(call())
    until(lambda: is_empty(here))
    here.close()
