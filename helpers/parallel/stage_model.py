"""One stage of a pipeline: a range of a decoder's layers, which may itself be shared by tensor-parallel ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from helpers.model.batch import FlatBatch
from helpers.model.cache import Cache
from helpers.model.checkpoint import end_tokens_of, locate
from helpers.model.config import DecoderConfig
from helpers.model.meta_model import checked, config_from_file
from helpers.model.weights import sources
from helpers.ops import by_device as ops
from helpers.ops.products import packed_from
from helpers.parallel.collectives import Collectives
from helpers.parallel.grid import Grid
from helpers.parallel.loading import read_parts
from helpers.parallel.rank_process import own_device
from helpers.parallel.shards import Shard, plan_shards
from helpers.parallel.sliced_tensors import SlicedTensors
from helpers.parallel.stages import split_layers
from helpers.parallel.tensor_parallel import TensorParallelLM


class StageLM(TensorParallelLM):
    """Layers `layers` of a decoder; the first stage has the embedding, the last one the final norm and the head.

    `cfg` counts this stage's layers only, so that a cache made for this model has pages for these layers alone.
    """

    def __init__(self, cfg: DecoderConfig, layers: range, shards: Sequence[Shard], collectives: Collectives):
        """Make the stage of these layers; other arguments as in `TensorParallelLM`."""
        super().__init__(replace(cfg, num_layers=len(layers)), shards, collectives)
        self.layer_range = layers
        self.first, self.last = layers.start == 0, layers.stop == cfg.num_layers
        if not self.first and not (self.last and cfg.tied):
            self.embed_tokens.weight = nn.Parameter(torch.empty(0, cfg.hidden_size))
        if not self.last:
            self.lm_head = None

    def names(self, cfg: DecoderConfig) -> dict[str, list[str]]:
        """Return, for each parameter of this stage, the checkpoint's tensors that make it; `cfg` is the whole model's."""
        found = {}
        for target, parts in sources(cfg).items():
            kind, _, rest = target.partition(".")
            if kind == "layers":
                number, _, inner = rest.partition(".")
                if int(number) in self.layer_range:
                    found[f"layers.{int(number) - self.layer_range.start}.{inner}"] = parts
            elif kind == "norm" or target in self.state_dict():
                found[target] = parts
        if not len(self.embed_tokens.weight):
            found.pop("embed_tokens.weight", None)
        return found

    def compute(self, batch: FlatBatch, cache: Cache, logits: Literal["last", "all"] = "last") -> Tensor:
        """Raise ValueError: a stage alone has no logits."""
        raise ValueError(
            "a stage of a pipeline computes a part of a pass; call `run`, or serve with PipelineBatcher"
        )

    @torch.inference_mode()
    def run(self, batch: FlatBatch, cache: Cache, hidden: Tensor | None) -> Tensor:
        """Return what the next stage needs, `[T, hidden]`; in the last stage the logits `[B, vocab]`.

        `hidden` is what the stage before returned; None in the first stage. Raises ValueError as `forward` does.
        """
        self._check(batch)
        batch = batch.to(self.device)
        cache.prepare(batch)
        rope = self.rope(batch.positions)
        residual = self.embed_tokens(batch.token_ids) if hidden is None else hidden
        delta, residual = self.layers[0](None, residual, rope, 0, cache, batch)
        for i in range(1, len(self.layers)):
            delta, residual = self.layers[i](delta, residual, rope, i, cache, batch)
        if self.last:
            normed = ops.add_rms_norm(delta, residual, self.norm, self.cfg.rms_norm_eps)[0]
            part = self.logits_of(normed[batch.last_token_indices])
            result = self.collectives.all_gather(part, self._widths)
        else:
            result = residual + delta  # one tensor to send instead of two: the next norm would add them
        cache.commit(batch)
        return result

    def pack(self) -> StageLM:
        """Return this stage packed, as `DecoderLM.pack` does; a stage without a head packs its layers alone."""
        if self.last or self.device.type != "cpu":
            super().pack()
            return self
        matrices = self.matrices()
        rows = packed_from(Counter((len(m.weight), m.weight.shape[1]) for m in matrices), self.dtype)
        for matrix in matrices:
            matrix.pack(rows)
        return self


def load_stage(
    grid: Grid,
    folder: Path | str | None = None,
    split: Sequence[range] | None = None,
    dtype: torch.dtype = torch.float32,
) -> StageLM:
    """Return this rank's stage of a folder's model (default: the course's), packed, on this rank's device.

    `split` gives each stage's layers (default: `split_layers`). Errors as in `load_shard` and `split_layers`.
    """
    folder = locate() if folder is None else Path(folder)
    config = config_from_file(folder)
    checked(config)
    cfg = DecoderConfig.from_hf(config)
    split = split_layers(cfg, grid.stages) if split is None else split
    layers = [layer for part in split for layer in part]
    if layers != list(range(cfg.num_layers)) or len(split) != grid.stages or not all(split):
        raise ValueError(f"{grid.stages} stages share {cfg.num_layers} layers in order, got {split}")
    shards = plan_shards(cfg, grid.collectives.world)
    with torch.device("meta"):
        model = StageLM(cfg, split[grid.stage], shards, grid.collectives)
    shard = shards[grid.collectives.rank]
    state = read_parts(cfg, shard, SlicedTensors(folder), dtype, model.names(cfg))
    if not len(model.embed_tokens.weight):
        state["embed_tokens.weight"] = torch.empty(0, cfg.hidden_size, dtype=dtype)
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False).eval().to(own_device()).pack()
    model.end_tokens = end_tokens_of(folder, config)
    return model
