"""Parallel samples: one prompt computed once, forked, and each answer that of a run of its own."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.caches import PagedKVCache
from helpers.engine import POLICIES, ContinuousBatcher, Request
from tests.tiny import reference, twin

MODEL = twin(reference("qwen3"))
PROMPT = list(range(1, 23))
ASKED = Request("q", PROMPT, 8, temperature=2.0, seed=7)


def engine(num_pages=200, page_size=4, sharing=True, **options):
    cache = PagedKVCache.for_model(MODEL, num_pages, page_size, sharing)
    cache.k.fill_(float("nan")), cache.v.fill_(float("nan"))
    return ContinuousBatcher(MODEL, cache, **options)


def alone(request):
    """What a request answers by itself."""
    batcher = engine(sharing=False)
    batcher.add_request(request)
    return batcher.run()[request.request_id].token_ids


def single_runs(request, samples):
    return {(request.request_id, i): alone(replace(request, seed=request.seed + i)) for i in range(samples)}


def answers(batcher):
    return {name: state.token_ids for name, state in batcher.finished.items()}


@pytest.mark.parametrize("sharing", [True, False], ids=["shared", "private"])
def test_the_prompt_is_computed_once_and_its_last_page_copied(sharing):
    batcher = engine(sharing=sharing)
    assert batcher.add_samples(ASKED, 4) == [("q", i) for i in range(4)]
    batcher.process_batch()
    pool = batcher.cache.pool
    assert (pool.num_used, pool.stats().shared, pool.stats().copies) == (6, 6, 0), "no sample has written yet"
    assert len(batcher.running) == 4
    batcher.process_batch()
    assert (pool.num_used, pool.stats().shared, pool.stats().copies) == (9, 5, 3), (
        "the last one keeps its page"
    )
    done = batcher.run()
    assert [done["q", i].tokens_computed for i in range(4)] == [22 + 7, 7, 7, 7]
    assert [done["q", i].cached_tokens for i in range(4)] == [0, 22, 22, 22]
    assert answers(batcher) == single_runs(ASKED, 4)
    assert len(set(map(tuple, answers(batcher).values()))) == 4
    assert pool.num_used == 0


def test_first_tokens_come_together():
    batcher, heard = engine(chunk_size=5), []
    batcher.add_samples(ASKED, 3)
    while not heard:
        heard = batcher.process_batch()
    assert [name for name, _ in heard] == [("q", i) for i in range(3)]
    assert len(batcher.steps) == 5
    assert len({state.first_scheduled for state in batcher.running}) == 1


@pytest.mark.parametrize("seats", [1, 2, 3])
def test_samples_without_a_seat_wait_for_one(seats):
    batcher = engine(max_batch_size=seats)
    batcher.add_samples(ASKED, 5)
    while batcher.waiting or batcher.running:
        batcher.process_batch()
        assert len(batcher.running) <= seats
    assert answers(batcher) == single_runs(ASKED, 5)
    assert all(state.cached_tokens >= 20 for state in list(batcher.finished.values())[1:])


def test_answers_of_one_token():
    batcher = engine(page_size=1)
    batcher.add_samples(replace(ASKED, max_tokens=1), 4)
    assert len(batcher.process_batch()) == 4
    assert not batcher.running
    assert answers(batcher) == single_runs(replace(ASKED, max_tokens=1), 4)
    assert batcher.cache.pool.num_used == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_under_every_policy(policy):
    batcher = engine(num_pages=14, policy=policy, max_batch_size=3)
    batcher.add_request(Request("before", [5] * 9, 6, client="a"))
    batcher.add_samples(ASKED, 4)
    batcher.add_request(Request("after", [6] * 9, 6, client="b"))
    batcher.run()
    expected = single_runs(ASKED, 4)
    assert {name: batcher.finished[name].token_ids for name in expected} == expected
    assert batcher.finished["after"].token_ids == alone(Request("after", [6] * 9, 6))


def test_a_first_sample_that_is_cancelled_hands_its_work_on():
    for passes in (0, 2):  # before it begins, and in the middle of its prompt
        batcher = engine(chunk_size=5)
        batcher.add_samples(ASKED, 4)
        for _ in range(passes):
            batcher.process_batch()
        batcher.cancel(("q", 0))
        batcher.run()
        expected = single_runs(ASKED, 4) | {("q", 0): []}
        assert answers(batcher) == expected
        assert batcher.finished["q", 1].tokens_computed >= 22 - 5 * passes
        assert [batcher.finished["q", i].tokens_computed for i in (2, 3)] == [7, 7], "they forked from it"


def test_a_sample_that_waits_for_the_prompt_can_be_cancelled():
    batcher = engine(chunk_size=5)
    batcher.add_samples(ASKED, 3)
    batcher.process_batch()
    batcher.cancel(("q", 1))
    assert batcher.finished["q", 1].finish_reason == "cancelled"
    batcher.run()
    assert answers(batcher) == single_runs(ASKED, 3) | {("q", 1): []}
    with pytest.raises(ValueError, match="not on its way"):
        batcher.cancel(("q", 1))


def test_a_first_sample_that_fails_fails_alone(monkeypatch):
    batcher = engine()
    batcher.add_samples(ASKED, 3)
    original = MODEL.compute

    def failing(batch, cache, logits="last"):
        if ("q", 0) in batch.seq_ids:
            raise RuntimeError("a bit fell over")
        return original(batch, cache, logits)

    monkeypatch.setattr(MODEL, "compute", failing)
    batcher.run()
    monkeypatch.undo()
    assert answers(batcher) == single_runs(ASKED, 3) | {("q", 0): []}
    assert batcher.finished["q", 0].finish_reason == "failed"
    assert batcher.cache.pool.num_used == 0


@pytest.mark.parametrize(
    ("request_", "samples", "words"),
    [
        (ASKED, 0, "samples must be 1 or more"),
        (replace(ASKED, request_id="p"), 3, "is here already"),
        (replace(ASKED, prompt_ids=[97]), 3, "under 97"),
        (replace(ASKED, max_tokens=1000), 3, "there is room for"),
    ],
)
def test_refused_before_any_of_them_is_there(request_, samples, words):
    batcher = engine()
    batcher.add_request(Request(("p", 2), [1], 1))
    with pytest.raises(ValueError, match=words):
        batcher.add_samples(request_, samples)
    assert len(batcher.waiting) == 1
    batcher.run()
    assert list(batcher.finished) == [("p", 2)]


def test_samples_of_different_prompts_are_none():
    scheduler = engine().scheduler
    one = Request("a", [1, 2])
    for others in ([], [one, Request("b", [1, 3])], [one, Request("b", [1, 2], salt="x")]):
        with pytest.raises(ValueError, match="one prompt and one salt"):
            scheduler.add_samples(others)
    with pytest.raises(ValueError, match="'a' is here already"):
        scheduler.add_samples([one, one])
    assert len(scheduler.waiting) == 0


def test_a_driver_that_never_forks_serves_the_samples_all_the_same():
    scheduler = engine().scheduler
    scheduler.add_samples([Request(i, [1, 2], 1) for i in range(3)])
    (state, tokens), *others = scheduler.schedule()
    assert (state.name, tokens, others) == (0, [1, 2], [])
    state.computed = 2
    scheduler.pages.pool.confirm(0)
    scheduler.took(state, 5, 0.0)
    assert [waiting.name for waiting in scheduler.waiting] == [1, 2]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    pages=st.integers(12, 40),
    page_size=st.sampled_from([1, 3, 4]),
    chunk=st.integers(1, 8),
    budget=st.integers(1, 16),
    seats=st.integers(1, 6),
    sharing=st.booleans(),
)
def test_samples_through_preemption_and_cancelling(seed, pages, page_size, chunk, budget, seats, sharing):
    """Every sample that is not cancelled answers as it does alone; the pool is left empty."""
    rng = random.Random(seed)
    batcher = engine(pages, page_size, sharing, max_batch_size=seats, token_budget=budget, chunk_size=chunk)
    known = [
        (Request(i, [1, 2, 3, 4, 5, 6][: rng.randrange(1, 7)], rng.randrange(1, 6), temperature=3.0, seed=10 * i), rng.randrange(1, 5))
        for i in range(4)
    ]  # fmt: skip
    coming = list(known)
    while coming or batcher.waiting or batcher.running:
        if coming and rng.random() < 0.5:
            batcher.add_samples(*coming.pop())
        batcher.process_batch()
        names = [state.name for state in batcher.running]
        assert set(batcher.cache.pool.requests) == set(names)
        if names and rng.random() < 0.1:
            batcher.cancel(rng.choice(names))
    assert batcher.cache.pool.num_used == 0
    for request, samples in known:
        for name, tokens in single_runs(request, samples).items():
            state = batcher.finished[name]
            assert state.token_ids == tokens[: len(state.token_ids)]
            assert state.finish_reason == "cancelled" or state.token_ids == tokens
