"""A decoder cut by torch's own tensor parallelism: a plan names each matrix's cut, and DTensor does the rest.

Source: PyTorch's documentation of `torch.distributed.tensor.parallel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from helpers.model.batch import FlatBatch
from helpers.model.config import DecoderConfig
from helpers.model.decoder import DecoderLM

PLAN = {
    "attn.qkv_proj": ColwiseParallel(),
    "attn.o_proj": RowwiseParallel(),
    "mlp.gate_up_proj": ColwiseParallel(),
    "mlp.down_proj": RowwiseParallel(),
}
"""The cut of each matrix of a layer: by outputs first, then by inputs."""
_TEXT = [5, 9, 2, 77, 96, 31, 0, 8]


@dataclass(frozen=True)
class Cut:
    """What the cut model computes, beside the whole one."""

    difference: float
    """The largest difference of two logits."""
    largest: float
    """The largest logit of the whole model."""
    sums: int
    """All-reduces in one pass."""


def small_config(num_layers: int = 2) -> DecoderConfig:
    """Return a decoder of 8 query heads and 4 KV heads, which 2 and 4 ranks divide."""
    inv_freq = tuple(1 / 10000 ** (i / 8) for i in range(8))
    return DecoderConfig(
        vocab_size=97, hidden_size=64, intermediate_size=128, num_layers=num_layers, num_heads=8, num_kv_heads=4,
        head_dim=16, max_positions=64, rms_norm_eps=1e-5, tied=False, qkv_bias=False, o_bias=False, mlp_bias=False,
        qk_norm=False, inv_freq=inv_freq, rope_scale=1.0,
    )  # fmt: skip


def small_model() -> DecoderLM:
    """Return a seeded model of that config: the same on every rank."""
    torch.manual_seed(3)
    model = DecoderLM(small_config())
    for parameter in model.parameters():
        nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.3)
    return model.requires_grad_(False).eval()


def cut(order: Literal["as stored", "by ranks"]) -> Cut:
    """Return what all ranks compute together after `parallelize_module` has cut the layers by `PLAN`.

    "as stored" leaves the rows of fused matrices as they are: all queries, then keys, then values. A rank then gets
    rows that it takes for others. "by ranks" puts each rank's own queries, keys and values side by side before.
    """
    world, whole, model = dist.get_world_size(), small_model(), small_model()
    batch = FlatBatch.pack([_TEXT])
    expected = whole(batch)
    mesh, cfg = init_device_mesh("cpu", (world,)), model.cfg
    layers: Any = model.layers
    for layer in layers:
        if order == "by ranks":
            widths = (cfg.num_heads * cfg.head_dim, *[cfg.num_kv_heads * cfg.head_dim] * 2)
            _reorder(layer.attn.qkv_proj, widths, world)
            _reorder(layer.mlp.gate_up_proj, (cfg.intermediate_size,) * 2, world)
        parallelize_module(layer, mesh, PLAN)
        layer.attn.heads = (cfg.num_heads // world, cfg.num_kv_heads // world)
    with CommDebugMode() as counted:  # type: ignore[no-untyped-call]
        logits = model(batch)
    sums = sum(n for name, n in counted.get_comm_counts().items() if "all_reduce" in str(name))
    return Cut(float((logits - expected).abs().max()), float(expected.abs().max()), sums)


def _reorder(linear: nn.Linear, widths: tuple[int, ...], world: int) -> None:
    """Put each rank's share of every fused part side by side, so that an even cut gives a rank its own rows."""
    parts = [part.chunk(world) for part in torch.split(linear.weight, list(widths))]
    rows: list[Tensor] = [part[rank] for rank in range(world) for part in parts]
    linear.weight = nn.Parameter(torch.cat(rows), requires_grad=False)
