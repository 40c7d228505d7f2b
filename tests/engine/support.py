"""Shared by the tests of the engine: requests, pools and passes without a model; routers by name."""

import pickle

from helpers.caches import PagePool
from helpers.engine import PrefixRouter, Request, RequestState, RoundRobinRouter, least_requests, least_tokens
from helpers.simulation import SimulatedEngine

ROUTERS = {
    "round robin": RoundRobinRouter,
    "requests": lambda: least_requests,
    "tokens": lambda: least_tokens,
    "prefix": PrefixRouter,
    "affinity": lambda: PrefixRouter(balance=0.0),
}


def state(name, arrived=0.0, order=None, prompt=(1,), max_tokens=1, **options):
    return RequestState(
        Request(name, list(prompt), max_tokens, **options), arrived, order=name if order is None else order
    )


def drain(policy, now=0.0):
    """Admit all waiting requests; return their names in order of admission."""
    names = []
    while policy:
        first = policy.first(now)
        policy.pop(first)
        names.append(first.name)
    return names


def cached(*texts, size=4):
    """Return a look-up in a pool in which these texts are cached."""
    pool = PagePool(200, size)
    for i, text in enumerate(texts):
        pool.admit(("warm", i), text)
        pool.append(("warm", i), text)
        pool.confirm(("warm", i))
        pool.free(("warm", i))
    return lambda state: pool.cached_tokens(state.text, state.request.salt)


def computed(planned, scheduler, now=0.0):
    """Compute a planned pass on paper: every new token is 0."""
    if scheduler.pages is not None:
        scheduler.pages.commit()
    for state, tokens in planned:
        state.computed += len(tokens)
        if not state.remaining:
            scheduler.took(state, 0, now)


def names(planned):
    """Return the requests of a pass, each with its number of tokens."""
    return [(chunk.state.name, chunk.num_tokens) for chunk in planned]


def size(thing):
    """Return the bytes of all that an object holds, as a pickle has them."""
    return len(pickle.dumps(thing))


def pass_time(load):
    """Return the seconds of a pass, exact in binary."""
    return (8 + load.tokens + load.sequences) / 1024


def engines(count=2, seats=4, pages=2000):
    """Return simulated engines that have served no request."""
    return [
        SimulatedEngine(pass_time, pages, 16, max_batch_size=seats, token_budget=256) for _ in range(count)
    ]
