"""Groups of tiny engines, and observers that kill one after some passes."""

from functools import cache

from helpers.caches import PagedKVCache
from helpers.engine import ContinuousBatcher, RoundRobinRouter
from helpers.replicas import ReplicaGroup
from helpers.serving import EngineLoop, Observer
from tests.serving.service import SlowModel, tokenizer


class Kill(Observer):
    """Ends the engine's thread behind a pass, before anyone has been told what the pass brought."""

    def __init__(self, after):
        self.after, self.passes = after, 0

    def passed(self, engine):
        self.passes += bool(engine.running) or bool(engine.finished)
        if self.passes > self.after:
            raise RuntimeError("killed")


@cache
def model(slow):
    """The tiny model, whose weights all replicas of this process share."""
    return SlowModel(slow)


def loop(after=None, slow=0.0, seats=8, max_waiting=64, pages=128):
    """An engine loop of the tiny model; with `after`, its thread dies behind so many passes."""
    used = model(slow)
    engine = ContinuousBatcher(
        used, PagedKVCache.for_model(used, pages, 8), seats, 128, log=1, tokenizer=tokenizer()
    )
    return EngineLoop(engine, max_waiting, None if after is None else Kill(after))


def group(*deaths, router=None, most_deaths=3, **sizes):
    """A group with a replica for each entry: None, or the passes behind which it dies."""
    return ReplicaGroup([loop(after, **sizes) for after in deaths], router or RoundRobinRouter(), most_deaths)


def is_empty(group):
    """Whether no replica has anything left of any call."""
    living = [replica.loop for replica in group.replicas if replica.loop.alive]
    return all(one.engine.cache.used_pages == 0 and not one.engine.finished for one in living) and (
        group.num_answers,
        group.num_requests,
        group.tokens_asked,
    ) == (0, 0, 0)
