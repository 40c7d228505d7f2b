"""Every emulated operator, from all tables."""

from __future__ import annotations

from helpers.emulated_npu import (
    ops_attention,
    ops_elementwise,
    ops_indexing,
    ops_infer_attention,
    ops_matrix,
    ops_neural,
    ops_optimizers,
    ops_random,
    ops_reductions,
    ops_transformer,
)
from helpers.emulated_npu.operators import joined

TABLE = joined(
    [
        ops_elementwise.OPERATORS,
        ops_indexing.OPERATORS,
        ops_reductions.OPERATORS,
        ops_matrix.OPERATORS,
        ops_neural.OPERATORS,
        ops_random.OPERATORS,
        ops_optimizers.OPERATORS,
        ops_transformer.OPERATORS,
        ops_attention.OPERATORS,
        ops_infer_attention.OPERATORS,
    ]
)
