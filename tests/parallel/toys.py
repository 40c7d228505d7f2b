"""Seeded toy checkpoints in folders, and what engines serve with them, on one process or on ranks."""

import copy
import time
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from helpers.caches import PagedKVCache
from helpers.engine import ContinuousBatcher, Request
from helpers.model import FlatBatch, build, config_from_file, read_tensors
from helpers.parallel import Collectives, Grid, PipelineBatcher, SharedClock, load_shard, load_stage

SIZES: dict[str, Any] = dict(
    vocab_size=97, hidden_size=36, intermediate_size=48, num_hidden_layers=3, max_position_embeddings=256
)
CONFIGS = {
    # The heads of the course's default model: 9 query heads, 3 KV heads, tied.
    "llama": LlamaConfig(
        **SIZES, num_attention_heads=9, num_key_value_heads=3, head_dim=4, tie_word_embeddings=True
    ),
    # 3 ranks exceed 2 KV heads; biases on q, k, v; an output matrix of its own.
    "qwen2": Qwen2Config(**SIZES, num_attention_heads=6, num_key_value_heads=2),
    "biases": LlamaConfig(
        **SIZES, num_attention_heads=6, num_key_value_heads=3, head_dim=6, attention_bias=True, mlp_bias=True
    ),
}


def save(name, folder):
    """Save the seeded model of that name; every parameter is random, biases and norms too."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return folder


def whole(folder):
    """Return the folder's model on one process."""
    return build(config_from_file(folder), read_tensors(folder))


@dataclass(frozen=True)
class Job:
    """What one engine serves."""

    requests: list[Request]
    policy: str = "fcfs"
    pages: int = 64
    samples: int = 0
    """Samples of the first request, with a name of their own."""
    options: dict[str, Any] = field(default_factory=dict)
    cache: type[PagedKVCache] = PagedKVCache


@dataclass(frozen=True)
class Served:
    """What an engine made of a job."""

    tokens: dict
    plans: list
    preempted: int
    hits: int
    calls: dict
    nbytes: dict

    @property
    def computed(self):
        return sum(tokens for parts in self.plans for _, _, tokens in parts)

    @property
    def rows(self):
        return sum(len(parts) for parts in self.plans)


def requests(count=5, new=6):
    """Requests with one beginning, of several lengths, clients and priorities; half of them are drawn."""
    return [
        Request(
            i, [5, 9, 2, 77, 31, 8, 64, 3, *range(11 + i, 14 + 3 * i)], new,
            temperature=0.8 * (i % 2), seed=i, priority=i % 3, client=i % 2,
        )
        for i in range(count)
    ]  # fmt: skip


def jobs(policies):
    """One job for each policy, in a pool that is too small for all requests, and one of samples."""
    small = dict(max_batch_size=4, token_budget=24, chunk_size=10)
    return [Job(requests(), policy, 9, options=small) for policy in policies] + [
        Job(requests(2), pages=64, samples=3)
    ]


def serve(model, job, clock):
    """Serve a job with the engine, as it is."""
    cache = job.cache.for_model(model, job.pages, page_size=4)
    engine = ContinuousBatcher(model, cache, policy=job.policy, clock=clock, **job.options)
    for request in job.requests:
        engine.add_request(request)
    if job.samples:
        first = job.requests[0]
        engine.add_samples(Request("sampled", first.prompt_ids, 6, temperature=0.9), job.samples)
    done = engine.run()
    plans = [[(p.request_id, p.start, p.num_tokens) for p in step.parts] for step in engine.steps]
    tokens = {name: (state.finish_reason, state.token_ids) for name, state in done.items()}
    preempted = sum(len(step.preempted) for step in engine.steps)
    hits = sum(state.cached_tokens for state in done.values())
    counts = getattr(model, "collectives", Collectives())
    return Served(tokens, plans, preempted, hits, dict(counts.calls), dict(counts.nbytes))


def on_ranks(folder, work, text):
    """Serve jobs on this rank; return them, the logits of a text, the weights' bytes, and the local sizes."""
    collectives = Collectives.of_all()
    model = load_shard(folder, collectives)
    logits = model(FlatBatch.pack([text, text[:5]]), logits="all")
    served = []
    for job in work:
        collectives.calls.clear()
        collectives.nbytes.clear()
        served.append(serve(model, job, SharedClock(collectives, own_clock)))
    nbytes = sum(tensor.numel() * 4 for tensor in model.parameters())
    return served, logits, nbytes, (model.cfg.num_heads, model.cfg.num_kv_heads, model.cfg.intermediate_size)


def own_clock():
    """A clock that tells each rank another time, which also runs faster."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    return (time.perf_counter() + 1000 * rank) * (1 + 50 * rank)


def in_stages(folder, stages, groups, work, split=None):
    """Serve a job's requests in a pipeline; return tokens, plans, order of groups, bytes sent, and collectives."""
    grid = Grid.of_all(stages)
    model = load_stage(grid, folder, split)
    batcher = PipelineBatcher(
        grid, model, groups, work.pages, 4, clock=own_clock, policy=work.policy, **work.options
    )
    for request in work.requests[:-1]:
        batcher.add_request(request)
    late = [work.requests[-1]]  # joins while others run
    done = batcher.run(lambda name, token: batcher.add_request(late.pop()) if late else None)
    plans = [
        [[(p.request_id, p.num_tokens) for p in s.parts] for s in group.steps] for group in batcher.groups
    ]
    tokens = {name: state.token_ids for name, state in done.items()}
    shape = (len(model.layers), model.cfg.num_heads, tuple(batcher.groups[0].cache.k.shape))
    return tokens, plans, batcher.log, grid.sent, dict(grid.collectives.calls), shape
