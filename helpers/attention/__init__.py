"""Flash attention: its tiles, its memory traffic, and what fits a chip. Chapter 7."""

from helpers.attention import flash_tiles
from helpers.attention.flash_attention import FlashAttention, TileState
from helpers.attention.flash_inputs import Inputs
from helpers.attention.flash_tiles import LARGE_SCORE, Problem
from helpers.attention.io_model import (
    AttentionSize,
    Traffic,
    keys_read,
    naive_memory,
    naive_traffic,
    scores_computed,
    tiled_memory,
    tiled_traffic,
    traffic_order,
)
from helpers.attention.on_chip import (
    BLOCKS,
    Need,
    best_tiling,
    cube_share,
    fits,
    handover_traffic,
    needs,
    workspace,
)
from helpers.attention.online_softmax import OnlineSoftmax, Partial, finite, merge
from helpers.attention.tiles import Kind, Tile, Tiling, Visibility

__all__ = [
    "BLOCKS",
    "LARGE_SCORE",
    "AttentionSize",
    "FlashAttention",
    "Inputs",
    "Kind",
    "Need",
    "OnlineSoftmax",
    "Partial",
    "Problem",
    "Tile",
    "TileState",
    "Tiling",
    "Traffic",
    "Visibility",
    "best_tiling",
    "cube_share",
    "finite",
    "fits",
    "flash_tiles",
    "handover_traffic",
    "keys_read",
    "merge",
    "naive_memory",
    "naive_traffic",
    "needs",
    "scores_computed",
    "tiled_memory",
    "tiled_traffic",
    "traffic_order",
    "workspace",
]
