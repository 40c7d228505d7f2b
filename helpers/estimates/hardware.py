"""Accelerators as data: memory, bandwidth, peak rates, on-chip buffers, documented attention operators.

Each figure with its source and its standing.
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.estimates.figure import Figure, Status
from helpers.estimates.units import GiB

_INI = "CANN platform configuration file (hicann/runtime, src/platform, 681ef7610 of 2026-08-22)"
_DERIVED = f"cube cores x 16^3 x 2 x clock, from the {_INI}"
_CLOUDMATRIX = "CloudMatrix384, arXiv:2506.12708"
_CONNECT = "Huawei Connect 2025"
_SIMULATOR = "the maker's simulator: Ascend/msmodeling, tensor_cast/device.py, 84fec853 of 2026-08-21"


@dataclass(frozen=True)
class Buffers:
    """On-chip memory of one Da Vinci core in KiB (official): what a tile of an operator must fit into."""

    l1: int
    l0a: int
    l0b: int
    l0c: int
    ub: int


@dataclass(frozen=True)
class Handover:
    """How scores get from a core's cube unit to its vector unit, and weights back."""

    through_memory: bool
    """By way of device memory, where a workspace small enough stays in the L2 cache; else inside the core."""
    status: Status
    source: str


@dataclass(frozen=True)
class Accelerator:
    """One device as a program sees it (of a 910C package: one of its two dies)."""

    name: str
    cube_cores: int
    vector_cores: int
    clock_mhz: int
    memory: Figure
    """Bytes."""
    bandwidth: Figure
    """Bytes per second of device memory."""
    l2_mib: int
    buffers: Buffers
    handover: Handover
    attention: tuple[str, ...]
    """Attention operators that the course calls and whose documents list this product."""
    stated: tuple[tuple[str, float], ...] = ()
    """Peaks in 10^12 operations per second that the maker's simulator states, by type."""
    profile: str = ""
    """Name of the profile in the maker's simulator that has these peaks."""
    fp8: bool = False
    """Whether the cube computes fp8, at int8's rate."""
    bf16: bool = True
    """Whether the cube computes bf16."""

    def peak(self, dtype: str) -> Figure:
        """Return the peak multiply-add rate of the cube units in operations per second.

        The rate is the one that the maker's simulator states, else it is derived: one cube core does a
        16 x 16 x 16 product of 16-bit numbers each clock, 8-bit ones at twice the rate.

        Raise ValueError for a type without a rate.
        """
        factors = (
            {"fp16": 1, "int8": 2} | ({"bf16": 1} if self.bf16 else {}) | ({"fp8": 2} if self.fp8 else {})
        )
        if dtype not in factors:
            raise ValueError(f"{self.name} has no {dtype} cube rate here")
        if dtype in dict(self.stated):
            return Figure(
                dict(self.stated)[dtype] * 1e12, "op/s", "official", f"{_SIMULATOR}, {self.profile}"
            )
        rate = self.cube_cores * 16**3 * 2 * self.clock_mhz * 1e6 * factors[dtype]
        return Figure(rate, "op/s", "derived", _DERIVED)


_A2 = Buffers(l1=512, l0a=64, l0b=64, l0c=128, ub=192)
_310 = Buffers(l1=1024, l0a=64, l0b=64, l0c=256, ub=256)
_950 = Buffers(l1=512, l0a=64, l0b=64, l0c=256, ub=248)
_SPLIT = Handover(True, "official", f"{_INI}: cube_vector_combine=split")
_FUSED = Handover(False, "official", f"{_INI}: core_type_list=AICore,VectorCore, no cube core apart")
_PATH = Handover(False, "reported", "Triton-Ascend's documents: a path from L0C to UB; the cores are split")
_FIA, _FUSION = "npu_fused_infer_attention_score", "npu_fusion_attention"
_ON_A2, _ON_A3, _ON_950DT = (_FIA, _FUSION), (_FIA,), (_FUSION,)
_FAST = Figure(1.6 * 2**40, "B/s", "official", f"{_SIMULATOR}: every A2 profile of 64 GiB")
_HALF = Figure(0.8 * 2**40, "B/s", "official", f"{_SIMULATOR}: the A2 profile of 32 GiB")
# Which card a profile is, was concluded from its bf16 peak, which is the derived one to four digits.
_376 = (("fp16", 376.0), ("bf16", 353.9), ("int8", 752.0))
_313 = (("fp16", 313.0), ("bf16", 294.9), ("int8", 626.0))
_280 = (("fp16", 280.0), ("bf16", 245.8), ("int8", 560.0))


def _gib(size: float) -> Figure:
    """Return device memory as the configuration file states it."""
    return Figure(size * GiB, "B", "official", _INI)


def _reported(rate: float, source: str) -> Figure:
    """Return a bandwidth that a source reports, in B/s."""
    return Figure(rate, "B/s", "reported", source)


ACCELERATORS = {
    item.name: item
    for item in (
        # No profile of the simulator has the B1's derived peak.
        Accelerator("Ascend 910B1", 24, 48, 1850, _gib(64), _FAST, 192, _A2, _SPLIT, _ON_A2),
        Accelerator(
            "Ascend 910B2", 24, 48, 1800, _gib(64), _FAST, 192, _A2, _SPLIT, _ON_A2, _376, "ATLAS_800_A2_376T_64G",
        ),
        Accelerator(
            "Ascend 910B3", 20, 40, 1800, _gib(64), _FAST, 192, _A2, _SPLIT, _ON_A2, _313, "ATLAS_800_A2_313T_64G",
        ),
        Accelerator(
            "Ascend 910B4", 20, 40, 1500, _gib(32), _HALF, 96, _A2, _SPLIT, _ON_A2, _280, "ATLAS_800_A2_280T_32G_PCIE",
        ),
        # The simulator's dies have 376 and 280 in fp16, 353.9 and 245.8 in bf16, and 1.6 TiB/s: other clocks.
        Accelerator(
            "Ascend 910C (one die)", 24, 48, 1850, _gib(64), _reported(1.6e12, _CLOUDMATRIX), 192, _A2, _SPLIT, _ON_A3,
        ),
        Accelerator(
            "Ascend 310P3", 8, 7, 1060, Figure(24e9, "B", "official", _INI),
            _reported(204e9, "half of the Atlas 300I Duo's 408 GB/s"), 16, _310, _FUSED, (), bf16=False,
        ),
        Accelerator(
            "Ascend 950PR", 32, 64, 1650, _gib(128), _reported(1.6e12, _CONNECT), 128, _950, _PATH, (), fp8=True,
        ),
        Accelerator(
            "Ascend 950DT", 32, 64, 1650, _gib(144), _reported(4.0e12, _CONNECT), 128, _950, _PATH, _ON_950DT, fp8=True,
        ),
    )
}  # fmt: skip


def accelerator(name: str) -> Accelerator:
    """Return the table's row of that name; raise ValueError with the known names for another."""
    if name not in ACCELERATORS:
        raise ValueError(f"unknown accelerator {name!r}; known are {', '.join(ACCELERATORS)}")
    return ACCELERATORS[name]
