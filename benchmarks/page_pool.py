"""What the operations of a page pool cost, in pools of 1,000 to 100,000 pages.

Run `python -m benchmarks.page_pool`. Every pool, but for a few blank pages, is full of cached 512-token prompts.
Each sample takes one of them at random, so that a large pool pays for its memory as it would in service. The
tokens are new objects each time, as from a tokenizer.
"""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable
from time import perf_counter_ns

from benchmarks.record import write
from helpers.caches import PagePool

SIZES = (1_000, 10_000, 100_000)
PAGE, PROMPT, ROUNDS, BLANK, DUPLICATES = 16, 512, 300, 64, 8_000

Timed = Callable[[PagePool, list[int], random.Random], int]
OPERATIONS: dict[str, Timed] = {}


def operation(function: Timed) -> Timed:
    """Enter a function under its docstring; return the function.

    It returns the nanoseconds of one operation, and leaves the pool as full as before.
    """
    OPERATIONS[str(function.__doc__)] = function
    return function


def clocked(call: Callable[[], object]) -> int:
    """Return the nanoseconds that a call takes."""
    start = perf_counter_ns()
    call()
    return perf_counter_ns() - start


@operation
def cycle(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """Cached prompt: admit, append the last page, free."""
    start = perf_counter_ns()
    cached = pool.admit("x", prompt)
    pool.append("x", prompt[cached:])
    pool.free("x")
    took = perf_counter_ns() - start
    assert cached == PROMPT - PAGE
    return took


@operation
def look_up(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """Cached prompt: look up."""
    return clocked(lambda: pool.cached_tokens(prompt))


@operation
def admit(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """Cached prompt: admit."""
    took = clocked(lambda: pool.admit("x", prompt))
    pool.free("x")
    return took


@operation
def free(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """Cached prompt: free."""
    pool.admit("x", prompt)
    return clocked(lambda: pool.free("x"))


@operation
def evict(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """New prompt: append 32 pages, 32 evicted."""
    new = [rng.randrange(49152) for _ in range(PROMPT)]
    if "blank pages" not in pool.requests:
        pool.admit("blank pages", [])
        pool.append_anonymous("blank pages", PAGE * (pool.num_free - pool.stats().cached))
    pool.admit("x", [])
    took = clocked(lambda: pool.append("x", new))
    pool.confirm("x")
    pool.free("x")
    return took


@operation
def decode(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """Decode: confirm, append a token (each of 16)."""
    pool.append("x", prompt[pool.admit("x", prompt) :])

    def steps() -> None:
        for token in range(PAGE):
            pool.confirm("x")
            pool.append("x", [token])

    took = clocked(steps) // PAGE
    pool.free("x")
    return took


@operation
def fork(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """Fork 33 pages, append with a copy, free."""
    pool.append("x", [*prompt[pool.admit("x", prompt) :], 1])
    pool.confirm("x")

    def life() -> None:
        pool.fork("x", "y")
        pool.append("y", [2])
        pool.free("y")

    took = clocked(life)
    pool.free("x")
    return took


@operation
def truncate(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """Truncate 31 pages by 1."""
    pool.admit("x", prompt)
    took = clocked(lambda: pool.truncate("x", 30 * PAGE))
    pool.free("x")
    return took


@operation
def rollback(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """Rollback of a page that another request hit."""
    longer = [*prompt, *(rng.randrange(49152) for _ in range(PAGE)), 1]
    pool.append("x", longer[pool.admit("x", longer) :])
    assert pool.admit("y", longer) == PROMPT + PAGE
    took = clocked(lambda: pool.rollback("x"))
    pool.free("y")
    pool.free("x")
    return took


@operation
def slots(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """Slots of 512 tokens."""
    pool.append("x", prompt[pool.admit("x", prompt) :])
    took = clocked(lambda: pool.slots("x", 0, PROMPT))
    pool.free("x")
    return took


@operation
def free_duplicates(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """Free 8,000 duplicate pages."""
    own = PagePool(2 * DUPLICATES, 1)  # a pool of its own, because not every other has so many pages
    text = [rng.randrange(49152) for _ in range(DUPLICATES)]
    for name in "xy":
        own.admit(name, text)
    for name in "xy":
        own.append(name, text)
    own.confirm("x", "y")
    took = clocked(lambda: own.free("y"))
    assert (own.num_free, own.stats().cached) == (DUPLICATES, 0)
    return took


@operation
def stats(pool: PagePool, prompt: list[int], rng: random.Random) -> int:
    """Statistics."""
    return clocked(pool.stats)


def filled(num_pages: int, rng: random.Random) -> tuple[PagePool, list[list[int]]]:
    """Return a pool with a cached prompt in every 32 pages, and the prompts."""
    pool = PagePool(num_pages, PAGE)
    prompts = [
        [rng.randrange(49152) for _ in range(PROMPT)] for _ in range((num_pages - BLANK) * PAGE // PROMPT)
    ]
    for prompt in prompts:
        pool.admit("x", prompt)
        pool.append("x", prompt)
        pool.confirm("x")
        pool.free("x")
    return pool, prompts


def run(rounds: int = ROUNDS) -> dict[str, dict[str, list[int]]]:
    """Return the nanoseconds of each sample by operation and pool size.

    Sizes take turns, so that all see the same other load.
    """
    samples: dict[str, dict[str, list[int]]] = {}
    for name, timed in OPERATIONS.items():
        rng = random.Random(0)
        pools = {size: filled(size, rng) for size in SIZES}
        samples[name] = {str(size): [] for size in SIZES}
        gc.collect()
        gc.disable()
        for _ in range(rounds):
            for size, (pool, prompts) in pools.items():
                prompt = [token + 1 - 1 for token in rng.choice(prompts)]
                samples[name][str(size)].append(timed(pool, prompt, rng))
        gc.enable()
    return samples


def main() -> None:
    """Measure, print medians, write every sample."""
    samples = run()
    print(f"{'median µs at pages':<58}" + "".join(f"{size:>10,}" for size in SIZES) + f"{'ratio':>8}")
    for name, by_size in samples.items():
        medians = [statistics.median(values) / 1000 for values in by_size.values()]
        print(
            f"{name:<58}"
            + "".join(f"{value:10.2f}" for value in medians)
            + f"{medians[-1] / medians[0]:8.2f}"
        )
    settings = {"page_size": PAGE, "prompt_tokens": PROMPT, "rounds": ROUNDS}
    print(write("page_pool", {"settings": settings, "nanoseconds by operation, pages": samples}))


if __name__ == "__main__":
    main()
