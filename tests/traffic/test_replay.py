"""A replayed trace: requests come when they are due, and follow others behind the text as it came out."""

import math

import pytest

from helpers.engine import Request, RequestState
from helpers.traffic import Arrival, Coming, Trace, VirtualClock, replay_trace


class Echo:
    """Serves one request at a time, in a second for each token of its answer; every token is 7. `failing` requests get none."""

    def __init__(self, clock, failing=()):
        self.clock, self.failing, self.waiting, self.finished = clock, failing, [], {}

    def add_request(self, request):
        self.waiting.append(RequestState(request, self.clock()))

    def process_batch(self):
        state = self.waiting.pop(0)
        fails, count = state.name in self.failing, state.request.max_tokens
        self.clock.advance(count)
        state.token_ids = [] if fails else [7] * count
        state.ended, state.finish_reason = self.clock(), "failed" if fails else "length"
        self.finished[state.name] = state


def replayed(*arrivals, failing=()):
    """What the echo has finished, what was answered without it, and when all was done."""
    clock = VirtualClock()
    batcher = Echo(clock, failing)
    nothing = replay_trace(Trace(arrivals), batcher, clock, vocab_size=50)
    assert batcher.waiting == []
    return batcher.finished, nothing, clock.now


def test_requests_come_when_they_are_due_or_when_the_request_that_they_follow_is_done():
    found, nothing, end = replayed(
        Arrival(1.0, 4, 3), Arrival(2.0, 9, 2, follows=0), Arrival(9.0, 30, 1, follows=1), Arrival(9.5, 3, 1)
    )
    assert [found[i].arrived for i in range(4)] == [1.0, 4.0, 9.0, 9.5], "9.5 lies within the third's pass"
    assert [found[i].ended for i in range(4)] == [4.0, 6.0, 10.0, 11.0]
    assert (nothing, end) == ([], 11.0)


def test_a_prompt_begins_with_the_text_that_came_out():
    found, _, _ = replayed(Arrival(0.0, 4, 3), Arrival(0.0, 9, 2, follows=0), Arrival(0.0, 30, 1, follows=1))
    for i in (1, 2):
        before, prompt = found[i - 1].text, found[i].request.prompt_ids
        assert list(prompt[: len(before)]) == [*before]
        assert list(before[-2:]) == [7, 7]
    assert [len(found[i].request.prompt_ids) for i in range(3)] == [4, 9, 30]


def test_a_request_that_follows_a_failed_one_comes_with_its_full_length():
    found, _, _ = replayed(Arrival(0.0, 4, 3), Arrival(0.0, 9, 2, follows=0), failing={0})
    assert (found[0].finish_reason, found[1].finish_reason) == ("failed", "length")
    assert list(found[1].request.prompt_ids[:4]) == list(found[0].request.prompt_ids)
    assert len(found[1].request.prompt_ids) == 9


def test_a_request_for_no_token_is_answered_when_it_comes_without_the_batcher():
    found, (nothing,), _ = replayed(Arrival(0.0, 4, 3), Arrival(0.5, 6, 0, client="c"), Arrival(1.0, 4, 1))
    assert sorted(found) == [0, 2]
    assert (nothing.name, nothing.client, nothing.arrived, nothing.ended) == (1, "c", 0.5, 0.5)
    assert (nothing.new_tokens, nothing.ttft, nothing.served) == (0, None, True)


def test_a_cap_above_the_true_length_is_refused_before_anything_is_served():
    clock = VirtualClock()
    batcher = Echo(clock)
    with pytest.raises(ValueError, match="arrival 1 would not end at its true length"):
        replay_trace(
            Trace([Arrival(0.0, 4, 3, max_tokens=3), Arrival(1.0, 4, 3, max_tokens=4)]), batcher, clock
        )
    assert (clock.now, batcher.waiting, batcher.finished) == (0.0, [], {})


def test_the_next_request_is_the_one_that_is_due_first():
    coming = Coming(Trace([Arrival(0.0, 4, 3), Arrival(1.0, 50, 1, follows=0), Arrival(2.0, 4, 1)]))
    assert coming.take() == (0.0, 0, ())
    assert coming.at == 2.0, "the second request waits for the first"
    done = RequestState(Request(0, [1, 2, 3, 4], 3), 0.0)
    done.token_ids, done.ended = [7, 7, 7], 1.5
    coming.done(done)
    at, index, before = coming.take()
    assert (at, index, list(before)) == (1.5, 1, [1, 2, 3, 4, 7, 7, 7])
    assert bool(coming)
    assert coming.take().place == 2
    assert not coming
    assert coming.at == math.inf


def test_a_request_that_follows_one_for_no_token_comes():
    found, nothing, end = replayed(
        Arrival(1.0, 4, 0), Arrival(1.0, 9, 2, follows=0), Arrival(2.0, 12, 1, follows=1)
    )
    assert [outcome.name for outcome in nothing] == [0]
    assert (found[1].arrived, found[2].arrived, end) == (1.0, 3.0, 4.0)
    assert list(found[2].request.prompt_ids[:11]) == list(found[1].text)
