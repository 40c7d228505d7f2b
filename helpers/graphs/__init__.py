"""Fewer, larger operators, and passes captured once and replayed. Chapters 2 and 9.

Read `counting` first, then `written_out` and `pieces` (fusion), `launches` (what calls cost), `recording` (a graph's
rules on any device), `npu_graph` (graphs on an NPU) and `buckets` (which batch sizes to capture).
"""

from helpers.graphs import written_out
from helpers.graphs.buckets import BucketedDecode, Buckets, best_sizes, vllm_sizes
from helpers.graphs.compiled import Compiled, compile_for, default_backend
from helpers.graphs.counting import OpCounts, op_counts
from helpers.graphs.decode_counts import decode_counts, pass_counts
from helpers.graphs.decode_step import DecodeStep
from helpers.graphs.launches import Launched, call_seconds, step_seconds, time_line
from helpers.graphs.masked_rows import MaskedRows
from helpers.graphs.npu_graph import DecodeGraph
from helpers.graphs.pieces import PIECES, PLAIN, WRITTEN_OUT, Piece, by_operators, swapped
from helpers.graphs.recording import RecordedStep, Recording

__all__ = [
    "PIECES",
    "PLAIN",
    "WRITTEN_OUT",
    "BucketedDecode",
    "Buckets",
    "Compiled",
    "DecodeGraph",
    "DecodeStep",
    "Launched",
    "MaskedRows",
    "OpCounts",
    "Piece",
    "RecordedStep",
    "Recording",
    "best_sizes",
    "by_operators",
    "call_seconds",
    "compile_for",
    "decode_counts",
    "default_backend",
    "op_counts",
    "pass_counts",
    "step_seconds",
    "swapped",
    "time_line",
    "vllm_sizes",
    "written_out",
]
