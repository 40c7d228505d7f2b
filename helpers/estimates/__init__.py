"""Numbers predicted from sizes: memory, activations, operations and bytes, accelerators, ceilings. Chapters 1 and 2."""

from helpers.estimates.activations import activation_bytes, activation_phases
from helpers.estimates.ceilings import Ceilings, accelerator_ceilings
from helpers.estimates.cost import (
    StepCost,
    compute_bound_batch,
    decode_cost,
    layer_activations,
    layer_weights,
    prefill_cost,
    step_cost,
)
from helpers.estimates.hardware import (
    ACCELERATORS,
    SERVER_CORE,
    Accelerator,
    Buffers,
    Figure,
    Handover,
    HostCaches,
    accelerator,
    this_host,
)
from helpers.estimates.memory import MemoryCalculator, kv_cache_bytes
from helpers.estimates.units import BITS, GB, GiB, bytes_per_element

__all__ = [
    "ACCELERATORS",
    "BITS",
    "GB",
    "SERVER_CORE",
    "Accelerator",
    "Buffers",
    "Ceilings",
    "Figure",
    "GiB",
    "Handover",
    "HostCaches",
    "MemoryCalculator",
    "StepCost",
    "accelerator",
    "accelerator_ceilings",
    "activation_bytes",
    "activation_phases",
    "bytes_per_element",
    "compute_bound_batch",
    "decode_cost",
    "kv_cache_bytes",
    "layer_activations",
    "layer_weights",
    "prefill_cost",
    "step_cost",
    "this_host",
]
