"""StaticBatcher: padding changes no token, and every wasted token is counted."""

import random

import pytest

from helpers.caches import PagedKVCache
from helpers.engine import Request, StaticBatcher
from helpers.model import generate
from helpers.traffic import Served
from tests.tiny import reference, twin

MODEL = twin(reference("qwen3"))


def batcher(num_pages=200, page_size=4, sharing=True, **options):
    return StaticBatcher(MODEL, PagedKVCache.for_model(MODEL, num_pages, page_size, sharing), **options)


def alone(request):
    return generate(MODEL, request.prompt_ids, request.max_tokens, stop_ids=request.stop_ids).token_ids


@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize("page_size", [1, 3, 16])
def test_every_request_gets_the_tokens_of_its_own_run(page_size, sharing):
    rng, many = random.Random(page_size), []
    for i in range(11):
        prompt = [1, 2, 3, 4][: rng.randrange(5)] + [rng.randrange(97) for _ in range(rng.randrange(1, 20))]
        many.append(Request(i, prompt, rng.randrange(1, 9), stop_ids=[rng.randrange(97)]))
    served = batcher(200, page_size, sharing, max_batch_size=4)
    for request in many:
        served.add_request(request)
    done = served.run()
    for request in many:
        state = done[request.request_id]
        assert state.token_ids == alone(request)
        assert state.finish_reason == ("stop" if state.token_ids[-1] in request.stop_ids else "length")
        assert len(state.token_times) == len(state.token_ids)
    assert served.cache.pool.num_used == 0


def test_everything_computed_is_counted():
    """Prompts of 3, 7 and 5 tokens, answers of 4, 1 and 6: three rows of 7, then five passes of three."""
    served = batcher()
    lengths = [(3, 4), (7, 1), (5, 6)]
    for i, (prompt, answer) in enumerate(lengths):
        served.add_request(Request(i, list(range(1, prompt + 1)), answer))
    chosen = served.process_batch()
    assert [sum(part.num_tokens for part in step.parts) for step in served.steps] == [21, 3, 3, 3, 3, 3]
    assert [part.start for part in served.steps[1].parts] == [3, 7, 5], (
        "an answer stands behind its own prompt"
    )
    assert [part.decode for part in served.steps[0].parts] == [False] * 3
    assert all(part.decode for step in served.steps[1:] for part in step.parts)
    assert [served.finished[i].tokens_computed for i in range(3)] == [12] * 3
    assert sorted(name for name, _ in chosen) == [0] * 4 + [1] + [2] * 6
    seen = Served.of(served)
    assert (seen.computed, seen.needed, seen.answered) == (36, 15 + 11 - 3, 11)
    assert served.process_batch() == []


def test_the_next_batch_waits_for_the_longest():
    now = iter(range(1000))
    served = batcher(max_batch_size=2, clock=lambda: float(next(now)))
    for i, answer in enumerate((2, 9, 1)):
        served.add_request(Request(i, [1, 2], answer))
    done = served.run()
    assert done[2].first_scheduled > done[1].token_times[-1]
    assert done[0].token_times[-1] < done[1].token_times[-1]
    assert done[0].ttft > 0


def test_samples_are_those_of_any_other_batch():
    def draws(seats):
        served = batcher(max_batch_size=seats)
        for i in range(3):
            served.add_request(Request(i, [4, 5, 6 + i], 5, temperature=2.0, seed=i))
        return {name: state.token_ids for name, state in served.run().items()}

    assert draws(1) == draws(3)


def test_what_does_not_fit_is_refused_before_anything_changes():
    served = batcher(num_pages=9)
    for i, answer in enumerate((1, 9)):
        served.add_request(Request(i, [1] * 8, answer))
    assert served.process_batch()  # 2 rows of 16 tokens: 8 pages
    served.add_request(Request(2, [1] * 12, 9))
    served.add_request(Request(3, [1], 1))
    with pytest.raises(ValueError, match="2 rows of 20 tokens need 10 pages"):
        served.process_batch()
    assert len(served.waiting) == 2
    assert served.cache.pool.num_used == 0
    long = batcher(num_pages=200, page_size=16)
    long.add_request(Request(0, [1] * 200, 57))
    assert long.process_batch(), "just fits the model's 256 positions"
    long.add_request(Request(1, [1] * 200, 58))
    with pytest.raises(ValueError, match="256 positions"):
        long.process_batch()
    assert len(long.waiting) == 1
    assert len(long.steps) == 57, "the second one has not begun"


def test_names_and_sizes_are_checked():
    served = batcher()
    served.add_request(Request("a", [1], 1))
    with pytest.raises(ValueError, match="is here already"):
        served.add_request(Request("a", [1], 1))
    served.run()
    with pytest.raises(ValueError, match="is here already"):
        served.add_request(Request("a", [1], 1))
    with pytest.raises(ValueError, match="max_batch_size"):
        batcher(max_batch_size=0)
