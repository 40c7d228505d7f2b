"""What goes wrong in a pass fails only the request at fault, and no request waits for ever."""

import math

import pytest

import helpers.engine.batching
from helpers.caches import PagedKVCache
from helpers.engine import ContinuousBatcher, FirstComeFirstServed, Request
from helpers.model import generate
from tests.tiny import reference, twin

MODEL = twin(reference("qwen3"))


def engine(num_pages=60, page_size=4, **options):
    return ContinuousBatcher(MODEL, PagedKVCache.for_model(MODEL, num_pages, page_size), **options)


def alone(request):
    return generate(MODEL, request.prompt_ids, request.max_tokens).token_ids


def asked(count=3):
    return [Request(i, [1, 2, 3, 4, 5, 6, i], 6) for i in range(count)]


def begin(batcher, requests):
    for request in requests:
        batcher.add_request(request)
    return batcher


def check(batcher, requests):
    for request in requests:
        state = batcher.finished[request.request_id]
        assert (state.finish_reason, state.error) == ("length", "")
        assert state.token_ids == alone(request)
    assert batcher.cache.pool.num_used == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("after", [0, 2])
def test_a_request_whose_logits_are_no_numbers_fails_alone(monkeypatch, temperature, after):
    good, original = asked(), MODEL.compute

    def broken(batch, cache, logits="last"):
        rows = original(batch, cache, logits).clone()
        if "bad" in batch.seq_ids and batch.seq_lens[batch.seq_ids.index("bad")] >= 4 + after:
            rows[batch.seq_ids.index("bad")] = math.nan
        return rows

    batcher = begin(engine(), [*good[:2], Request("bad", [9, 8, 7, 6], 6, temperature=temperature), good[2]])
    monkeypatch.setattr(MODEL, "compute", broken)
    batcher.run()
    monkeypatch.undo()
    bad = batcher.finished["bad"]
    assert (bad.finish_reason, len(bad.token_ids)) == ("failed", after)
    assert bad.error == "ValueError: the logits of request 'bad' are not a number (NaN)"
    check(batcher, good)


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("passes", [0, 1, 3])
@pytest.mark.parametrize("where", ["before the model", "after the model", "choosing"])
def test_an_interrupt_loses_nothing(monkeypatch, where, passes):
    """A learner who stops a cell can run it again."""
    requests, original = asked(), MODEL.compute
    batcher = begin(engine(chunk_size=5), requests)
    for _ in range(passes):
        batcher.process_batch()

    def late(*given, **options):
        original(*given, **options)
        raise KeyboardInterrupt

    if where == "choosing":
        monkeypatch.setattr(helpers.engine.batching, "choose", interrupted)
    else:
        monkeypatch.setattr(MODEL, "compute", late if where == "after the model" else interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            batcher.run()
    monkeypatch.undo()
    batcher.run()
    check(batcher, requests)


def test_an_interrupt_while_samples_fork_loses_nothing(monkeypatch):
    batcher = engine()
    batcher.add_samples(Request("q", [1, 2, 3, 4, 5, 6], 6, temperature=2.0), 3)
    monkeypatch.setattr(helpers.engine.batching, "choose", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batcher.run()
    monkeypatch.undo()
    done = batcher.run()
    undisturbed = engine()
    undisturbed.add_samples(Request("q", [1, 2, 3, 4, 5, 6], 6, temperature=2.0), 3)
    expected = {name: state.token_ids for name, state in undisturbed.run().items()}
    assert {name: state.token_ids for name, state in done.items()} == expected


@pytest.mark.parametrize(
    ("request_", "needed"),
    [(Request("a", [1] * 14, 3), 4), (Request("a", [1] * 10, 10), 4)],
    ids=["too long at once", "outgrows it"],
)
def test_pages_that_no_request_holds_are_not_waited_for(request_, needed):
    batcher = engine(num_pages=6)
    held = [batcher.cache.allocate_page() for _ in range(3)]
    small = Request("b", [1, 2, 3], 3)
    begin(batcher, [request_, small])
    for _ in range(20):  # not `run`: it would never end
        batcher.process_batch()
    done = batcher.finished
    assert done["a"].finish_reason == "failed"
    assert done["a"].error == (
        f"OutOfPages: request 'a' needs {needed} more pages, 3 of the pool's 6 are free, "
        "and no request runs that could free pages"
    )
    assert done["b"].token_ids == alone(small)
    for page in held:
        batcher.cache.free_page(page)
    again = Request("c", request_.prompt_ids, request_.max_tokens)
    assert begin(batcher, [again]).run()["c"].token_ids == alone(again)


def test_a_request_waits_for_pages_of_running_requests():
    requests = [Request("a", [1] * 10, 8), Request("b", [2] * 12, 6)]
    batcher = begin(engine(num_pages=5), requests)
    batcher.run()
    check(batcher, requests)


def test_room_that_a_failed_pass_had_shared_is_found_later(monkeypatch):
    """The second one counted on the first one's pages, which are no longer there."""
    prompt, original = list(range(20)), MODEL.compute
    requests = [Request("a", [*prompt, 1], 2), Request("b", [*prompt, 2], 2)]
    batcher = begin(engine(num_pages=7), requests)
    failed = []

    def failing(batch, cache, logits="last"):
        if not failed:
            failed.append(batch.seq_ids)
            raise RuntimeError("a bit fell over")
        return original(batch, cache, logits)

    monkeypatch.setattr(MODEL, "compute", failing)
    batcher.run()
    monkeypatch.undo()
    assert failed == [("a", "b")]
    check(batcher, requests)


def test_a_policy_that_raises_loses_nothing():
    class Moody(FirstComeFirstServed):
        def first(self, now):
            if next(moods):
                raise RuntimeError("not now")
            return super().first(now)

    moods, requests = iter([False, True, True] * 100), asked()
    batcher, raised = begin(engine(chunk_size=5, max_batch_size=2, policy=Moody()), requests), 0
    while batcher.waiting or batcher.running:
        try:
            batcher.process_batch()
        except RuntimeError:
            raised += 1
    assert raised > 1
    check(batcher, requests)


def test_a_sample_that_finds_no_page_to_copy_after_a_failed_pass_waits(monkeypatch):
    """Two samples share full pages, the pool is full, and no token can be chosen: to compute the last one again takes a copy."""
    asked_, original, failed = Request("q", [1, 2, 3, 4, 5, 6, 7, 8], 1), helpers.engine.batching.choose, []

    def once(*given):
        if not failed:
            failed.append(True)
            raise RuntimeError("a bit fell over")
        return original(*given)

    batcher, neighbour = engine(num_pages=3), Request("n", [9, 9], 2)
    batcher.add_samples(asked_, 2)
    batcher.add_request(neighbour)
    monkeypatch.setattr(helpers.engine.batching, "choose", once)
    done = batcher.run()
    assert failed
    assert [done["q", i].token_ids for i in range(2)] == [alone(asked_)] * 2
    assert done["n"].token_ids == alone(neighbour)
    assert batcher.cache.pool.num_used == 0


def test_a_listener_that_raises_stops_the_run_only():
    requests = asked()
    batcher = begin(engine(), requests)

    def deaf(name, token):
        raise RuntimeError("no line")

    with pytest.raises(RuntimeError, match="no line"):
        batcher.run(on_token=deaf)
    batcher.run()
    check(batcher, requests)
