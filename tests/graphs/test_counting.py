"""Calls are counted exactly: views apart from launches, bytes of intermediates apart from what is kept."""

import pytest
import torch

from helpers.graphs import op_counts


def numbers(counts):
    return counts.num_calls, counts.num_launches, counts.read, counts.written


def test_a_launch_reads_its_arguments_and_writes_its_result():
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    counts = op_counts(lambda: x + y)
    assert numbers(counts) == (1, 1, 96, 48)
    assert counts.nbytes == 144
    assert dict(counts.launches) == {"add": 1}


def test_views_are_calls_and_no_launches():
    x = torch.randn(4, 6)
    counts = op_counts(lambda: x.view(6, 4).transpose(0, 1)[1:].chunk(2, dim=-1))
    assert counts.num_calls == 4
    assert numbers(counts)[1:] == (0, 0, 0)


def test_a_conversion_to_the_type_that_is_there_launches_nothing():
    x = torch.randn(4)
    assert op_counts(lambda: x.to(torch.float32)).num_launches == 0
    assert numbers(op_counts(lambda: x.to(torch.bfloat16)))[1:] == (1, 16, 8)


def test_a_change_in_place_reads_and_writes():
    x, y = torch.randn(5), torch.randn(5)
    assert numbers(op_counts(lambda: x.add_(y))) == (1, 1, 40, 20)


def test_what_is_kept_is_no_intermediate_and_neither_are_its_views():
    x, weight, cache = torch.randn(2, 3), torch.randn(4, 3), torch.zeros(8, 4)

    def step():
        cache[2:4].copy_(torch.nn.functional.linear(x, weight.view(4, 3)))

    assert numbers(op_counts(step, kept=[weight, cache]))[1:] == (2, 24 + 32, 32)
    assert op_counts(step).nbytes > op_counts(step, kept=[weight, cache]).nbytes


def test_an_argument_named_twice_is_read_once_and_a_broadcast_one_by_its_own_elements():
    x = torch.randn(5)
    assert op_counts(lambda: x * x).read == 20
    one = torch.randn(1, 4).expand(100, 4)
    assert op_counts(lambda: one + 1).read == 16


def test_a_packed_weight_counts_nothing():
    weight = torch.randn(4, 3)
    packed = weight.to_mkldnn()
    counts = op_counts(lambda: packed.to_dense())
    assert counts.num_launches == 1
    assert counts.read == 0


def test_an_error_of_the_function_is_raised():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        op_counts(lambda: torch.randn(2, 3) @ torch.randn(2, 3))
