"""The native kernels beside plain torch: `python -m benchmarks.native [--repeats N]`.

Attention of one layer over scattered pages, and whole passes of SmolLM2-135M over them: a decode step of one stream and
of 16 rows. Then decode steps of the same model with weights in fp32, bf16, int8 and int4, each as it serves, in turns. Both ways compute the same input in turns, in one process; a pair gives a ratio, and the median of ratios
counts. With one thread the processor's seconds of that thread count, which other work on the machine does not lengthen.
Bars: attention of 16 rows at contexts of 300 to 600 tokens at least 3x; a decode step of 16 rows at most 60 % of its time.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.record import write
from helpers import PagedKVCache
from helpers.compression import INT4, INT8, Q8_0, Recipe, quantise, weight_nbytes
from helpers.model import FlatBatch, NativePasses, checkpoint
from helpers.native import kernels
from helpers.ops import BlockTables, attention_pages, torch_attention

PAGE, KV, HEADS, DIM = 16, 3, 9, 64
LAYERS = 8  # in turns, so that no layer's pages stay in the caches
ATTENTION = {
    "16 rows of 32": (16, 32, 32, 1, 0),
    "16 rows of 300": (16, 300, 300, 1, 0),
    "16 rows of 300 to 600": (16, 300, 600, 1, 0),
    "16 rows of 600": (16, 600, 600, 1, 0),
    "64 rows of 320 to 400, 256 shared": (64, 320, 400, 1, 256),
    "1 row of 300 to 600": (1, 300, 600, 1, 0),
    "4 chunks of 16 at 300 to 600": (4, 300, 600, 16, 0),
    "a prompt of 512": (1, 512, 512, 512, 0),
}
STEPS = {"1 row at 32": (1, 32), "4 rows at 32": (4, 32), "16 rows at 300 to 600": (16, 450)}


def clock() -> float:
    """Seconds: this thread's own with one thread, else by the clock."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def pairs(old: Callable[[int], object], new: Callable[[int], object], repeats: int) -> dict[str, Any]:
    """Return all samples of both in turns, and the median of their ratios."""
    samples: dict[str, list[float]] = {"plain": [], "native": []}
    for i in range(repeats):
        for name, way in (("plain", old), ("native", new)):
            begin = clock()
            way(i)
            samples[name].append(clock() - begin)
    ratios = [a / b for a, b in zip(samples["plain"], samples["native"], strict=True)]
    return {"seconds": samples, "times as fast": statistics.median(ratios)}


def attention(
    rows: int, least: int, most: int, new: int, shared: int, dtype: torch.dtype, repeats: int
) -> dict[str, Any]:
    """Return the samples of one layer's attention over scattered pages."""
    rng = random.Random(0)
    lens = [rng.randint(least, most) for _ in range(rows)]
    pages = list(range(sum(-(-n // PAGE) for n in lens)))
    rng.shuffle(pages)
    common = [pages.pop() for _ in range(shared // PAGE)]
    tables = [common + [pages.pop() for _ in range(-(-n // PAGE) - len(common))] for n in lens]
    pool = (LAYERS, max(map(max, tables)) + 1, PAGE, KV, DIM)
    k, v = (torch.randn(pool).to(dtype) for _ in "kv")
    q, starts = torch.randn(rows * new, HEADS, DIM).to(dtype), tuple(range(0, rows * new + 1, new))
    block_tables = BlockTables(tables, lens, PAGE)

    def way(operator: Callable[..., object]) -> Callable[[int], object]:
        return lambda i: operator(q, k[i % LAYERS], v[i % LAYERS], block_tables, starts, DIM**-0.5)

    way(torch_attention.attention_pages)(0), way(attention_pages)(0)  # warm up
    return pairs(way(torch_attention.attention_pages), way(attention_pages), repeats)


def step(model: Any, native: NativePasses, rows: int, context: int, repeats: int) -> dict[str, Any]:
    """Return the samples of a decode step: operators with plain attention, and one native call."""
    rng, chunk = random.Random(0), 32
    spread = 0 if context < 64 else 150
    lens = [context + rng.randint(-spread, spread) for _ in range(rows)]
    cache = PagedKVCache.for_model(model, sum(n // PAGE + 2 for n in lens))
    for done in range(0, max(lens), chunk):  # sequences grow in turns: no sequence's pages are neighbours
        todo = [(i, min(chunk, n - done)) for i, n in enumerate(lens) if n > done]
        texts = [[rng.randrange(100, 40_000) for _ in range(count)] for _, count in todo]
        model(FlatBatch.pack(texts, [done] * len(todo), [i for i, _ in todo]), cache)
    batch = FlatBatch.pack([[7]] * rows, lens)
    cache.prepare(batch)

    def by_operators(_: int) -> None:
        model.native_passes = None
        model.compute(batch, cache)

    def plainly(_: int) -> None:
        with patch("helpers.native.page_attention.serves", lambda *_: False):
            by_operators(0)

    def natively(_: int) -> None:
        model.native_passes = native
        model.compute(batch, cache)

    found = pairs(plainly, natively, repeats)
    found["times operators with native attention"] = pairs(by_operators, natively, repeats)["times as fast"]
    return found


FORMATS = {
    "int8": Recipe(INT8, head=INT8),
    "int8 by int8": Recipe(INT8, head=INT8, activations="token"),
    "int4": Recipe(INT4, head=Q8_0),
}


def streams(models: dict[str, Any], rows: int, repeats: int) -> dict[str, Any]:
    """Return the samples of decode steps of some rows behind 32 tokens, the models in turns, beside fp32's."""
    samples: dict[str, list[float]] = {name: [] for name in models}
    ways = {}
    for name, model in models.items():
        cache = PagedKVCache.for_model(model, 4 * rows, PAGE)
        for row in range(rows):
            model(FlatBatch.pack([[100 + row] * 32], None, [row]), cache)
        ways[name] = (model, cache, FlatBatch.pack([[7]] * rows, [32] * rows))
        cache.prepare(ways[name][2])
    for _ in range(repeats):
        for name, (model, cache, batch) in ways.items():
            begin = clock()
            model.compute(batch, cache)
            samples[name].append(clock() - begin)
    ratios = {
        name: statistics.median(a / b for a, b in zip(samples["fp32"], times, strict=True))
        for name, times in samples.items()
    }
    speeds = {name: rows / statistics.median(times) for name, times in samples.items()}
    return {"seconds": samples, "times fp32": ratios, "tokens/s": speeds}


def measure_streams(results: dict[str, Any], repeats: int) -> None:
    """Print and add what decode steps take with each format of weights."""
    models = {"fp32": checkpoint.load(device="cpu").model}
    models["bf16"] = checkpoint.load(torch.bfloat16, device="cpu").model
    models |= {name: quantise(models["fp32"], recipe) for name, recipe in FORMATS.items()}
    for rows in (1, 16):
        found = results[f"streams, {rows}"] = streams(models, rows, repeats)
        for name, model in models.items():
            speed, ratio = found["tokens/s"][name], found["times fp32"][name]
            print(
                f"{rows:>3} rows, {name:<14} {speed:8.1f} tokens/s {ratio:5.2f} x fp32, "
                f"{weight_nbytes(model) / 1e6:6.0f} MB, passes {model.native_passes or 'by operators'}"
            )


def main() -> None:
    """Measures attention and steps in both types, and writes results/native.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=16)
    repeats = parser.parse_args().repeats
    if kernels().functions is None:
        raise SystemExit(f"there is nothing to compare: native kernels {kernels().reason}")
    results: dict[str, Any] = {}
    measure_streams(results, repeats)
    for dtype in (torch.float32, torch.bfloat16):
        model = checkpoint.load(dtype, device="cpu").model
        native = model.native_passes
        for name, sizes in ATTENTION.items():
            results[f"attention, {name}, {dtype}"] = attention(*sizes, dtype=dtype, repeats=3 * repeats)
        for name, (rows, context) in STEPS.items() if native is not None else ():
            native.most = 64
            results[f"decode step, {name}, {dtype}"] = step(model, native, rows, context, repeats)
    for name, entry in results.items():
        if "times as fast" not in entry:
            continue
        medians = {way: 1e3 * statistics.median(values) for way, values in entry["seconds"].items()}
        print(
            f"{name:<60} {medians['plain']:8.2f} ms {medians['native']:8.2f} ms {entry['times as fast']:5.2f} x"
        )
    print(write("native", {"kernels": kernels().reason, "samples": results}))


if __name__ == "__main__":
    main()
