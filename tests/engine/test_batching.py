"""ContinuousBatcher: whatever request joins, leaves, is preempted or fails, each gets the tokens of its own run."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.caches import PagedKVCache
from helpers.engine import ContinuousBatcher, Request, RequestState
from helpers.model import generate
from tests.tiny import reference, twin

MODEL = twin(reference("qwen3"))
COMMON = [11, 22, 33, 44, 55, 66, 77, 88, 9, 10]


def engine(num_pages=200, page_size=4, sharing=True, **options):
    return ContinuousBatcher(MODEL, PagedKVCache.for_model(MODEL, num_pages, page_size, sharing), **options)


def alone(request):
    """The single run's tokens."""
    return generate(MODEL, request.prompt_ids, request.max_tokens, stop_ids=request.stop_ids).token_ids


def requests(rng, count, shared=True):
    for i in range(count):
        start = COMMON[: rng.randrange(11)] if shared else []
        prompt = start + [rng.randrange(97) for _ in range(rng.randrange(1, 20))]
        yield Request(i, prompt, rng.randrange(1, 9), stop_ids=[rng.randrange(97)])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    page_size=st.sampled_from([1, 3, 4, 16]),
    chunk=st.integers(1, 24),
    budget=st.integers(1, 40),
    seats=st.integers(1, 8),
    sharing=st.booleans(),
    room=st.integers(40, 160),
)
def test_every_request_gets_the_tokens_of_its_own_run(seed, page_size, chunk, budget, seats, sharing, room):
    """Random arrivals between passes; a small pool forces preemption."""
    rng = random.Random(seed)
    pages = -(-room // page_size)
    batcher = engine(pages, page_size, sharing, max_batch_size=seats, token_budget=budget, chunk_size=chunk)
    coming, streamed = list(requests(rng, 10)), {}
    known = list(coming)
    while coming or batcher.waiting or batcher.running:
        while coming and rng.random() < 0.6:
            batcher.add_request(coming.pop())
        for name, token in batcher.process_batch():
            streamed.setdefault(name, []).append(token)
        pool = batcher.cache.pool
        assert set(pool.requests) == {state.name for state in batcher.running}
        assert pool.num_used + pool.num_free == pages
        assert len(batcher.running) <= seats
    for request in known:
        state = batcher.finished[request.request_id]
        assert state.token_ids == alone(request) == streamed[request.request_id]
        assert state.finish_reason == ("stop" if state.token_ids[-1] in request.stop_ids else "length")
        assert len(state.token_times) == len(state.token_ids)
    assert batcher.cache.pool.num_used == 0
    assert all(sum(part.num_tokens for part in step.parts) <= budget for step in batcher.steps)
    assert all(part.num_tokens <= chunk for step in batcher.steps for part in step.parts)


def test_preemption_happens_and_is_recorded():
    batcher = engine(num_pages=9, page_size=4, max_batch_size=4)
    asked = [Request(i, [i + 1] * 9, 12) for i in range(3)]
    for request in asked:
        batcher.add_request(request)
    done = batcher.run()
    assert sum(state.preemptions for state in done.values()) > 0
    assert sum(len(step.preempted) for step in batcher.steps) == sum(s.preemptions for s in done.values())
    assert [done[i].token_ids for i in range(3)] == [alone(request) for request in asked]
    assert done[0].preemptions == 0, "the first request admitted is never preempted"


def test_a_preempted_request_comes_before_those_that_never_ran():
    batcher = engine(num_pages=9, page_size=4, max_batch_size=2, sharing=False)
    for i in range(4):
        batcher.add_request(Request(i, [i + 1] * 13, 14))
    batcher.run()
    assert any(step.preempted for step in batcher.steps)
    begun = [part.request_id for step in batcher.steps for part in step.parts if part.start == 0]
    again = begun.index(1, begun.index(1) + 1)
    assert again < begun.index(2)
    for step in batcher.steps:
        if step.preempted:
            assert all(part.start > 0 for part in step.parts), (
                "no request is admitted while another is preempted"
            )


def test_a_shared_prompt_is_computed_once_even_in_one_pass():
    batcher = engine(max_batch_size=8)
    for i in range(8):
        batcher.add_request(Request(i, [*range(40), i], 1))
    done = batcher.run()
    assert len(batcher.steps) == 1
    assert [done[i].tokens_computed for i in range(8)] == [41] + [1] * 7
    assert [done[i].token_ids for i in range(8)] == [alone(Request(i, [*range(40), i], 1)) for i in range(8)]


def test_salts_share_nothing():
    batcher = engine()
    for i, salt in enumerate(("a", "b", "a")):
        batcher.add_request(Request(i, list(range(20)), 1, salt=salt))
    assert [state.tokens_computed for state in batcher.run().values()] == [20, 20, 4]


def test_decodes_go_on_while_a_long_prompt_arrives_in_chunks():
    batcher = engine(chunk_size=5, token_budget=8)
    batcher.add_request(Request("talker", [1, 2], 12))
    batcher.process_batch()
    batcher.add_request(Request("reader", [3] * 30, 1))
    batcher.run()
    talking = [any(p.request_id == "talker" and p.decode for p in step.parts) for step in batcher.steps[1:7]]
    assert all(talking)
    chunks = [p.num_tokens for step in batcher.steps for p in step.parts if p.request_id == "reader"]
    assert chunks == [5] * 6


def test_one_that_fails_fails_alone(monkeypatch):
    batcher = engine()
    good = [Request(i, [5, 6, 7 + i], 6) for i in range(3)]
    for request in (*good[:2], Request("bad", [50, 51, 52], 6), good[2]):
        batcher.add_request(request)
    original = MODEL.compute

    def failing(batch, cache, logits="last"):
        if "bad" in batch.seq_ids and batch.seq_lens[batch.seq_ids.index("bad")] == 5:
            raise RuntimeError("a bit fell over")
        return original(batch, cache, logits)

    monkeypatch.setattr(MODEL, "compute", failing)
    done = batcher.run()
    assert done["bad"].finish_reason == "failed"
    assert done["bad"].error == "RuntimeError: a bit fell over"
    assert len(done["bad"].token_ids) == 2
    assert [done[r.request_id].token_ids for r in good] == [alone(r) for r in good]
    assert batcher.cache.pool.num_used == 0


def test_a_request_that_shared_pages_of_a_failed_one_computes_them_itself(monkeypatch):
    batcher, prompt = engine(), list(range(20))
    asked = [Request("bad", [*prompt, 1], 3), Request("good", [*prompt, 2], 3)]
    for request in asked:
        batcher.add_request(request)
    original = MODEL.compute

    def failing(batch, cache, logits="last"):
        if "bad" in batch.seq_ids:
            raise RuntimeError("a bit fell over")
        return original(batch, cache, logits)

    monkeypatch.setattr(MODEL, "compute", failing)
    done = batcher.run()
    assert done["bad"].finish_reason == "failed"
    assert done["good"].token_ids == alone(asked[1])


def test_cancelling_a_waiting_and_a_running_request():
    batcher = engine(max_batch_size=1)
    for i in range(3):
        batcher.add_request(Request(i, [1, 2, 3], 5))
    batcher.process_batch()
    batcher.cancel(0)
    batcher.cancel(1)
    done = batcher.run()
    assert [done[i].finish_reason for i in range(3)] == ["cancelled", "cancelled", "length"]
    assert [len(done[i].token_ids) for i in range(3)] == [1, 0, 5]
    assert batcher.cache.pool.num_used == 0
    with pytest.raises(ValueError, match="not on its way"):
        batcher.cancel(0)


def test_a_plan_may_be_made_looked_at_and_made_again():
    batcher = engine(num_pages=20, token_budget=24)
    asked = [Request(i, [*range(20), i], 6) for i in range(3)]
    for request in asked:
        batcher.add_request(request)
    while batcher.waiting or batcher.running:
        plans = [
            [(chunk.state.name, chunk.num_tokens) for chunk in batcher.schedule_batch()] for _ in range(3)
        ]
        used = batcher.cache.pool.num_used
        assert plans[0] == plans[1] == plans[2]
        batcher.process_batch()
        assert [(part.request_id, part.num_tokens) for part in batcher.steps[-1].parts] == plans[0]
        assert batcher.steps[-1].used_pages == used
    assert [batcher.finished[i].token_ids for i in range(3)] == [alone(request) for request in asked]
    assert sum(s.tokens_computed for s in batcher.finished.values()) == sum(
        part.num_tokens for step in batcher.steps for part in step.parts
    )


def test_a_planned_request_may_be_cancelled():
    batcher = engine()
    for i in range(3):
        batcher.add_request(Request(i, [*range(20), i], 3))
    batcher.schedule_batch()
    batcher.cancel(0)
    done = batcher.run()
    assert [done[i].token_ids for i in (1, 2)] == [alone(Request(i, [*range(20), i], 3)) for i in (1, 2)]
    assert not done[0].token_ids
    assert batcher.cache.pool.num_used == 0


def test_streaming():
    batcher, heard = engine(), []
    batcher.add_request(Request("a", [1, 2, 3], 4))
    done = batcher.run(on_token=lambda name, token: heard.append((name, token)))
    assert heard == [("a", token) for token in done["a"].token_ids]
    assert batcher.process_batch() == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (dict(prompt_ids=[1] * 30, max_tokens=12), "may need 41 tokens, there is room for 40"),
        (dict(prompt_ids=[97]), "token ids must be under 97"),
        (dict(request_id="there"), "is here already"),
        (dict(prompt_ids=[]), "the prompt is empty"),
        (dict(prompt_ids=[-1]), "0 or more"),
        (dict(max_tokens=0), "max_tokens must be 1 or more"),
        (dict(temperature=-1.0), "temperature >= 0"),
        (dict(top_p=0.0), "top_p"),
        (dict(top_k=-1), "top_k"),
    ],
)
def test_what_can_never_be_served_is_refused_at_once(request_, words):
    batcher = engine(num_pages=10)
    batcher.add_request(Request("there", [1], 1))
    with pytest.raises(ValueError, match=words):
        batcher.add_request(Request(**(dict(request_id="new", prompt_ids=[1], max_tokens=1) | request_)))
    assert len(batcher.waiting) == 1


def test_a_request_that_just_fits_alone_is_served():
    batcher = engine(num_pages=10)
    asked = Request("a", [1] * 30, 11)
    batcher.add_request(asked)
    assert batcher.run()["a"].token_ids == alone(asked)


def test_samples_share_their_prompt_and_differ():
    batcher = engine()
    names = batcher.add_samples(Request("q", list(range(20)), 6, temperature=2.0, seed=7), 4)
    done = batcher.run()
    assert names == [("q", i) for i in range(4)]
    assert len({tuple(done[name].token_ids) for name in names}) > 1
    assert sum(done[name].tokens_computed for name in names) < 20 + 3 * 4 + 4 * 6
    again = engine(max_batch_size=1)
    again.add_samples(Request("q", list(range(20)), 6, temperature=2.0, seed=7), 4)
    assert {n: s.token_ids for n, s in again.run().items()} == {n: done[n].token_ids for n in names}, (
        "neighbours change nothing"
    )
    with pytest.raises(ValueError, match="samples"):
        batcher.add_samples(Request("r", [1]), 0)


def test_times_follow_the_clock():
    now = iter(range(1000))
    batcher = engine(clock=lambda: float(next(now)))
    batcher.add_request(Request("a", [1, 2], 3))
    state = batcher.run()["a"]
    assert state.arrived < state.first_scheduled < state.token_times[0]
    assert state.ttft == state.token_times[0] - state.arrived
    assert state.tpot == (state.token_times[2] - state.token_times[0]) / 2
    with pytest.raises(ValueError, match="no token yet"):
        RequestState(Request("b", [1]), 0.0).ttft  # noqa: B018


def test_sizes_are_checked():
    for options in (dict(max_batch_size=0), dict(token_budget=0), dict(chunk_size=0)):
        with pytest.raises(ValueError, match="sizes must be 1 or more"):
            engine(**options)
