"""Ranks in processes of their own, and one model over several of them: tensor and pipeline parallelism. Chapter 11.

Read `ranks` first: it starts the processes. `shards` says which rank holds what, `tensor_parallel` computes with it.
"""

from helpers.parallel.collectives import Collectives
from helpers.parallel.grid import Grid
from helpers.parallel.loading import load_shard, read_parts
from helpers.parallel.low_bit.quantise_shard import quantise_shard
from helpers.parallel.low_bit.summed import SummedEmbedding, SummedProduct
from helpers.parallel.on_ranks import ending, stage_engine, tensor_engine, wire_times, with_dtensor
from helpers.parallel.pipeline_batching import PipelineBatcher, PipelineGroup
from helpers.parallel.pipeline_clock import Slot, idle_shares, pipeline_slots
from helpers.parallel.rank_process import Place, own_device
from helpers.parallel.ranks import RankFailed, Ranks, run_ranks
from helpers.parallel.shards import Shard, plan_shards
from helpers.parallel.shared_clock import SentClock, SharedClock
from helpers.parallel.sliced_tensors import SlicedTensors
from helpers.parallel.stage_model import StageLM, load_stage
from helpers.parallel.stages import head_weight, layer_weight, split_layers, stage_weights
from helpers.parallel.tensor_parallel import RowParallel, TensorParallelLM, VocabularyEmbedding

__all__ = [
    "Collectives",
    "Grid",
    "PipelineBatcher",
    "PipelineGroup",
    "Place",
    "RankFailed",
    "Ranks",
    "RowParallel",
    "SentClock",
    "Shard",
    "SharedClock",
    "SlicedTensors",
    "Slot",
    "StageLM",
    "SummedEmbedding",
    "SummedProduct",
    "TensorParallelLM",
    "VocabularyEmbedding",
    "ending",
    "head_weight",
    "idle_shares",
    "layer_weight",
    "load_shard",
    "load_stage",
    "own_device",
    "pipeline_slots",
    "plan_shards",
    "quantise_shard",
    "read_parts",
    "run_ranks",
    "split_layers",
    "stage_engine",
    "stage_weights",
    "tensor_engine",
    "wire_times",
    "with_dtensor",
]
