"""A single stream's decode step with `KVCache` beside `transformers.generate`: `python -m benchmarks.decode [--repeats N]`.

Both decode greedily after the same prompt, in turns, in one process with the same threads. A sample is the mean time of a
decode step over 32 tokens. Bars: flat to within 15 % from 32 to 512 tokens; fp32 at least 1.5x at 512 and 1.2x at 32, bf16
1.65x and 1.4x.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from benchmarks.record import write
from helpers import InferenceProfiler
from helpers.model import checkpoint

NEW_TOKENS = 33
CONTEXTS = (32, 128, 256, 512)


def ours(model: Any, tokenizer: Any, prompt: list[int]) -> float:
    """Seconds per decode step."""
    return InferenceProfiler(warmup=0).profile_generation(model, tokenizer, prompt, NEW_TOKENS).tpot


def theirs(model: Any, prompt: list[int]) -> float:
    """Seconds per decode step of `generate`: its whole time less that of a generation of one token."""
    ids = torch.tensor([prompt])
    options = dict(attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, eos_token_id=None)
    times = []
    for count in (1, NEW_TOKENS):
        begin = time.perf_counter()
        model.generate(ids, max_new_tokens=count, **options)
        times.append(time.perf_counter() - begin)
    return (times[1] - times[0]) / (NEW_TOKENS - 1)


def compare(dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """All samples of both, by context."""
    model, tokenizer = checkpoint.load(dtype)
    tokenizer.eos_token_id, model.end_tokens = None, ()  # forced lengths
    reference = checkpoint.load_reference(dtype)
    samples: dict[str, Any] = {}
    for context in CONTEXTS:
        prompt = [(7 * i) % 40_000 + 100 for i in range(context)]
        ours(model, tokenizer, prompt), theirs(reference, prompt)
        pairs = [(ours(model, tokenizer, prompt), theirs(reference, prompt)) for _ in range(repeats)]
        mine, other = (list(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(other) / statistics.median(mine)
        samples[str(context)] = {"ours": mine, "transformers": other, "times as fast": ratio}
        print(f"{dtype} after {context:>3}: {1e3 * statistics.median(mine):.1f} ms, transformers "
              f"{1e3 * statistics.median(other):.1f} ms, {ratio:.2f} x", flush=True)  # fmt: skip
    return samples


def main() -> None:
    """Runs both types and writes results/decode.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    results = {str(dtype): compare(dtype, options.repeats) for dtype in (torch.float32, torch.bfloat16)}
    flat = {
        name: statistics.median(by["512"]["ours"]) / statistics.median(by["32"]["ours"])
        for name, by in results.items()
    }
    print("512 against 32 tokens:", {name: round(value, 3) for name, value in flat.items()})
    print(write("decode", {"seconds per decode step": results, "512 against 32": flat}))


if __name__ == "__main__":
    main()
