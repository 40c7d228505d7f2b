"""Random numbers. Seed and offset come from torch_npu's own generator state, so that seeding repeats; the numbers
themselves are not an NPU's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from helpers.emulated_npu.operators import Operators, store

OPERATORS = Operators()
op = OPERATORS.op


def _generator(seed: int, offset: int) -> torch.Generator:
    """Return a generator whose numbers depend on seed and offset."""
    mixed = (seed * 0x9E3779B97F4A7C15 + offset * 0xD1B54A32D192ED03 + 1) % (1 << 63)
    return torch.Generator().manual_seed(mixed)


op("InplaceUniform", "Tdduu")(
    lambda a, low, high, *state: a.uniform_(low, high, generator=_generator(*state))
)
op("InplaceNormal", "Tffuu")(lambda a, mean, std, *state: a.normal_(mean, std, generator=_generator(*state)))


@op("NormalFloatFloat", "ffuuT")
def _normal(mean: float, std: float, seed: int, offset: int, out: Tensor) -> None:
    """Return normal numbers of one mean and deviation."""
    out.normal_(mean, std, generator=_generator(seed, offset))


@op("NormalTensorFloat", "TfuuT")
@op("NormalFloatTensor", "fTuuT")
@op("NormalTensorTensor", "TTuuT")
def _normal_of_each(mean: Tensor, std: Tensor, seed: int, offset: int, out: Tensor) -> None:
    """Return normal numbers, each of its own mean or deviation."""
    store(out, torch.normal(mean, std, generator=_generator(seed, offset)))


op("InplaceBernoulli", "TSuu")(lambda a, p, *state: a.bernoulli_(p, generator=_generator(*state)))


@op("InplaceBernoulliTensor", "TTuu")
def _bernoulli(a: Tensor, p: Tensor, seed: int, offset: int) -> None:
    """Return ones with each element's own probability."""
    store(a, torch.bernoulli(p.expand(a.shape), generator=_generator(seed, offset)))


op("InplaceRandom", "Tiiuu")(lambda a, low, high, *state: a.random_(low, high, generator=_generator(*state)))


@op("Randperm", "iuuT")
def _permutation(n: int, seed: int, offset: int, out: Tensor) -> None:
    """Return a permutation of n numbers."""
    store(out, torch.randperm(n, generator=_generator(seed, offset)))


@op("Multinomial", "TibuuT")
def _multinomial(p: Tensor, n: int, replacement: bool, seed: int, offset: int, out: Tensor) -> None:
    """Return n draws from each row's distribution."""
    store(out, torch.multinomial(p, n, replacement, generator=_generator(seed, offset)))


# ---- dropout: one bit for each element, the least significant bit first ----------------------------------------------
@op("DropoutGenMaskV2", "AduuIT")
def _dropout_mask(shape: Sequence[int], p: float, seed: int, offset: int, dtype: int, mask: Tensor) -> None:
    """Return a packed mask whose bits are 0 (dropped) with probability p."""
    keep = torch.rand(mask.numel() * 8, generator=_generator(seed, offset)).reshape(-1, 8) >= p
    packed = (keep.to(torch.uint8) << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)
    store(mask, packed.reshape(mask.shape))


def unpacked(mask: Tensor, count: int) -> Tensor:
    """Return the first `count` bits of a packed mask, as 0 and 1."""
    return ((mask.reshape(-1, 1) >> torch.arange(8, dtype=torch.uint8)) & 1).reshape(-1)[:count]


@op("DropoutDoMask", "TTdT")
def _apply_mask(x: Tensor, mask: Tensor, p: float, out: Tensor) -> None:
    """Return x where the mask keeps it, scaled by 1 / (1 - p)."""
    kept = x * unpacked(mask, x.numel()).reshape(x.shape)
    store(out, kept / (1 - p) if p < 1 else torch.zeros_like(x))
