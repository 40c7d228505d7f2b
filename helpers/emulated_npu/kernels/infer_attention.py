"""npu_fused_infer_attention_score and its v2: attention for inference over dense, packed or paged keys and values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from helpers.emulated_npu.attention import attend
from helpers.emulated_npu.infer_call import LAYOUTS, V3_NAMES, V3_SIGNATURE, V4_NAMES, V4_SIGNATURE, InferCall
from helpers.emulated_npu.infer_quant import numbers_of
from helpers.emulated_npu.infer_rules import check_call, check_contents, hidden_from
from helpers.emulated_npu.operators import Operators, store

OPERATORS = Operators()


def _compute(call: InferCall) -> None:
    """Compute attention of every sequence into `out`, and its log-sum-exp where asked; rows beyond a query's
    length are zeros.
    """
    check_contents(call)
    outs = call.queries(call.out.zero_(), LAYOUTS[call.layout])
    lses = call.queries(call.lse.fill_(math.inf), "TND" if call.packed else "BNSD") if call.want_lse else None
    keys = numbers_of(call, call.keys_of(call.k), call.key_antiquant_scale)
    values = numbers_of(call, call.keys_of(call.v), call.value_antiquant_scale)
    parts = zip(call.queries(call.q, call.layout_in), keys, values, outs, strict=True)
    for index, (q, k, v, out) in enumerate(parts):
        hidden = hidden_from(call, index, q.shape[1], k.shape[1])
        attended = attend(q, k, v, call.scale, hidden, sink=call.learnable_sink)
        store(out, attended.out)
        if lses is not None:
            store(next(lses), attended.lse)


def _enter(name: str, signature: str, names: Sequence[str]) -> None:
    """Enter one version of the operator."""

    def run(*args: Any) -> None:
        _compute(InferCall.of(names, args))

    OPERATORS.op(name, signature, check=lambda *args: check_call(InferCall.of(names, args)))(run)


_enter("FusedInferAttentionScoreV3", V3_SIGNATURE, V3_NAMES)
_enter("FusedInferAttentionScoreV4", V4_SIGNATURE, V4_NAMES)
