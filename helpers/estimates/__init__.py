"""Numbers predicted from sizes: memory, activations, operations and bytes, accelerators, ceilings.

Chapters 1, 2, 10 and 11.
"""

from helpers.estimates.activations import activation_bytes, activation_phases
from helpers.estimates.cache_bytes import kv_cache_bytes, state_bytes
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
from helpers.estimates.figure import Figure
from helpers.estimates.hardware import ACCELERATORS, Accelerator, Buffers, Handover, accelerator
from helpers.estimates.host_caches import SERVER_CORE, HostCaches, this_host
from helpers.estimates.layer_cost import attended_pairs, layer_cache_bytes, layer_flops, layer_weights_read
from helpers.estimates.memory import MemoryCalculator
from helpers.estimates.parallelism.experts import (
    ExpertLoad,
    balanced,
    blocks,
    devices_per_token,
    draw_routes,
    expert_counts,
)
from helpers.estimates.parallelism.kv_transfer import KVTransfer
from helpers.estimates.parallelism.links import LINKS, Link, link
from helpers.estimates.parallelism.shares import held_cache, held_weights, is_tied
from helpers.estimates.parallelism.traffic import TensorTraffic
from helpers.estimates.published_configs import PUBLISHED_CONFIGS, published_config, published_shape
from helpers.estimates.quantisation.compressed_tensors import UnknownScheme
from helpers.estimates.quantisation.model_slim import model_slim_bytes
from helpers.estimates.quantisation.number_format import NumberFormat
from helpers.estimates.quantisation.quantised import quantised_bytes
from helpers.estimates.quantisation.schemes import Scheme, scheme_of
from helpers.estimates.quantisation.weight_table import WeightShape, weight_table
from helpers.estimates.sized_model import SizedModel, weight_bytes
from helpers.estimates.units import BITS, GB, GiB, bytes_per_element

__all__ = [
    "ACCELERATORS",
    "BITS",
    "GB",
    "LINKS",
    "PUBLISHED_CONFIGS",
    "SERVER_CORE",
    "Accelerator",
    "Buffers",
    "Ceilings",
    "ExpertLoad",
    "Figure",
    "GiB",
    "Handover",
    "HostCaches",
    "KVTransfer",
    "Link",
    "MemoryCalculator",
    "NumberFormat",
    "Scheme",
    "SizedModel",
    "StepCost",
    "TensorTraffic",
    "UnknownScheme",
    "WeightShape",
    "accelerator",
    "accelerator_ceilings",
    "activation_bytes",
    "activation_phases",
    "attended_pairs",
    "balanced",
    "blocks",
    "bytes_per_element",
    "compute_bound_batch",
    "decode_cost",
    "devices_per_token",
    "draw_routes",
    "expert_counts",
    "held_cache",
    "held_weights",
    "is_tied",
    "kv_cache_bytes",
    "layer_activations",
    "layer_cache_bytes",
    "layer_flops",
    "layer_weights",
    "layer_weights_read",
    "link",
    "model_slim_bytes",
    "prefill_cost",
    "published_config",
    "published_shape",
    "quantised_bytes",
    "scheme_of",
    "state_bytes",
    "step_cost",
    "this_host",
    "weight_bytes",
    "weight_table",
]
