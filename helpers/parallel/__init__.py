"""Ranks in processes of their own, and one model over several of them: tensor and pipeline parallelism. Chapter 11.

Read `ranks` first: it starts the processes. `shards` says which rank holds what, and `tensor_parallel` computes with it.
"""

from helpers.parallel.ranks import RankFailed, Ranks, run_ranks

__all__ = ["RankFailed", "Ranks", "run_ranks"]
