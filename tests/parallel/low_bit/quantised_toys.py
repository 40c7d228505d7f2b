"""Quantised toys: recipes, the numbers behind a model's matrices, and what ranks serve with them."""

from dataclasses import replace

import torch

from helpers.caches import Int8PagedKVCache, PagedKVCache
from helpers.compression import INT8, Q8_0, Recipe, W8A8Product, weight_nbytes
from helpers.estimates import NumberFormat
from helpers.model import FlatBatch
from helpers.parallel import Collectives, SharedClock, SummedProduct, load_shard, quantise_shard
from tests.parallel import toys

RECIPES = {
    "int4": Recipe(NumberFormat(4, 4, "minimum"), head=Q8_0),
    "int4, zero points": Recipe(NumberFormat(4, 4, "zero"), layers=[0, 2]),
    "int8": Recipe(INT8),
    "one scale a matrix": Recipe(NumberFormat(8, "tensor", "minimum"), head=NumberFormat(8, "tensor")),
    "W8A8": Recipe(INT8, head=INT8, activations="token"),
    "W8A8, one scale a pass": Recipe(INT8, activations="tensor", layers=[0, 1], most_rows=3),
}
SERVED = ("int4", "int8", "W8A8")
"""Recipes with which engines serve; all others compute a pass."""
CASES = {"llama": 2, "biases": 3}
"""Models, and their numbers of ranks."""
TEXT = [5, 9, 2, 77, 96, 31, 0, 8]
CACHES = {"fp32": PagedKVCache, "int8": Int8PagedKVCache}


def work(name):
    """One job for each cache, in a pool that is too small for all requests; no job for recipes that serve nothing."""
    job = toys.Job(
        toys.requests(4), "fcfs", 9, options=dict(max_batch_size=4, token_budget=24, chunk_size=10)
    )
    return [replace(job, cache=cache) for cache in CACHES.values()] if name in SERVED else []


def numbers(module):
    """Return the numbers behind a matrix, fp32, whatever holds the matrix."""
    module = module.inner if isinstance(module, SummedProduct) else module
    product = getattr(module, "product", None)
    if product is None:
        weight = module.weight.data
        return (weight.to_dense() if weight.is_mkldnn else weight).clone()
    if isinstance(product, W8A8Product):
        return product.weight.float() * product.scale.unsqueeze(-1)
    return product.quantised.dequantise()


def matrices(model):
    """Return the numbers of all matrices of the layers, by name, and of the output matrix."""
    found = {}
    for i, layer in enumerate(model.layers):
        for name in ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"):
            room = layer.attn if name in ("qkv_proj", "o_proj") else layer.mlp
            found[f"{i}.{name}"] = numbers(getattr(room, name))
    if model.lm_head is not None:
        found["head"] = numbers(model.lm_head)
    return found


def on_ranks(folder, recipes):
    """For each recipe: this rank's numbers, bytes, logits, calls of one pass, and what engines serve."""
    collectives = Collectives.of_all()
    shard, answers = load_shard(folder, collectives), {}
    for name, recipe in recipes.items():
        model = quantise_shard(shard, recipe)
        collectives.calls.clear()
        collectives.nbytes.clear()
        logits = model(FlatBatch.pack([TEXT, TEXT[:5]]), logits="all")
        calls, nbytes = dict(collectives.calls), dict(collectives.nbytes)
        served = [toys.serve(model, job, SharedClock(collectives, toys.own_clock)) for job in work(name)]
        answers[name] = matrices(model), weight_nbytes(model), logits, calls, nbytes, served
    return answers


def error_of(folder, recipe):
    """Return what a rank says of a recipe that it refuses."""
    try:
        quantise_shard(load_shard(folder), recipe)
    except ValueError as error:
        return str(error)
    return ""


def cache_bytes(folder):
    """Return the bytes of this rank's caches of 16 pages of 4 tokens, in fp32 and in 8 bits."""
    model = load_shard(folder)
    return [cache.for_model(model, 16, 4).nbytes for cache in CACHES.values()]


def broken_input(folder):
    """Return this rank's product of a matrix of whole numbers and an input with a NaN on rank 1 alone."""
    model = quantise_shard(load_shard(folder), RECIPES["W8A8"])
    down = model.layers[0].mlp.down_proj
    x = torch.ones(2, len(model.shard.columns))
    if model.collectives.rank:
        x[1, 0] = torch.nan
    return down(x)


def exact_product(folder):
    """Return the product of a matrix of whole numbers, cut along its input, and random numbers."""
    model = quantise_shard(load_shard(folder), RECIPES["W8A8"])
    columns = model.shard.columns
    x = torch.randn(5, toys.SIZES["intermediate_size"], generator=torch.Generator().manual_seed(3))
    return model.layers[0].mlp.down_proj(x[:, columns.start : columns.stop])
