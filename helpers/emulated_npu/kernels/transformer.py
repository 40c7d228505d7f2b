"""The fused operators around attention in a decoder: norms, rotary embedding, SwiGLU and the cache write.

Each checks the constraints of its page in op-plugin's documents (docs/zh/custom_APIs) for Atlas A2 and A3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.emulated_npu.errors import emulated, require
from helpers.emulated_npu.operators import Operators, store

OPERATORS = Operators()
op = OPERATORS.op
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)

# ---- RMS norm --------------------------------------------------------------------------------------------------------


def _check_rms_norm(x: Tensor, gamma: Tensor, *_: object) -> None:
    """Check npu_rms_norm: x of 2 to 8 dimensions, gamma the shape of its last ones and of x's dtype or fp32."""
    require(x.dtype in _FLOATS, "npu_rms_norm: x is float16, bfloat16 or float32", x.dtype)
    require(2 <= x.dim() <= 8, "npu_rms_norm: x has 2 to 8 dimensions", tuple(x.shape))
    _require_trailing("npu_rms_norm", x, gamma)
    require(
        gamma.dtype in (x.dtype, torch.float32),
        "npu_rms_norm: gamma has x's dtype or is float32",
        f"{gamma.dtype} for {x.dtype}",
    )


def _check_add_rms_norm(x1: Tensor, x2: Tensor, gamma: Tensor, *_: object) -> None:
    """Check npu_add_rms_norm: like npu_rms_norm, but x1, x2 and gamma share one dtype."""
    require(x1.dtype in _FLOATS, "npu_add_rms_norm: x1 is float16, bfloat16 or float32", x1.dtype)
    dtypes = (x1.dtype, x2.dtype, gamma.dtype)
    require(len(set(dtypes)) == 1, "npu_add_rms_norm: x1, x2 and gamma have one dtype", dtypes)
    require(
        x1.shape == x2.shape,
        "npu_add_rms_norm: x1 and x2 have one shape",
        f"{tuple(x1.shape)}, {tuple(x2.shape)}",
    )
    require(1 <= x1.dim() <= 8, "npu_add_rms_norm: x1 has 1 to 8 dimensions", tuple(x1.shape))
    _require_trailing("npu_add_rms_norm", x1, gamma)


def _require_trailing(name: str, x: Tensor, gamma: Tensor) -> None:
    """Raise unless gamma has the shape of x's last dimensions."""
    fits = 1 <= gamma.dim() <= x.dim() and x.shape[x.dim() - gamma.dim() :] == gamma.shape
    require(
        fits,
        f"{name}: gamma has the shape of x's last dimensions",
        f"{tuple(gamma.shape)} for {tuple(x.shape)}",
    )


def _rms_norm(x: Tensor, gamma: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return `x * rstd * gamma` and `rstd`, both fp32, over gamma's dimensions (arXiv:1910.07467)."""
    dims = list(range(x.dim() - gamma.dim(), x.dim()))
    rstd = torch.rsqrt(x.float().pow(2).mean(dims, True) + eps)
    return x.float() * rstd * gamma.float(), rstd


@op("RmsNorm", "TTdTT", check=_check_rms_norm)
def _npu_rms_norm(x: Tensor, gamma: Tensor, eps: float, y: Tensor, rstd: Tensor) -> None:
    """Compute npu_rms_norm."""
    normed, scale = _rms_norm(x, gamma, eps)
    store(y, normed)
    store(rstd, scale)


@op("GemmaRmsNorm", "TTdTT", check=_check_rms_norm)
def _npu_gemma_rms_norm(x: Tensor, gamma: Tensor, eps: float, y: Tensor, rstd: Tensor) -> None:
    """Compute npu_gemma_rms_norm: the weight is 1 + gamma."""
    normed, scale = _rms_norm(x, 1 + gamma.float(), eps)
    store(y, normed)
    store(rstd, scale)


@op("AddRmsNorm", "TTTdTTT", check=_check_add_rms_norm)
def _npu_add_rms_norm(
    x1: Tensor, x2: Tensor, gamma: Tensor, eps: float, y: Tensor, rstd: Tensor, x: Tensor
) -> None:
    """Compute npu_add_rms_norm, which normalises the sum as rounded to its dtype."""
    total = (x1.float() + x2.float()).to(x1.dtype)
    normed, scale = _rms_norm(total, gamma, eps)
    store(y, normed)
    store(rstd, scale)
    store(x, total)


@op("RmsNormGrad", "TTTTTT")
def _rms_norm_grad(dy: Tensor, x: Tensor, rstd: Tensor, gamma: Tensor, dx: Tensor, dgamma: Tensor) -> None:
    """Return the gradients of npu_rms_norm."""
    leading = x.dim() - gamma.dim()
    xhat, g = x.float() * rstd, dy.float() * gamma.float()
    store(dx, rstd * (g - xhat * (g * xhat).mean(list(range(leading, x.dim())), True)))
    store(dgamma, (dy.float() * xhat).sum(list(range(leading))))


# ---- rotary embedding ------------------------------------------------------------------------------------------------
_HALF, _INTERLEAVE = 0, 1
# Which of x's dimensions before the last cos and sin share with it (1; otherwise they have size 1 there), and which
# ones are then batch and heads. Interleave allows the first of each layout only.
_ROTARY_4D = {
    "BNSD": ((0, 1), ("001", "101", "111")),
    "BSND": ((0, 2), ("010", "110", "111")),
    "SBND": ((1, 2), ("100", "110", "111")),
}
_ROTARY_3D = {"TND": ((1,), ("10", "11"))}


def _check_rotary(x: Tensor, cos: Tensor, sin: Tensor, mode: int, rotate: Tensor | None, out: Tensor) -> None:
    """Check npu_rotary_mul: shapes and sizes of its constraints for jit_compile=False, one dtype for all.

    The page lists the same three dtypes for each tensor and does not say that they may differ.
    """
    emulated(mode in (_HALF, _INTERLEAVE), f"rotary_mode {mode}")
    dtypes = (x.dtype, cos.dtype, sin.dtype)
    require(
        x.dtype in _FLOATS and len(set(dtypes)) == 1,
        "npu_rotary_mul: input, r1, r2 share one float dtype",
        dtypes,
    )
    shapes = [tuple(t.shape) for t in (x, cos, sin)]
    require(x.dim() in (3, 4), "npu_rotary_mul: input has 3 or 4 dimensions", shapes[0])
    require(
        x.shape[-1] % 2 == 0 and x.shape[-1] < 896,
        "npu_rotary_mul: head size is even and below 896",
        x.shape[-1],
    )
    require(shapes[1] == shapes[2], "npu_rotary_mul: r1 and r2 have one shape", shapes[1:])
    same_rank = len(shapes[0]) == len(shapes[1]) and shapes[0][-1] == shapes[1][-1]
    require(same_rank, "npu_rotary_mul: r1 has input's rank and full head size", shapes[:2])
    layouts = _ROTARY_3D if x.dim() == 3 else _ROTARY_4D
    fitting = [
        sizes
        for sizes, patterns in layouts.values()
        if any(_broadcasts(shapes[0], shapes[1], p) for p in (patterns if mode == _HALF else patterns[:1]))
    ]
    allowed = ", ".join(layouts)
    require(bool(fitting), f"npu_rotary_mul: r1 broadcasts to input as one of {allowed} allows", shapes[:2])
    small = any(_small_enough([shapes[0][axis] for axis in sizes], mode) for sizes in fitting)
    require(small, "npu_rotary_mul: batch and heads (interleave: their product) are below 1000", shapes[0])


def _broadcasts(x: Sequence[int], r: Sequence[int], pattern: str) -> bool:
    """Return whether r has x's size where the pattern has a 1, and size 1 elsewhere."""
    return all(b == (a if flag == "1" else 1) for a, b, flag in zip(x, r, pattern, strict=False))


def _small_enough(sizes: Sequence[int], mode: int) -> bool:
    """Return whether batch and heads are within the document's limit."""
    return (max(sizes) if mode == _HALF else torch.Size(sizes).numel()) < 1000


def _rotated(x: Tensor, mode: int) -> Tensor:
    """Return x with its halves (or neighbours) swapped, the new first one negated (arXiv:2104.09864)."""
    if mode == _HALF:
        first, second = x.chunk(2, -1)
        return torch.cat((-second, first), -1)
    return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


@op("RotaryPositionEmbeddingV2", "TTTiTT", check=_check_rotary)
def _npu_rotary_mul(
    x: Tensor, cos: Tensor, sin: Tensor, mode: int, rotate: Tensor | None, out: Tensor
) -> None:
    """Compute npu_rotary_mul; values of cos and sin outside [-1, 1] are refused, as its page demands."""
    for name, r in (("r1", cos), ("r2", sin)):
        largest = r.float().abs().amax().item() if r.numel() else 0.0
        require(largest <= 1 + 1e-6, f"npu_rotary_mul: {name} lies in [-1, 1]", f"values up to {largest}")
    x = x.float()
    turned = _rotated(x, mode) if rotate is None else x @ rotate.float()
    store(out, x * cos.float() + turned * sin.float())


@op("RotaryPositionEmbeddingGrad", "TTTTiTTT")
def _rotary_grad(
    grad: Tensor,
    cos: Tensor,
    sin: Tensor,
    x: Tensor | None,
    mode: int,
    dx: Tensor,
    dcos: Tensor | None,
    dsin: Tensor | None,
) -> None:
    """Return the gradients of npu_rotary_mul; x comes only where those of cos and sin are wanted."""
    emulated(mode in (_HALF, _INTERLEAVE), f"rotary_mode {mode}")
    g = grad.float()
    # the transpose of the rotation is its inverse: minus itself
    store(dx, g * cos.float() - _rotated(g * sin.float(), mode))
    if x is not None and dcos is not None and dsin is not None:
        store(dcos, (g * x.float()).sum_to_size(dcos.shape))
        store(dsin, (g * _rotated(x.float(), mode)).sum_to_size(dsin.shape))


def _check_apply_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, layout: int, mode: bytes) -> None:
    """Check npu_apply_rotary_pos_emb: head size 64 or 128, mode 'half', one dtype."""
    require(mode == b"half", "npu_apply_rotary_pos_emb: rotary_mode is 'half'", mode)
    require(q.shape[-1] in (64, 128), "npu_apply_rotary_pos_emb: head size is 64 or 128", q.shape[-1])
    dtypes = tuple(t.dtype for t in (q, k, cos, sin))
    require(len(set(dtypes)) == 1, "npu_apply_rotary_pos_emb: query, key, cos and sin have one dtype", dtypes)


@op("ApplyRotaryPosEmbV2", "TTTTis", check=_check_apply_rotary)
def _npu_apply_rotary_pos_emb(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, layout: int, mode: bytes
) -> None:
    """Compute npu_apply_rotary_pos_emb, which overwrites query and key."""
    for t in (q, k):
        t.copy_(t.float() * cos.float() + _rotated(t.float(), _HALF) * sin.float())


# ---- SwiGLU ----------------------------------------------------------------------------------------------------------
def _check_swiglu(x: Tensor, dim: int, out: Tensor) -> None:
    """Check npu_swiglu: contiguous, not empty, an even size along `dim`."""
    require(x.dtype in _FLOATS, "npu_swiglu: input is float16, bfloat16 or float32", x.dtype)
    require(1 <= x.dim() <= 8, "npu_swiglu: input has 1 to 8 dimensions", tuple(x.shape))
    require(-x.dim() <= dim < x.dim(), "npu_swiglu: dim is one of input's", f"{dim} for {tuple(x.shape)}")
    require(x.numel() > 0, "npu_swiglu: input is not empty", tuple(x.shape))
    require(
        x.shape[dim] % 2 == 0, "npu_swiglu: the size along dim is even", f"{x.shape[dim]} of {tuple(x.shape)}"
    )
    require(x.is_contiguous(), "npu_swiglu: input is contiguous", f"strides {x.stride()} of {tuple(x.shape)}")


@op("SwiGlu", "TiT", check=_check_swiglu)
def _npu_swiglu(x: Tensor, dim: int, out: Tensor) -> None:
    """Compute npu_swiglu: `silu(first half) * second half` (arXiv:2002.05202)."""
    gate, up = x.float().chunk(2, dim)
    store(out, F.silu(gate) * up)


@op("SwiGluGrad", "TTiT")
def _swiglu_grad(grad: Tensor, x: Tensor, dim: int, out: Tensor) -> None:
    """Return the gradient of npu_swiglu."""
    gate, up = x.float().chunk(2, dim)
    s, g = torch.sigmoid(gate), grad.float()
    store(out, torch.cat((g * up * (s + gate * s * (1 - s)), g * gate * s), dim))


# ---- the cache write -------------------------------------------------------------------------------------------------
_CACHE_DTYPES = (*_FLOATS, torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32)


def _check_cache_write(
    key: Tensor,
    key_cache: Tensor,
    slots: Tensor,
    value: Tensor,
    value_cache: Tensor,
    compress_lens: Tensor | None,
    compress_offsets: Tensor | None,
    seq_lens: Tensor | None,
    mode: bytes | None,
    *_: object,
) -> None:
    """Check npu_scatter_pa_kv_cache without compression: one dtype, contiguous tensors, caches in the shape
    of their mode.
    """
    name = "npu_scatter_pa_kv_cache"
    emulated(
        compress_lens is None and compress_offsets is None and seq_lens is None, f"{name} with compression"
    )
    require(mode in (None, b"Norm", b"PA_NZ"), f"{name}: cache_mode is None, 'Norm' or 'PA_NZ'", mode)
    tensors = {"key": key, "value": value, "key_cache": key_cache, "value_cache": value_cache}
    dtypes = {label: t.dtype for label, t in tensors.items()}
    require(
        key.dtype in _CACHE_DTYPES and len(set(dtypes.values())) == 1,
        f"{name}: key, value and caches share one dtype",
        dtypes,
    )
    for label, t in {**tensors, "slot_mapping": slots}.items():
        require(
            t.is_contiguous(), f"{name}: {label} is contiguous", f"strides {t.stride()} of {tuple(t.shape)}"
        )
    require(slots.dtype in (torch.int32, torch.int64), f"{name}: slot_mapping is int32 or int64", slots.dtype)
    require(
        key.dim() == value.dim() == 3,
        f"{name}: key and value are [tokens, heads, head size]",
        tuple(key.shape),
    )
    require(
        key.shape[:2] == value.shape[:2],
        f"{name}: key and value have the same tokens and heads",
        f"{tuple(key.shape)}, {tuple(value.shape)}",
    )
    require(
        tuple(slots.shape) == (key.shape[0],),
        f"{name}: one slot for each of {key.shape[0]} tokens",
        tuple(slots.shape),
    )
    for label, new, cache in (("key_cache", key, key_cache), ("value_cache", value, value_cache)):
        _require_cache_shape(f"{name}: {label}", new, cache, mode == b"PA_NZ")
    sizes = [_blocks(cache, mode == b"PA_NZ") for cache in (key_cache, value_cache)]
    require(sizes[0] == sizes[1], f"{name}: both caches have the same blocks and block size", sizes)


def _require_cache_shape(label: str, new: Tensor, cache: Tensor, is_nz: bool) -> None:
    """Raise unless the cache has the shape that its mode demands for tokens like `new`."""
    heads, head_size = new.shape[1:]
    require(cache.dim() == 4, f"{label} has 4 dimensions", tuple(cache.shape))
    if is_nz:
        last = 32 if new.element_size() == 1 else 16
        fits = (cache.shape[1] * last, cache.shape[3]) == (heads * head_size, last)
        rule = f"in cache_mode 'PA_NZ' (the default) is [blocks, {heads} * {head_size} / {last}, block size, {last}]; for [blocks, block size, heads, head size] pass 'Norm'"
    else:
        fits = tuple(cache.shape[2:]) == (heads, head_size)
        rule = f"in cache_mode 'Norm' is [blocks, block size, {heads}, {head_size}]"
    require(fits, f"{label} {rule}", tuple(cache.shape))


def _blocks(cache: Tensor, is_nz: bool) -> tuple[int, int]:
    """Return number and size of a cache's blocks."""
    return cache.shape[0], cache.shape[2 if is_nz else 1]


@op("ScatterPaKvCache", "TTTTTTTTssAA", check=_check_cache_write)
def _npu_scatter_pa_kv_cache(
    key: Tensor,
    key_cache: Tensor,
    slots: Tensor,
    value: Tensor,
    value_cache: Tensor,
    compress_lens: Tensor | None,
    compress_offsets: Tensor | None,
    seq_lens: Tensor | None,
    mode: bytes | None,
    *_: object,
) -> None:
    """Compute npu_scatter_pa_kv_cache: `cache[slot // block size, slot % block size] = token`.

    Slots out of range and duplicates are refused; negative ones too: the page excludes them, while
    op-plugin's own test skips them.
    """
    is_nz = mode == b"PA_NZ"
    blocks, block_size = _blocks(key_cache, is_nz)
    wanted = slots.long()
    inside = bool(((wanted >= 0) & (wanted < blocks * block_size)).all())
    limit = blocks * block_size - 1
    require(inside, f"npu_scatter_pa_kv_cache: slots lie in [0, {limit}]", slots.tolist()[:16])
    distinct = len(set(wanted.tolist())) == wanted.numel()
    require(distinct, "npu_scatter_pa_kv_cache: no slot comes twice", slots.tolist()[:16])
    for new, cache in ((key, key_cache), (value, value_cache)):
        rows = cache.permute(0, 2, 1, 3) if is_nz else cache
        rows[wanted // block_size, wanted % block_size] = new.reshape(-1, *rows.shape[2:])
