"""One batcher through thousands of requests: its memory does not grow with what it has served.

`COURSE_SOAK=200000` serves so many requests instead of 4,000, which takes minutes.
"""

import gc
import os
import random
from types import FunctionType, ModuleType

import pytest

from helpers.engine import ContinuousBatcher, FairShare, Request
from helpers.estimates import Ceilings
from helpers.model import PUBLISHED
from helpers.simulation import PaperModel
from helpers.traffic import VirtualClock
from tests.engine.support import size

COUNT = int(os.environ.get("COURSE_SOAK", "4000"))
LOG = 64


def batcher(policy):
    """Return a batcher on paper whose pool is too small for the requests that run together."""
    clock = VirtualClock()
    model = PaperModel(PUBLISHED["SmolLM2-135M"], Ceilings(1.0, 1.0), clock)
    return ContinuousBatcher(model, model.cache(24, 4), 8, 64, 16, policy, clock, LOG)


def asked(number, rng):
    """Return a request of one of 50 clients; each client comes back under one of many names."""
    client = f"client {rng.randrange(50)} of group {number // 500}"
    return Request(number, [0] * rng.randrange(1, 24), rng.randrange(1, 24), client=client)


def serve(served, numbers, rng):
    """Serve requests, pop each, and cancel some; return cancellations, preemptions and most accounts at a time."""
    coming, cancelled, preempted, accounts, here = iter(numbers), 0, 0, 0, True
    while here or served.waiting or served.running:
        while len(served.waiting) < 8 and here:
            here = (number := next(coming, None)) is not None
            if here:
                served.add_request(asked(number, rng))
                if rng.random() < 0.05:
                    served.cancel(rng.choice([*served.waiting, *served.running]).name)
        served.process_batch()
        assert len(served.finished) <= 24, "earlier requests were popped"
        accounts = max(accounts, len(served.scheduler.policy.served))
        for name in list(served.finished):
            state = served.pop(name)
            cancelled += state.finish_reason == "cancelled"
            preempted += state.preemptions
            assert state.finish_reason in ("length", "cancelled"), state.error
    return cancelled, preempted, accounts


def held(served):
    """Return the objects that can be reached from a batcher, without the last passes, which differ in size.

    Memory as `tracemalloc` counts it would be that of whoever else runs in this process, too.
    """
    assert len(served.steps) == LOG
    served.steps.clear()
    seen, ahead = {}, [served]
    while ahead:
        thing = ahead.pop()
        if id(thing) not in seen and not isinstance(thing, (type, ModuleType, FunctionType)):
            seen[id(thing)] = thing
            ahead += gc.get_referents(thing)
    return len(seen)


def test_memory_does_not_grow_with_the_requests_served():
    rng, policy = random.Random(1), FairShare()
    served = batcher(policy)
    first = serve(served, range(COUNT // 4), rng)
    quarter, small = held(served), size(policy)
    second = serve(served, range(COUNT // 4, COUNT), rng)
    assert held(served) == pytest.approx(quarter, rel=0.05)
    assert first[0] + second[0] > COUNT / 50, "requests are cancelled"
    assert first[1] + second[1] > COUNT / 50, "requests are preempted"
    assert max(first[2], second[2]) <= 60, "hardly more accounts than clients with requests"
    assert size(policy) < small + 200
    assert (served.finished, served.cache.used_pages) == ({}, 0)
