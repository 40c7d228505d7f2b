"""FlashAttention beside materialised attention and torch's own: `python -m benchmarks.flash_attention [--repeats N]`.

Causal attention of 4096 tokens, 9 heads (with 9 and with 3 heads of keys), head size 64, fp32, on the CPU, with one thread
and with all: everybody computes the same in turns, in one process. Then errors against fp64 by dtype, and peak memory
over the length. Bars: with some tiles at least 3x faster than materialised attention and within 2.5x of
`scaled_dot_product_attention`; errors within twice that of the latter; memory's exponent over 512 to 8192 tokens under
1.1, materialised above 1.9.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.record import write
from helpers import FlashAttention
from helpers.machine import peak_memory
from helpers.ops import materialised_attention

TOKENS, HEADS, DIM = 4096, 9, 64
TILINGS = ((64, 256), (128, 256), (256, 256), (512, 256))
LENGTHS = (512, 1024, 2048, 4096, 8192)
CPU = torch.device("cpu")
Ways = dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]


def naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every score in memory."""
    rows = (t[0].transpose(0, 1) for t in (q, k, v))
    return materialised_attention(*rows, [0, q.shape[2]], [0, k.shape[2]], DIM**-0.5).transpose(0, 1)[None]


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's own attention."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])


def tensors(tokens: int, kv_heads: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Seeded Q, K and V."""
    random = torch.Generator().manual_seed(tokens)
    heads = (HEADS, kv_heads, kv_heads)
    q, k, v = (torch.randn(1, n, tokens, DIM, generator=random).to(dtype) for n in heads)
    return q, k, v


def seconds(
    ways: Ways, qkv: tuple[Tensor, Tensor, Tensor], repeats: int
) -> dict[str, dict[str, list[float]]]:
    """All samples of each way, taken in turns after a run that does not count: by the clock, and of the processor.

    The processor's seconds (all threads together) do not grow when the machine has other work, too.
    """
    for way in ways.values():
        way(*qkv)
    samples: dict[str, dict[str, list[float]]] = {name: {"clock": [], "processor": []} for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            begin, busy = time.perf_counter(), time.process_time()
            way(*qkv)
            samples[name]["clock"].append(time.perf_counter() - begin)
            samples[name]["processor"].append(time.process_time() - busy)
    return samples


def compare(kv_heads: int, threads: int, repeats: int) -> dict[str, Any]:
    """Times of 4096 tokens, and what FlashAttention's are of the others'; each is judged by its best run."""
    torch.set_num_threads(threads)
    ours: Ways = {f"block_size={k}, query_block={q}": FlashAttention(k, q) for k, q in TILINGS}
    ways: Ways = {"materialised": naive, "scaled_dot_product_attention": fused, **ours}
    samples = seconds(ways, tensors(TOKENS, kv_heads), repeats)
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    for kind in ("clock", "processor"):
        best = {name: min(times[kind]) for name, times in samples.items()}
        print(f"{kv_heads} KV heads, {threads} threads, seconds by {kind}:",
              {name: round(value, 3) for name, value in best.items()}, flush=True)  # fmt: skip
        ratios[kind] = {name: _ratios(best, name) for name in ours}
        for name, ratio in ratios[kind].items():
            print("  ", name, {key: round(value, 2) for key, value in ratio.items()}, flush=True)
    return {"seconds": samples, "ratios": ratios}


def _ratios(best: Mapping[str, float], name: str) -> dict[str, float]:
    """One way beside the two others."""
    return {
        "times as fast as materialised": best["materialised"] / best[name],
        "times as long as scaled_dot_product_attention": best[name] / best["scaled_dot_product_attention"],
    }


def errors(kv_heads: int = 3, tokens: int = 1024) -> dict[str, dict[str, float]]:
    """The largest error against fp64 on the same rounded inputs, by dtype."""
    found: dict[str, dict[str, float]] = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        qkv = tensors(tokens, kv_heads, dtype)
        exact = naive(*(t.double() for t in qkv))
        ways: Ways = {
            "FlashAttention": FlashAttention(),
            "scaled_dot_product_attention": fused,
            "materialised": naive,
        }
        found[str(dtype)] = {name: (way(*qkv) - exact).abs().max().item() for name, way in ways.items()}
        print(dtype, found[str(dtype)], flush=True)
    return found


def peak(way: Callable[[Tensor, Tensor, Tensor], Tensor], tokens: int) -> int:
    """Peak bytes beyond the inputs."""
    qkv = tensors(tokens, 3)
    with peak_memory(CPU) as memory:
        way(*qkv)
    return memory.nbytes


def memory() -> dict[str, dict[int, int]]:
    """Peak bytes by length; materialised attention of 8192 tokens would take 5 GB and is left out."""
    found = {"FlashAttention": {n: peak(FlashAttention(), n) for n in LENGTHS}}
    found["scaled_dot_product_attention"] = {n: peak(fused, n) for n in LENGTHS}
    found["materialised"] = {n: peak(naive, n) for n in LENGTHS[:-1]}
    return found


def exponent(line: Mapping[int, float]) -> float:
    """The slope of a line through the logarithms."""
    slope, _ = statistics.linear_regression([math.log(n) for n in line], [math.log(y) for y in line.values()])
    return slope


def main() -> None:
    """Runs everything and writes results/flash_attention.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    every = torch.get_num_threads()
    times = {
        f"{kv_heads} KV heads, {threads} threads": compare(kv_heads, threads, options.repeats)
        for threads in sorted({1, every})
        for kv_heads in (9, 3)
    }
    peaks = memory()
    exponents = {name: exponent(line) for name, line in peaks.items()}
    print("memory's exponent over the length:", {name: round(value, 3) for name, value in exponents.items()})
    results = {"times": times, "errors": errors(), "peak bytes": peaks, "exponents": exponents}
    print(write("flash_attention", results, ("torch", "numpy")))


if __name__ == "__main__":
    main()
