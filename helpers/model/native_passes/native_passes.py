"""Passes in one native call, in place of a decoder's operators one by one.

The decoder's own code is the reference: tests hold both equal.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from helpers.model.batch import FlatBatch
from helpers.model.cache import NoCache
from helpers.native.library import usable
from helpers.native.matrices import Codes, Matrix, Plain
from helpers.native.native_pass import LayerWeights, Layout, NativePass, can_compute
from helpers.native.page_attention import Sequences
from helpers.ops.products import NEVER, fastest, remembered, wish

if TYPE_CHECKING:
    from helpers.model.decoder import DecoderLayer, DecoderLM, Linear


TOKENS = (1, 2, 4, 8, 16, 32, 64, 256)
"""Sizes of passes that are measured."""
_MANY = 64  # tokens from which on a pass takes long enough to be timed twice only


class NativePasses:
    """A decoder's passes of at most `most` tokens, each in one native call."""

    def __init__(self, model: DecoderLM, most: int = NEVER):
        """Copy the model's weights in the kernels' order, before they are packed; codes are shared.

        Ask `serves` first.
        """
        self.most, self._model, self._parts = most, model, _parts(model)
        cfg, layers = model.cfg, [_weights(cast("DecoderLayer", layer)) for layer in model.layers]
        self._tiles = [pair[0] for layer in layers for pair in layer[4:]]
        *_, head = _matrices(model)
        self._native = NativePass(
            layers,
            model.norm.float(),
            _in_tiles(head),
            cfg.num_heads,
            cfg.head_dim,
            cfg.rms_norm_eps,
            model.dtype,
        )

    @staticmethod
    def serves(model: DecoderLM) -> bool:
        """Return whether the kernels are here and can compute with this model's weights."""
        kinds = model.dtype in (torch.float32, torch.bfloat16)
        return kinds and model.device.type == "cpu" and can_compute(_matrices(model), model.cfg.head_dim)

    @classmethod
    def of(cls, model: DecoderLM) -> NativePasses | None:
        """Return the native passes of a model whose weights have their final layout; None for never."""
        return cls(model).where_faster() if model.alone and cls.serves(model) else None

    def where_faster(self) -> NativePasses | None:
        """Return these passes, up to the tokens where operators become faster on this machine; None for never."""
        self._parts = _parts(self._model)  # packing has replaced the weights
        if wish():
            return self if wish() == "native" else None
        cfg = self._model.cfg
        sizes = (cfg.num_layers, cfg.hidden_size, cfg.intermediate_size, cfg.vocab_size, cfg.num_heads)
        kinds = sorted({_kind(matrix) for matrix in _matrices(self._model)})
        dtype = str(self._model.dtype)
        settings = (dtype, sizes, TOKENS, *([] if kinds == [dtype] else kinds))
        native, others = remembered("passes", settings, self._times)
        faster = [a <= b for a, b in zip(native, others, strict=True)]
        self.most = TOKENS[faster.index(False) - 1] if False in faster else NEVER
        return self if faster[0] else None

    def share(self) -> None:
        """Give the model's layers their matrices in tiles, for passes of models that share these layers."""
        for part, matrix in zip(_linears(self._model), self._tiles, strict=True):
            if isinstance(matrix, Plain):
                part.keep(matrix)

    def _times(self) -> list[list[float]]:
        """Return the seconds of passes over `TOKENS` first tokens, natively and by operators."""
        found: list[list[float]] = [[], []]
        for count in TOKENS:
            batch = FlatBatch.pack([[1]] * count)
            layout = self._empty_layout(count)
            ways = (
                lambda batch=batch, layout=layout: self(batch, layout, "last"),
                lambda batch=batch: self._model.compute(batch, NoCache()),
            )
            for times, seconds in zip(found, fastest(ways, 2 if count >= _MANY else 5), strict=True):
                times.append(seconds)
        return found

    def _empty_layout(self, count: int) -> Layout:
        """Return room for `count` sequences of a single token."""
        cfg, rows = self._model.cfg, torch.arange(count, dtype=torch.int32).unsqueeze(1)
        k, v = (
            torch.zeros(cfg.num_layers, count, 1, cfg.num_kv_heads, cfg.head_dim, dtype=self._model.dtype)
            for _ in "kv"
        )
        return Layout(k, v, Sequences.of(rows, range(count + 1), [1] * count), heads_first=False)

    def __deepcopy__(self, memo: dict[int, object]) -> NativePasses | None:
        """Return the passes of a copied model, which read the copy's weights; None where the model was changed."""
        if _parts(self._model) != self._parts:
            return None
        memo[id(self)] = alike = copy.copy(self)
        vars(alike).update((name, copy.deepcopy(value, memo)) for name, value in vars(self).items())
        # The copy of the model has no attributes yet when its passes are copied on the way.
        alike._parts = _parts_of(copy.deepcopy(self._model.layers, memo))
        return alike

    def __str__(self) -> str:
        return "in one native call" + ("" if self.most == NEVER else f" up to {self.most} tokens")

    def takes(self, batch: FlatBatch) -> bool:
        """Return whether the batch is small enough, no profiler wants to see operators, and the model is untouched.

        A model with another weight, another part, a hook or another `forward` than it had is computed by its
        operators.
        """
        return (
            len(batch.token_ids) <= self.most and usable() is not None and _parts(self._model) == self._parts
        )

    def __call__(self, batch: FlatBatch, layout: Layout, logits: Literal["last", "all"]) -> Tensor:
        """Return what `DecoderLM.compute` returns."""
        model = self._model
        scale = model.cfg.rope_scale
        cos, sin = (
            angles.float().squeeze(1).mul_(scale).contiguous() for angles in model.rope(batch.positions)
        )
        x = model.embed_tokens(batch.token_ids).float()
        wanted = torch.arange(len(x)) if logits == "all" else batch.last_token_indices
        outputs = wanted.to(torch.int32)
        return self._native(x, (cos, sin), layout, outputs, model.cfg.head_dim**-0.5)


def _parts(model: DecoderLM) -> list[int]:
    """Return what shows that a model's layers were exchanged or hooked: identities and numbers of hooks.

    This runs before each pass, so that it looks into the modules' own dictionaries.
    """
    return _parts_of(model.layers)


def _parts_of(layers: nn.ModuleList) -> list[int]:
    """Return what `_parts` returns of the model with these layers."""
    found: list[int] = []
    for layer in layers._modules.values():
        assert layer is not None
        attn, mlp = layer._modules["attn"], layer._modules["mlp"]
        leaves = [*attn._modules.values(), *mlp._modules.values()]  # type: ignore[union-attr]
        below = [part for leaf in leaves for part in leaf._modules.values()]
        for part in (layer, attn, mlp, *leaves, *below):
            assert part is not None
            found += map(id, part._parameters.values())
            found += map(id, part._buffers.values())
            found.append(
                len(part._forward_hooks) + len(part._forward_pre_hooks) + ("forward" in part.__dict__)
            )
    return found


def _matrices(model: DecoderLM) -> list[Tensor | Matrix]:
    """Return all matrices that a pass multiplies by, the output matrix last."""
    head = model.embed_tokens.weight.detach() if model.lm_head is None else _matrix(model.lm_head)
    return [*map(_matrix, _linears(model)), head]


def _linears(model: DecoderLM) -> list[Linear]:
    """Return the matrices of all layers, in the order in which a pass multiplies by them."""
    layers = [cast("DecoderLayer", layer) for layer in model.layers]
    return [
        part
        for layer in layers
        for part in (layer.attn.qkv_proj, layer.attn.o_proj, layer.mlp.gate_up_proj, layer.mlp.down_proj)
    ]


def _matrix(part: nn.Module) -> Tensor | Matrix:
    """Return the weight of a linear part in the form that the native pass reads, if there is one.

    A part with a weight of few bits has a `product`, whose `native` is the codes. Any other product gives a
    tensor that no kernel reads.
    """
    product = getattr(part, "product", None)
    if product is not None:
        codes: Codes | None = getattr(product, "native", None)
        return torch.empty(0, 0, device="meta") if codes is None else codes
    tiles: Plain | None = getattr(part, "tiles", None)
    weight: Tensor = getattr(part, "weight")  # noqa: B009
    return weight.detach() if tiles is None else tiles


def _kind(matrix: Tensor | Matrix) -> str:
    """Return a text that names how a matrix is stored."""
    if isinstance(matrix, Tensor | Plain):
        return str(matrix.dtype if isinstance(matrix, Tensor) else matrix.numbers.dtype)
    return (
        f"{matrix.bits} bits, {matrix.group}, {matrix.whole}, {matrix.scale.dtype}, {matrix.offset is None}"
    )


def _weights(layer: DecoderLayer) -> LayerWeights:
    """Return one layer's tensors as the native pass wants them."""
    attn, mlp = layer.attn, layer.mlp
    return LayerWeights(
        layer.input_norm.float(),
        layer.post_norm.float(),
        None if attn.q_norm is None else attn.q_norm.float(),
        None if attn.k_norm is None else attn.k_norm.float(),
        *map(_pair, (attn.qkv_proj, attn.o_proj, mlp.gate_up_proj, mlp.down_proj)),
    )


def _pair(part: Linear) -> tuple[Matrix, Tensor | None]:
    """Return a matrix in the kernels' order and its bias in fp32."""
    return _in_tiles(_matrix(part)), None if part.bias is None else part.bias.float()


def _in_tiles(matrix: Tensor | Matrix) -> Matrix:
    """Return a matrix in the kernels' order, in which codes lie already."""
    return Plain.pack(matrix) if isinstance(matrix, Tensor) else matrix
