"""Every emulated operator, from all tables."""

from __future__ import annotations

from helpers.emulated_npu.kernels import (
    attention,
    elementwise,
    indexing,
    infer_attention,
    matrix,
    neural,
    optimizers,
    quant_products,
    quantise,
    random,
    reductions,
    transformer,
)
from helpers.emulated_npu.operators import joined

TABLE = joined(
    [
        elementwise.OPERATORS,
        indexing.OPERATORS,
        reductions.OPERATORS,
        matrix.OPERATORS,
        neural.OPERATORS,
        random.OPERATORS,
        optimizers.OPERATORS,
        transformer.OPERATORS,
        attention.OPERATORS,
        infer_attention.OPERATORS,
        quantise.OPERATORS,
        quant_products.OPERATORS,
    ]
)
