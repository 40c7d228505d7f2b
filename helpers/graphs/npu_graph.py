"""A decode step captured once as an NPU graph and replayed: one launch instead of hundreds of operators.

A graph repeats a fixed step: the memory that is read and written, and the lengths that the host gave to
attention. The lengths are updated before each replay (torch_npu's `NPUGraph.update`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from helpers.caches.kv_cache import KVCache
from helpers.graphs.decode_step import DecodeStep
from helpers.model.batch import FlatBatch
from helpers.model.decoder import DecoderLM


class DecodeGraph(DecodeStep):
    """Decode steps of neighbouring rows of a `KVCache`, in 16 bits.

    In fp32 the fused attention takes no lengths that could be updated.
    """

    def __init__(self, model: DecoderLM, cache: KVCache, rows: Sequence[int], *, update: bool = True):
        """Capture a step. `update=False` leaves the lengths as captured, to show what that does.

        Raises ValueError for a model that is not in 16 bits on an NPU, and as `DecodeStep` does.
        """
        if model.device.type != "npu" or model.dtype == torch.float32:
            raise ValueError(f"graphs need a model in 16 bits on an NPU, got {model.dtype} on {model.device}")
        self._update = update
        super().__init__(model, cache, rows)

    def _capture(self, batch: FlatBatch) -> Tensor:
        """Run the pass once, because a capture must not make what is made on first use; then capture it."""
        self._model.compute(batch, self._cache)
        npu = torch.get_device_module(self._model.device)
        self._graph = npu.NPUGraph()
        with npu.graph(self._graph, auto_dispatch_capture=True):
            return self._model.compute(batch, self._cache)

    def _replay(self, batch: FlatBatch) -> None:
        """Give attention the lengths of now, and replay."""
        lengths = batch.seq_lens if self._update else self._batch.seq_lens
        self._graph.update(cpu_update_input=[{"actual_seq_kvlen": list(lengths)}])
        self._graph.replay()
