"""Many clients, many of which leave: nothing is lost, nothing is left.

`COURSE_SOAK=1000` sets the number of random disconnects; without it they are few.
"""

import gc
import os
import random
import threading

from helpers.engine import BoundedPrefixRouter, RoundRobinRouter
from helpers.replicas import make_group_service
from helpers.serving import Answers
from helpers.serving.clients import Loopback, at_once, completion, open_loop
from helpers.traffic import Lengths, Mix, multi_turn
from tests.serving.service import NAME, SIZES, alone, is_empty, model, running, tokenizer, until

CALLS = int(os.environ.get("COURSE_SOAK", "60"))


def test_random_disconnects_leave_nothing_behind():
    rng, threads, left = random.Random(3), set(threading.enumerate()), 0
    with running(max_waiting=64, num_pages=256) as server:
        while left < CALLS:
            prompts = [f"Number {rng.randrange(50)} of" for _ in range(20)]
            sizes = [rng.randrange(4, 24) for _ in prompts]
            leaves = [rng.choice((None, 1, 2, 5)) for _ in prompts]
            leaves = [
                leave if leave is None or leave < size - 2 else None
                for leave, size in zip(leaves, sizes, strict=True)
            ]
            heard = at_once(
                server.url, [completion(*pair) for pair in zip(prompts, sizes, strict=True)], leaves
            )
            for one, prompt, size, leave in zip(heard, prompts, sizes, leaves, strict=True):
                left += leave is not None
                if leave is None:
                    assert one.text == alone(prompt, size, ignore_eos=True).answer
                else:
                    assert one.finish_reason is None
            until(lambda: is_empty(server))
            assert not server.service.loop.engine.finished
        del heard, one
        until(lambda: not _calls())
    assert set(threading.enumerate()) <= threads


def _calls():
    """Answers that something still holds."""
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, Answers)]


def test_two_hundred_streams_at_once_are_each_as_generate_answers():
    prompts = [f"Prompt {i % 40} " + "word " * (i % 7) for i in range(200)]
    with running(max_batch_size=32, max_waiting=200, num_pages=512) as server:
        heard = at_once(server.url, [completion(prompt, 3 + i % 8) for i, prompt in enumerate(prompts)])
    expected = {}
    for i, prompt in enumerate(prompts):
        key = prompt, 3 + i % 8
        if key not in expected:
            expected[key] = alone(*key, ignore_eos=True).answer
        assert heard[i].text == expected[key]


def test_a_bound_keeps_conversations_where_their_text_is():
    # An engine's pages hold a third of all conversations: sent in turn, they displace each other.
    talks = multi_turn(12, 200.0, turns=6, think=0.01, mix=Mix(Lengths(24, 0.3, 16, 40), Lengths(6)), seed=3)
    rates, worst = {}, 0

    def watched(request, engines):
        nonlocal worst
        chosen = bound(request, engines)
        loads = [engine.tokens_asked for engine in engines]
        worst = max(worst, loads[chosen] - min(loads))
        return chosen

    bound = BoundedPrefixRouter(400)
    for name, router in (("in turn", RoundRobinRouter()), ("bound", watched)):
        service = make_group_service(model(), tokenizer(), NAME, 4, router, **{**SIZES, "num_pages": 64})
        with Loopback(service) as server:
            report = open_loop(server.url, talks, model().cfg.vocab_size)
        assert all(outcome.served for outcome in report.outcomes)
        rates[name] = report.hit_rate
    assert rates["bound"] >= 2 * rates["in turn"], rates
    assert worst <= 400
