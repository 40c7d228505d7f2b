"""RequestScheduler: seats, budget, pages; policies change the order, never an answer; no starvation under ageing."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import RequestScheduler
from helpers.caches import OutOfPages, PagedKVCache
from helpers.engine import (
    POLICIES,
    Admission,
    ContinuousBatcher,
    FairShare,
    Policy,
    Priority,
    Request,
    RoundRobin,
    ShortestJobFirst,
)
from helpers.model import generate
from helpers.simulation import PaperPages, SimulatedEngine
from helpers.traffic import VirtualClock
from tests.engine.support import computed, names
from tests.tiny import reference, twin

MODEL = twin(reference("qwen3"))


def test_running_requests_first_then_waiting_ones_from_what_is_left():
    scheduler = RequestScheduler(max_batch_size=2, token_budget=8, chunk_size=6)
    for name, tokens in (("a", 4), ("b", 10), ("c", 1)):
        scheduler.add_request(Request(name, [1] * tokens, 3))
    plans = []
    while scheduler.running or scheduler.waiting:
        planned = scheduler.schedule()
        plans.append(names(planned))
        computed(planned, scheduler)
    assert plans == [
        [("a", 4), ("b", 4)],
        [("a", 1), ("b", 6)],
        [("a", 1), ("b", 1)],
        [("b", 1), ("c", 1)],
        [("c", 1)],
        [("c", 1)],
    ]
    assert scheduler.schedule() == []
    assert [state.finish_reason for state in scheduler.finished.values()] == ["length"] * 3


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    seats=st.integers(1, 5),
    budget=st.integers(1, 30),
    room=st.integers(30, 90),
    page_size=st.sampled_from([1, 4, 8]),
)
def test_no_policy_changes_an_answer(name, seed, seats, budget, room, page_size):
    """On the real engine, with a pool so small that requests are preempted, with arrivals and cancellations between passes."""
    rng = random.Random(seed)
    cache = PagedKVCache.for_model(MODEL, -(-room // page_size), page_size)
    policy = RoundRobin(quantum=3) if name == "round_robin" and seed % 2 else name
    batcher = ContinuousBatcher(MODEL, cache, seats, budget, policy=policy)
    coming = [
        Request(
            i, [rng.randrange(97) for _ in range(rng.randrange(1, 20))], rng.randrange(1, 9),
            priority=rng.randrange(3), client=rng.choice("ab"),
        )
        for i in range(8)
    ]  # fmt: skip
    known, cancelled = list(coming), set()
    for _ in range(600):
        if not (coming or batcher.waiting or batcher.running):
            break
        while coming and rng.random() < 0.5:
            batcher.add_request(coming.pop())
        if rng.random() < 0.05 and (here := [*batcher.waiting, *batcher.running]):
            cancelled.add(rng.choice(here).name)
            batcher.cancel(max(cancelled, key=lambda n: n not in batcher.finished))
        batcher.process_batch()
        assert set(cache.pool.requests) == {state.name for state in batcher.running}
        assert len(batcher.running) <= seats
        assert not batcher.steps or sum(p.num_tokens for p in batcher.steps[-1].parts) <= budget
    assert len(batcher.finished) == len(known), "every request is served in the end"
    for request in known:
        state = batcher.finished[request.request_id]
        alone = generate(MODEL, request.prompt_ids, request.max_tokens).token_ids
        assert state.token_ids == alone[: len(state.token_ids)]
        assert state.finish_reason == "cancelled" or len(state.token_ids) == request.max_tokens
        assert state.ended is not None
    assert cache.pool.num_used == 0


def test_a_more_urgent_request_takes_a_seat_and_the_loser_comes_back():
    scheduler = RequestScheduler(max_batch_size=1, policy=Priority(preemptive=True), pages=PaperPages(20, 4))
    scheduler.add_request(Request("low", [1] * 6, 4, priority=5))
    computed(scheduler.schedule(), scheduler)
    scheduler.add_request(Request("high", [2] * 6, 2, priority=1))
    scheduler.add_request(Request("same", [3] * 6, 1, priority=5))
    planned = scheduler.schedule()
    assert names(planned) == [("high", 6)]
    assert scheduler.preempted == ["low"]
    order, counts = [], []
    while planned:
        order += [name for name, _ in names(planned) if not order or order[-1] != name]
        counts += [count for name, count in names(planned) if name == "low"]
        computed(planned, scheduler)
        planned = scheduler.schedule()
    assert order == ["high", "low", "same"]
    low = scheduler.finished["low"]
    assert low.preemptions == 1
    assert counts == [7 - 4, 1, 1], "its full page was still cached"
    assert low.cached_tokens == 0, "its own page is no hit"
    assert scheduler.pages.pool.num_used == 0


def test_a_request_preempted_while_planned_leaves_the_plan_and_the_budget():
    """The least urgent request is planned first, and then is preempted for a request that lacks a page."""
    pages = PaperPages(4, 2, sharing=False)
    scheduler = RequestScheduler(2, Priority(), token_budget=3, pages=pages)
    scheduler.add_request(Request("low", [1, 1, 1], 3, priority=9))
    computed(scheduler.schedule(), scheduler)
    scheduler.add_request(Request("high", [2, 2], 5, priority=0))
    computed(scheduler.schedule(), scheduler)
    assert pages.pool.num_free == 0 or pages.pool.num_free == 1
    seen = []
    while scheduler.running or scheduler.waiting:
        planned = scheduler.schedule()
        if scheduler.preempted:
            seen.append((list(scheduler.preempted), names(planned)))
        assert sum(chunk.num_tokens for chunk in planned) <= 3
        computed(planned, scheduler)
    assert seen
    assert all(gone == ["low"] and all(name != "low" for name, _ in plan) for gone, plan in seen)
    assert [len(s.token_ids) for s in scheduler.finished.values()] == [5, 3]


def test_no_request_is_admitted_while_another_is_preempted():
    """The freed pages would suffice for a waiting request, but were freed for the running requests."""
    scheduler = RequestScheduler(3, "priority", pages=PaperPages(7, 2, sharing=False))
    for name, tokens, priority in (("a", 3, 0), ("big", 8, 9), ("c", 4, 5)):
        scheduler.add_request(Request(name, [1] * tokens, 6, priority=priority))
        if name == "big":
            computed(scheduler.schedule(), scheduler)
    plans = []
    while not scheduler.preempted:
        computed(planned := scheduler.schedule(), scheduler)
        plans.append([name for name, _ in names(planned)])
    assert plans[-1] == ["a"]
    assert scheduler.preempted == ["big"]
    assert names(scheduler.schedule()) == [("a", 1), ("c", 4)]


def test_no_request_passes_the_first_that_finds_no_pages():
    scheduler = RequestScheduler(4, pages=PaperPages(4, 4))
    for name, tokens in (("a", 9), ("big", 9), ("small", 1)):
        scheduler.add_request(Request(name, [ord(name[0])] * tokens, 2))
    assert names(scheduler.schedule()) == [("a", 9)]
    assert not scheduler.would_admit()
    assert RequestScheduler().would_admit() is False


def test_cancelling_where_one_waits_and_where_one_runs():
    scheduler = RequestScheduler(1, pages=PaperPages(10, 4))
    for name in "abc":
        scheduler.add_request(Request(name, [1, 2, 3], 5))
    computed(scheduler.schedule(), scheduler)
    scheduler.cancel("a")
    scheduler.cancel("b")
    assert names(scheduler.schedule()) == [("c", 3)]
    assert {name: s.finish_reason for name, s in scheduler.finished.items()} == dict.fromkeys(
        "ab", "cancelled"
    )
    assert scheduler.pages.pool.num_used == 1
    with pytest.raises(ValueError, match="'a' is not on its way"):
        scheduler.cancel("a")
    with pytest.raises(ValueError, match="'b' is here already"):
        scheduler.add_request(Request("b", [1], 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(max_batch_size=0), "sizes must be 1 or more"),
        (dict(token_budget=0), "sizes must be 1 or more"),
        (dict(chunk_size=0), "sizes must be 1 or more"),
        (dict(policy="lottery"), "unknown policy 'lottery'"),
    ],
)
def test_nonsense_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        RequestScheduler(**options)


def test_what_never_fits_is_refused_at_once():
    for limits in (dict(room=20), dict(pages=PaperPages(5, 4))):
        scheduler = RequestScheduler(**limits)
        with pytest.raises(ValueError, match="may need 21 tokens, there is room for 20"):
            scheduler.add_request(Request("a", [1] * 12, 10))
        scheduler.add_request(Request("a", [1] * 12, 9))
        assert len(scheduler.waiting) == 1


def test_equal_arrivals_are_served_in_the_order_in_which_they_were_added():
    scheduler = RequestScheduler(1, clock=VirtualClock())
    for name in "cab":
        scheduler.add_request(Request(name, [1], 1))
    order = []
    while planned := scheduler.schedule():
        order += [name for name, _ in names(planned)]
        computed(planned, scheduler)
    assert order == list("cab")


def test_a_token_of_a_text_without_a_copy_of_it():
    state = RequestScheduler().add_request(Request("a", [1, 2, 3], 5))
    state.token_ids = [4, 5, 6]
    for start in range(7):
        for stop in range(start, 7):
            assert list(state.tokens(start, stop)) == state.text[start:stop]


class Article(Policy):
    """As in the article this course grew out of: sorted by priority, then served by ascending length, which undoes the sorting."""

    def rank(self, state):
        return len(state.request.prompt_ids)


def waits(policy, stream, length=400.0, first=3.0):
    """Return how long a long, urgent request waits that comes at `first` into a stream of short requests."""
    engine = SimulatedEngine(lambda load: 0.5 * load.tokens, max_batch_size=1, policy=policy)
    arrivals = [(first, "long", 20, -5), *((i * stream, i, 2, 0) for i in range(int(length / stream)))]
    for at, name, tokens, priority in sorted(arrivals, key=lambda arrival: arrival[0]):
        engine.run_until(at)
        engine.submit(Request(name, [1] * tokens, 1, priority=priority), at, 1)
    engine.run_until(float("inf"))
    return next(outcome.wait for outcome in engine.outcomes if outcome.name == "long")


def test_the_articles_policy_starves_an_urgent_request():
    """Short requests that each take a second, one each second: the long one waits until they stop coming."""
    assert waits(Article, 1.0) > 390
    assert waits(Article, 1.0, length=800) > 790, "the longer they come, the longer it waits"
    assert waits("fcfs", 1.0) < 3
    assert waits("priority", 1.0) < 3


def test_ageing_ends_starvation_of_long_jobs():
    def by_prompt(request):
        return len(request.prompt_ids)

    assert waits(lambda: ShortestJobFirst(by_prompt), 1.0) > 390
    aged = waits(lambda: ShortestJobFirst(by_prompt, ageing=2.0), 1.0)
    assert aged <= 2.0 * (20 - 2) + 3.0, "18 ranks of 2 seconds, and the queue of that moment"


@settings(max_examples=60, deadline=None)
@given(
    jobs=st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 12), st.integers(1, 6), st.integers(0, 4)),
        min_size=1,
        max_size=40,
    ),
    ageing=st.sampled_from([0.5, 2.0, 8.0]),
    preemptive=st.booleans(),
)
def test_waits_under_ageing_are_bounded(jobs, ageing, preemptive):
    """With one seat, no request waits longer than `ageing` per rank and the work that came before that moment.

    A request of rank p from t is behind only such as came before t + ageing * (p - the smallest rank). The
    engine is never idle while a request waits. Each preemption may cause computed tokens to be computed again.
    """
    second = 0.25
    engine = SimulatedEngine(
        lambda load: second * load.tokens,
        max_batch_size=1,
        policy=lambda: Priority(ageing=ageing, preemptive=preemptive),
        sharing=False,
    )
    jobs = sorted((at / 2, prompt, answer, priority) for at, prompt, answer, priority in jobs)
    for i, (at, prompt, answer, priority) in enumerate(jobs):
        engine.run_until(at)
        engine.submit(Request(i, [1] * prompt, answer, priority=priority), at, answer)
    engine.run_until(float("inf"))
    urgent = min(priority for *_, priority in jobs)
    work = [second * (prompt + answer - 1) for _, prompt, answer, _ in jobs]
    longest = max(work)
    for outcome in engine.outcomes:
        late = outcome.arrived + ageing * (outcome.priority - urgent)
        ahead = [i for i, (at, *_) in enumerate(jobs) if at <= late and i != outcome.name]
        again = longest * len(ahead) if preemptive else longest
        assert outcome.wait <= ageing * (outcome.priority - urgent) + sum(work[i] for i in ahead) + again


def test_out_of_pages_is_what_paper_pages_say():
    pages = PaperPages(2, 4)
    pages.begin("a", pages.offer([1] * 9))
    with pytest.raises(OutOfPages):
        pages.reserve("a", [1] * 9)
    pages.reserve("a", [1] * 5)
    pages.commit()
    assert pages.pool.num_used == 2
    pages.free_request("a")
    assert pages.pool.num_used == 0


def play(scheduler, passes=200):
    """Run a scheduler on paper to its end; return tokens computed and preemptions."""
    total, preemptions = 0, 0
    for _ in range(passes):
        if not (scheduler.running or scheduler.waiting):
            return total, preemptions
        planned = scheduler.schedule()
        total += sum(chunk.num_tokens for chunk in planned)
        preemptions += len(scheduler.preempted)
        computed(planned, scheduler)
    raise AssertionError("requests are left")


def test_no_request_is_preempted_in_vain():
    """H holds 6 of 10 pages, L1 and L2 two each; the urgent one needs 5 and may push out L1 and L2 only."""
    pages = PaperPages(10, 4, sharing=False)
    scheduler = RequestScheduler(8, Priority(preemptive=True), pages=pages)
    for name, length, priority in (("H", 23, 0), ("L1", 7, 9), ("L2", 7, 9)):
        scheduler.add_request(Request(name, [1] * length, 2, priority=priority))
    computed(scheduler.schedule(), scheduler)
    scheduler.add_request(Request("U", [1] * 20, 1, priority=1))
    planned = scheduler.schedule()
    assert scheduler.preempted == []
    assert [name for name, _ in names(planned)] == ["H", "L1", "L2"]


def test_requests_are_preempted_where_that_suffices():
    pages = PaperPages(10, 4, sharing=False)
    scheduler = RequestScheduler(8, Priority(preemptive=True), pages=pages)
    for name, length, priority in (("H", 19, 0), ("L1", 7, 9), ("L2", 8, 9)):
        scheduler.add_request(Request(name, [1] * length, 2, priority=priority))
    computed(scheduler.schedule(), scheduler)
    scheduler.add_request(Request("U", [1] * 20, 1, priority=1))
    planned = scheduler.schedule()
    assert sorted(scheduler.preempted) == ["L1", "L2"]
    assert names(planned)[-1] == ("U", 20)


def test_a_running_request_preempts_itself_where_others_do_not_suffice():
    """The less urgent request's only page is its guest's, too: to preempt it would free nothing."""
    pages = PaperPages(4, 2, sharing=False)
    scheduler = RequestScheduler(4, Priority(), pages=pages)
    scheduler.add_request(Request("low", [1, 1], 3, priority=9))
    scheduler.add_request(Request("high", [2, 2], 4, priority=0))
    computed(scheduler.schedule(), scheduler)
    pages.fork("low", "guest")
    pages.begin("other guest", pages.offer([5] * 4))
    pages.reserve("other guest", [5] * 4)
    pages.commit()
    planned = scheduler.schedule()
    assert (scheduler.preempted, names(planned)) == (["high"], [("low", 1)]), (
        "the last of two requests to lack a page is preempted alone"
    )


@pytest.mark.parametrize(
    ("count", "length", "chunk", "num_pages", "sharing", "share", "most"),
    [(8, 96, 16, 24, False, 1.24, 2), (32, 512, 64, 256, True, 1.3, 4)],
)
def test_admission_counts_what_running_prompts_still_need(
    count, length, chunk, num_pages, sharing, share, most
):
    pages = PaperPages(num_pages, 16, sharing)
    scheduler = RequestScheduler(count, token_budget=64, chunk_size=chunk, pages=pages)
    for i in range(count):
        scheduler.add_request(Request(i, [i] * length, 16))
    total, preemptions = play(scheduler, 4000)
    assert total <= share * count * (length + 15)
    assert preemptions <= most


def test_a_token_for_a_request_that_does_not_run_is_refused():
    scheduler = RequestScheduler()
    state = scheduler.add_request(Request("a", [1], 1))
    with pytest.raises(ValueError, match="'a' does not run"):
        scheduler.took(state, 5, 0.0)
    computed(scheduler.schedule(), scheduler)
    before = (list(state.token_ids), list(state.token_times), state.finish_reason)
    with pytest.raises(ValueError, match="'a' does not run"):
        scheduler.took(state, 6, 1.0)
    assert (state.token_ids, state.token_times, state.finish_reason) == before


def test_a_finished_request_is_taken_out_and_its_name_is_free_again():
    scheduler = RequestScheduler()
    scheduler.add_request(Request("a", [1], 1))
    with pytest.raises(ValueError, match="'a' is not finished"):
        scheduler.pop("a")
    computed(scheduler.schedule(), scheduler)
    assert scheduler.pop("a").token_ids == [0]
    assert scheduler.finished == {}
    with pytest.raises(ValueError, match="'a' is not finished"):
        scheduler.pop("a")
    scheduler.add_request(Request("a", [1], 1))
    assert len(scheduler.waiting) == 1


def test_what_is_planned_and_taken_back_in_one_pass_is_not_charged():
    """A request is planned, then preempted for another's page in the same pass: its tokens are charged once, when computed."""
    charged = {}

    class Counted(FairShare):
        def charge(self, state, tokens):
            charged[state.name] = charged.get(state.name, 0) + tokens
            super().charge(state, tokens)

    pages = PaperPages(5, 2, sharing=False)
    scheduler = RequestScheduler(4, Counted(), token_budget=64, pages=pages)
    for name in "ab":
        scheduler.add_request(Request(name, [1, 1, 1], 6, client=name))
    computed_tokens = {}
    while scheduler.running or scheduler.waiting:
        planned = scheduler.schedule()
        for state, tokens in planned:
            computed_tokens[state.name] = computed_tokens.get(state.name, 0) + len(tokens)
        computed(planned, scheduler)
    assert charged == computed_tokens


def test_a_plan_that_is_dropped_is_not_charged():
    policy = FairShare()
    scheduler = RequestScheduler(policy=policy)
    scheduler.add_request(Request("a", [1, 2, 3], 2, client="x"))
    scheduler.schedule()
    assert policy.served == {"x": 3.0}
    scheduler.drop_plan()
    assert policy.served == {"x": 0.0}


def test_a_watermark_stays_free_while_others_run():
    pages = PaperPages(10, 4, sharing=False)
    scheduler = RequestScheduler(pages=pages, admission=Admission(watermark=0.2))
    for name in "ab":
        scheduler.add_request(Request(name, [1] * 20, 1))
    assert names(scheduler.schedule()) == [("a", 20)], "5 of 10 pages are free, 2 of them are kept"
    alone = RequestScheduler(pages=PaperPages(10, 4), admission=Admission(watermark=0.2))
    alone.add_request(Request("c", [1] * 40, 1))
    assert names(alone.schedule()) == [("c", 40)], "nothing is kept from a request that runs alone"
    with pytest.raises(ValueError, match="from 0 to below 1, got 1"):
        Admission(watermark=1)


def test_an_admission_that_ignores_what_is_owed_computes_more():
    computed_by = {}
    for owed in (True, False):
        pages = PaperPages(24, 16, sharing=False)
        scheduler = RequestScheduler(
            8, token_budget=64, chunk_size=16, pages=pages, admission=Admission(owed=owed)
        )
        for i in range(8):
            scheduler.add_request(Request(i, [i] * 96, 16))
        computed_by[owed] = play(scheduler, 2000)
    assert computed_by[True][0] < computed_by[False][0]
    assert computed_by[True][1] < computed_by[False][1]
