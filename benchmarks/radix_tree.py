"""What a look-up and an eviction cost in trees of 1,000 to 100,000 pages: `python -m benchmarks.radix_tree [--rounds N]`.

Every tree is full of prompts of 512 tokens, a quarter of which each shares with the 15 others of its group. A sample of `match` takes one
of them at random; its tokens are new objects, as from a tokenizer. A sample of `evict` gives one page up; a fresh page comes
in its place, untimed. Sizes take turns, so that all see the same other load. Bars at 100,000 pages: match under 40 µs,
evict under 20 µs, both within 1.5x of their cost at 1,000 pages.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
from collections.abc import Callable
from time import perf_counter_ns

from benchmarks.record import write
from helpers.caches import RadixTree

SIZES = (1_000, 10_000, 100_000)
PROMPT, SHARED, GROUP = 512, 128, 16
VOCABULARY = 49152

Prompts = list[list[int]]


def filled(num_pages: int, page_size: int, rng: random.Random) -> tuple[RadixTree, Prompts]:
    """A tree of that many pages, and the prompts in it."""
    tree, prompts, used = RadixTree(page_size), [], 0
    while True:
        if len(prompts) % GROUP == 0:
            shared = _tokens(SHARED, rng)
        prompt = shared + _tokens(PROMPT - SHARED, rng)
        known = tree.match(prompt).pages
        new = PROMPT // page_size - len(known)
        if used + new > num_pages:
            rest = num_pages - used
            tree.insert(_tokens(rest * page_size, rng), range(used, num_pages))
            return tree, prompts
        tree.insert(prompt, [*known, *range(used, used + new)])
        used += new
        prompts.append(prompt)


def match(tree: RadixTree, prompts: Prompts, rng: random.Random) -> int:
    """Nanoseconds to look a cached prompt up."""
    prompt = [token + 1 - 1 for token in rng.choice(prompts)]
    begin = perf_counter_ns()
    found = tree.match(prompt)
    took = perf_counter_ns() - begin
    assert found.num_tokens == PROMPT
    return took


def evict(tree: RadixTree, prompts: Prompts, rng: random.Random) -> int:
    """Nanoseconds to give a page up; another text takes it."""
    begin = perf_counter_ns()
    freed = tree.evict(1)
    took = perf_counter_ns() - begin
    tree.insert(_tokens(tree.page_size, rng), freed)
    return took


OPERATIONS: dict[str, Callable[[RadixTree, Prompts, random.Random], int]] = {"match": match, "evict": evict}


def run(page_size: int, rounds: int) -> dict[str, dict[str, list[int]]]:
    """All samples by operation and tree size."""
    rng = random.Random(0)
    trees = {size: filled(size, page_size, rng) for size in SIZES}
    samples: dict[str, dict[str, list[int]]] = {}
    for name, timed in OPERATIONS.items():  # evictions come last: prompts are whole until then
        samples[name] = {str(size): [] for size in SIZES}
        gc.collect()
        gc.disable()
        for _ in range(rounds):
            for size, (tree, prompts) in trees.items():
                samples[name][str(size)].append(timed(tree, prompts, rng))
        gc.enable()
    return samples


def main() -> None:
    """Measures both page sizes, prints medians, writes every sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    rounds = parser.parse_args().rounds
    results = {str(page_size): run(page_size, rounds) for page_size in (1, 16)}
    print(f"{'median µs at pages':<28}" + "".join(f"{size:>10,}" for size in SIZES) + f"{'ratio':>8}")
    for page_size, operations in results.items():
        for name, by_size in operations.items():
            medians = [statistics.median(values) / 1000 for values in by_size.values()]
            cells = "".join(f"{value:10.2f}" for value in medians)
            print(f"{name + ', page size ' + page_size:<28}{cells}{medians[-1] / medians[0]:8.2f}")
    print(write("radix_tree", {"nanoseconds by page size, operation, pages": results}))


def _tokens(count: int, rng: random.Random) -> list[int]:
    """Random tokens."""
    return [rng.randrange(VOCABULARY) for _ in range(count)]


if __name__ == "__main__":
    main()
