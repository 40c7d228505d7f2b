"""A Llama-family decoder over a flat batch of tokens, exact and short."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from helpers.model.batch import FlatBatch
from helpers.model.cache import Cache, NoCache
from helpers.model.config import DecoderConfig
from helpers.model.native_passes.native_passes import NativePasses
from helpers.native.matrices import Plain
from helpers.ops import by_device as ops
from helpers.ops.products import NEVER, packed_from
from helpers.ops.torch_ops import pack_weight


class Linear(nn.Linear):
    """A matrix whose weight may be packed for this processor (`ops.pack_weight`), and kept for native passes."""

    packed_from = 1
    """Rows from which on a packed weight is used, where the plain one is kept too."""
    plain: Tensor | None = None
    """The weight as it was, for products of fewer rows; None where one form serves all."""
    _tiled: tuple[Tensor, Plain] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the product: `x [T, in]` -> `[T, out]`."""
        weight = self.weight if self.plain is None or len(x) >= self.packed_from else self.plain
        return ops.linear(x, weight, self.bias)

    @property
    def tiles(self) -> Plain | None:
        """Return the weight as native passes read it; None where operators compute all passes."""
        return self._tiled[1] if self._tiled is not None and self._tiled[0] is self.weight else None

    def keep(self, tiles: Plain) -> None:
        """Keep the weight in tiles, too, in place of its plain form: operators use one form for all rows."""
        self._tiled, self.plain, self.packed_from = (self.weight, tiles), None, 1

    def pack(self, packed_from: int) -> None:
        """Pack the weight for products of so many rows and more; keep its plain form for those of fewer."""
        if packed_from == NEVER:
            return
        self.packed_from, self.plain = packed_from, self.weight.detach() if packed_from > 1 else None
        self.weight = nn.Parameter(pack_weight(self.weight), requires_grad=False)


class Attention(nn.Module):
    """Projections around a cache's attention. Q, K and V share one matrix: one product instead of three."""

    def __init__(self, cfg: DecoderConfig):
        super().__init__()
        self.heads = (cfg.num_heads, cfg.num_kv_heads)
        self.head_dim, self.eps, self.rope_scale = cfg.head_dim, cfg.rms_norm_eps, cfg.rope_scale
        width = cfg.num_heads * cfg.head_dim
        self.qkv_proj = Linear(
            cfg.hidden_size, width + 2 * cfg.num_kv_heads * cfg.head_dim, bias=cfg.qkv_bias
        )
        self.o_proj = Linear(width, cfg.hidden_size, bias=cfg.o_bias)
        self.q_norm = nn.Parameter(torch.empty(cfg.head_dim)) if cfg.qk_norm else None
        self.k_norm = nn.Parameter(torch.empty(cfg.head_dim)) if cfg.qk_norm else None

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], layer_idx: int, cache: Cache, batch: FlatBatch
    ) -> Tensor:
        """Return attention's output: `x [T, hidden]` -> `[T, hidden]`.

        `rope` holds cos and sin, each `[T, 1, D]`.
        """
        heads, kv_heads = self.heads
        qk, v = self.qkv_proj(x).unflatten(-1, (-1, self.head_dim)).split((heads + kv_heads, kv_heads), dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = qk[:, :heads], qk[:, heads:]
            normed = ops.rms_norm(q, self.q_norm, self.eps), ops.rms_norm(k, self.k_norm, self.eps)
            qk = torch.cat(normed, dim=1)
        qk = ops.rotary(qk, *rope)
        if self.rope_scale != 1.0:  # not folded into cos and sin, which a fused rotation wants within [-1, 1]
            qk = qk * self.rope_scale
        q, k = qk[:, :heads], qk[:, heads:]
        out = cache.attend(layer_idx, q, k, v, batch)
        del qk, q, k, v  # the output projection needs no more of them: free the memory before it allocates
        projected: Tensor = self.o_proj(out.flatten(-2))
        return projected


class MLP(nn.Module):
    """The gated feed-forward part; gate and up share one matrix."""

    def __init__(self, cfg: DecoderConfig):
        super().__init__()
        self.gate_up_proj = Linear(cfg.hidden_size, 2 * cfg.intermediate_size, bias=cfg.mlp_bias)
        self.down_proj = Linear(cfg.intermediate_size, cfg.hidden_size, bias=cfg.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the MLP's output: `x [T, hidden]` -> `[T, hidden]`."""
        down: Tensor = self.down_proj(ops.swiglu(self.gate_up_proj(x)))
        return down


class DecoderLayer(nn.Module):
    """Attention and MLP, each behind a norm, each added to the residual stream."""

    def __init__(self, cfg: DecoderConfig):
        super().__init__()
        self.eps = cfg.rms_norm_eps
        self.input_norm = nn.Parameter(torch.empty(cfg.hidden_size))
        self.attn = Attention(cfg)
        self.post_norm = nn.Parameter(torch.empty(cfg.hidden_size))
        self.mlp = MLP(cfg)

    def forward(
        self,
        delta: Tensor | None,
        residual: Tensor,
        rope: tuple[Tensor, Tensor],
        layer_idx: int,
        cache: Cache,
        batch: FlatBatch,
    ) -> tuple[Tensor, Tensor]:
        """Return what this layer adds, and the residual stream before that, both `[T, hidden]`.

        `delta` is what the layer before added. The next norm computes the sum, because one operator does
        both.
        """
        if delta is None:
            x = ops.rms_norm(residual, self.input_norm, self.eps)
        else:
            x, residual = ops.add_rms_norm(delta, residual, self.input_norm, self.eps)
        x, residual = ops.add_rms_norm(
            self.attn(x, rope, layer_idx, cache, batch), residual, self.post_norm, self.eps
        )
        return self.mlp(x), residual


class DecoderLM(nn.Module):
    """A decoder language model of the Llama, Qwen2 or Qwen3 architecture, for inference."""

    alone = True
    """Whether a pass needs nothing of other processes, so that one native call may compute it."""

    def __init__(self, cfg: DecoderConfig):
        super().__init__()
        self.cfg = cfg
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(cfg) for _ in range(cfg.num_layers))
        self.norm = nn.Parameter(torch.empty(cfg.hidden_size))
        self._packed_embedding: Tensor | None = None
        self.native_passes: NativePasses | None = None
        """Passes over a few tokens, each in one native call; None where operators compute all passes."""
        self._inv_freq: Tensor | None = (
            None  # kept: a transfer to the device in each pass would be one too many
        )
        self.lm_head = None if cfg.tied else Linear(cfg.hidden_size, cfg.vocab_size, bias=False)
        self.end_tokens: tuple[int, ...] = ()
        """Tokens that end an answer, as the checkpoint names them."""

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.norm.device

    @property
    def dtype(self) -> torch.dtype:
        """Return the weights' type, which activations and caches share."""
        return self.norm.dtype

    @torch.inference_mode()
    def forward(
        self, batch: FlatBatch, cache: Cache | None = None, logits: Literal["last", "all"] = "last"
    ) -> Tensor:
        """Return next-token logits in fp32: of each sequence's last token `[B, vocab]`, or of all tokens `[T,
        vocab]`.

        Without a cache, sequences attend to their own tokens only and nothing is kept. The batch may lie on
        another device. Raises ValueError, before the cache changes, for a token beyond the vocabulary, a
        position beyond the model's, or as the cache refuses.
        """
        self._check(batch)
        batch, cache = batch.to(self.device), cache or NoCache()
        cache.prepare(batch)
        result = self.compute(batch, cache, logits)
        cache.commit(batch)
        return result

    @torch.inference_mode()
    def compute(self, batch: FlatBatch, cache: Cache, logits: Literal["last", "all"] = "last") -> Tensor:
        """Compute the device's part of a pass, between the cache's `prepare` and `commit`: what a captured
        graph repeats.
        """
        if self.native_passes is not None and self.native_passes.takes(batch):
            layout = cache.layout(batch)
            if layout is not None:
                return self.native_passes(batch, layout, logits)
        hidden = self._hidden(batch, cache)
        if logits == "last" and len(hidden) > len(batch.seq_lens):  # else every token is a last one
            hidden = hidden[batch.last_token_indices]
        return self.logits_of(hidden)

    def logits_of(self, hidden: Tensor) -> Tensor:
        """Return the fp32 logits `[T, vocab]` of normed hidden states `[T, hidden]`."""
        product = ops.linear(hidden, self._output_weight()) if self.lm_head is None else self.lm_head(hidden)
        return product.float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DecoderLM:
        """Move or convert all weights, as `to` asks.

        Raises ValueError, before anything moves, for heads that the new device's operators do not take.
        """
        cfg = self.cfg
        ops.check_heads(fn(self.norm.data), cfg.num_heads, cfg.num_kv_heads, cfg.head_dim)
        self.native_passes = None  # its weights are those that were here before
        moved: DecoderLM = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def __deepcopy__(self, memo: dict[int, Any]) -> DecoderLM:
        """Return a copy with weights of its own, packed ones included, which torch's own copying refuses."""
        for tensor in (*self.parameters(), self._packed_embedding):
            if tensor is not None and tensor.is_mkldnn:
                clone = tensor.detach().clone()
                memo[id(tensor)] = nn.Parameter(clone, False) if isinstance(tensor, nn.Parameter) else clone
        memo[id(self)] = twin = type(self).__new__(type(self))
        vars(twin).update(copy.deepcopy(vars(self), memo))
        return twin

    def pack(self) -> DecoderLM:
        """Return this model with its matrices laid out for this processor's kernels, where `ops` knows such a
        layout.

        Layouts are chosen by what was measured on this machine (`ops.products`), and so is the number of tokens
        up to which a native pass computes (`native_passes`). A processor that multiplies in 32 bits widens 16-bit
        weights (`ops.pack_weight`). A weight exists twice where native passes and operators want it in different
        layouts, or few rows and many; so does a tied output matrix, because the embedding needs its rows as they
        were. A packed model stays on its device.
        """
        if self.device.type != "cpu":
            return self
        native = NativePasses(self) if self.alone and NativePasses.serves(self) else None
        weights = [matrix.weight for matrix in self.matrices()]
        weights += [self.embed_tokens.weight] if self.lm_head is None else []
        rows = packed_from(Counter((len(weight), weight.shape[1]) for weight in weights), self.dtype)
        for matrix in self.matrices():
            matrix.pack(rows)
        if self.lm_head is None and rows == 1:
            packed = pack_weight(self.embed_tokens.weight)
            self._packed_embedding = packed if packed.is_mkldnn else None
        self.native_passes = None if native is None else native.where_faster()
        if self.native_passes is not None:
            self.native_passes.share()
        return self

    def matrices(self) -> list[Linear]:
        """Return the model's matrices; a tied output matrix is the embedding, and not among them."""
        return [module for module in self.modules() if isinstance(module, Linear)]

    def _output_weight(self) -> Tensor:
        """Return the tied matrix `[vocab, hidden]` that turns the last hidden state into logits."""
        return self.embed_tokens.weight if self._packed_embedding is None else self._packed_embedding

    def _hidden(self, batch: FlatBatch, cache: Cache) -> Tensor:
        """Return the last layer's normed output `[T, hidden]`."""
        rope = self.rope(batch.positions)
        delta, residual = self.layers[0](None, self.embed_tokens(batch.token_ids), rope, 0, cache, batch)
        for layer_idx in range(1, len(self.layers)):
            delta, residual = self.layers[layer_idx](delta, residual, rope, layer_idx, cache, batch)
        return ops.add_rms_norm(delta, residual, self.norm, self.cfg.rms_norm_eps)[0]

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin of each token's angles, each `[T, 1, D]` with both halves alike, computed in
        fp32.
        """
        if self._inv_freq is None or self._inv_freq.device != positions.device:
            self._inv_freq = torch.tensor(self.cfg.inv_freq, dtype=torch.float32, device=positions.device)
        angles = torch.outer(positions.float(), self._inv_freq).repeat(1, 2).unsqueeze(1)
        return angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    def _check(self, batch: FlatBatch) -> None:
        """Raise ValueError for what the embedding or the rotary angles cannot represent."""
        if batch.max_token_id >= self.cfg.vocab_size:
            raise ValueError(f"token ids must be under {self.cfg.vocab_size}, got {batch.max_token_id}")
        if max(batch.seq_lens) > self.cfg.max_positions:
            raise ValueError(
                f"the model knows {self.cfg.max_positions} positions, a sequence has {max(batch.seq_lens)}"
            )
