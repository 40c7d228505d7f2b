"""A decode step captured once as an NPU graph and replayed: one launch instead of hundreds of operators.

A graph repeats a fixed step: the memory that is read and written, and the lengths that the host gave to
attention. So new tokens are copied into the captured inputs. The lengths are updated before each replay
(torch_npu's `NPUGraph.update`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from helpers.caches.kv_cache import KVCache
from helpers.model.batch import FlatBatch
from helpers.model.decoder import DecoderLM


class DecodeGraph:
    """Decode steps of neighbouring rows of a `KVCache`, in 16 bits.

    In fp32 the fused attention takes no lengths that could be updated.
    """

    @torch.inference_mode()
    def __init__(self, model: DecoderLM, cache: KVCache, rows: Sequence[int]):
        """Capture a step over rows that hold a prompt and have room for a token; the cache keeps its tokens.

        Raises ValueError for a model that is not in 16 bits on an NPU. The same error names rows that are not
        neighbours, are empty, or are full.
        """
        if model.device.type != "npu" or model.dtype == torch.float32:
            raise ValueError(f"graphs need a model in 16 bits on an NPU, got {model.dtype} on {model.device}")
        if not rows or list(rows) != list(range(rows[0], rows[0] + len(rows))):
            raise ValueError(f"expected neighbouring rows in order, got {list(rows)}")
        self._model, self._cache, self._rows = model, cache, list(rows)
        lens = self._lengths()
        if min(lens) < 1:
            raise ValueError(f"every row needs a prompt first, their lengths are {lens}")
        self._batch = self._next([0] * len(rows))
        cache.prepare(self._batch)
        # A warm-up makes what is made on first use, such as the mask: the capture must not make it.
        model.compute(self._batch, cache)
        npu = torch.get_device_module(model.device)
        self._graph = npu.NPUGraph()
        with npu.graph(self._graph, auto_dispatch_capture=True):
            self._logits = model.compute(self._batch, cache)

    @torch.inference_mode()
    def step(self, token_ids: Sequence[int]) -> Tensor:
        """Return the next-token logits `[rows, vocab]` in fp32 for one new token per row, as a pass would.

        The next step overwrites the logits. Raises ValueError as a pass does, before anything changes.
        """
        batch = self._next(token_ids)
        self._cache.prepare(batch)
        self._batch.token_ids.copy_(batch.token_ids)
        self._batch.positions.copy_(batch.positions)
        self._graph.update(cpu_update_input=[{"actual_seq_kvlen": list(batch.seq_lens)}])
        self._graph.replay()
        self._cache.commit(batch)
        return self._logits

    def _lengths(self) -> list[int]:
        """Return the rows' lengths in tokens."""
        lens = self._cache.seq_lens
        return [lens[row] for row in self._rows]

    def _next(self, token_ids: Sequence[int]) -> FlatBatch:
        """Return the batch of the rows' next tokens; raise ValueError unless there is one for each row."""
        if len(token_ids) != len(self._rows):
            raise ValueError(f"expected {len(self._rows)} tokens, one for each row, got {len(token_ids)}")
        tokens = [[token] for token in token_ids]
        batch = FlatBatch.pack(tokens, self._lengths(), self._rows, device=self._model.device)
        if batch.max_token_id >= self._model.cfg.vocab_size:
            raise ValueError(
                f"token ids must be under {self._model.cfg.vocab_size}, got {batch.max_token_id}"
            )
        return batch
