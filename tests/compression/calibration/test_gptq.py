"""GPTQ: outputs move less than by plain rounding; without a tie between channels it is plain rounding."""

import pytest
import torch

from helpers.compression import gptq, output_error, quantise_matrix
from helpers.estimates import NumberFormat


def problem(seed=0, rows=24, columns=64, tokens=200):
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=draw)
    x = torch.randn(tokens, columns, generator=draw) @ mixing
    return torch.randn(rows, columns, generator=draw), x.t() @ x


@pytest.mark.parametrize(
    "fmt", [NumberFormat(4, 16, "minimum"), NumberFormat(3, 32, "zero"), NumberFormat(4, 24)], ids=str
)
def test_outputs_move_less(fmt):
    weight, gram = problem()
    moved = [
        output_error(q.dequantise() - weight, gram)
        for q in (gptq(weight, gram, fmt), quantise_matrix(weight, fmt))
    ]
    assert moved[0] < 0.8 * moved[1]


def test_inputs_without_a_tie_are_rounded_plainly():
    weight, _ = problem()
    fmt = NumberFormat(4, 16, "minimum")
    got, plain = gptq(weight, torch.eye(64), fmt), quantise_matrix(weight, fmt)
    assert torch.equal(got.codes, plain.codes)
    assert got.nbytes == plain.nbytes


def test_a_row_may_be_one_group():
    weight, gram = problem()
    grid = quantise_matrix(weight, NumberFormat(4)).grid
    assert torch.equal(gptq(weight, gram, NumberFormat(4)).grid.scale, grid.scale)


@pytest.mark.parametrize(("fmt", "size"), [(NumberFormat(4, "tensor"), 64), (NumberFormat(4, 16), 32)])
def test_what_gptq_cannot_do_is_refused(fmt, size):
    weight, _ = problem()
    with pytest.raises(ValueError, match="expected groups within rows, and a gram of 64 x 64"):
        gptq(weight, torch.eye(size), fmt)
