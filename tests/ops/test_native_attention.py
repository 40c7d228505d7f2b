"""On a CPU the kernel serves where it can, and plain torch elsewhere."""

import pytest
import torch

from helpers import ops
from helpers.native import kernels
from helpers.ops import BlockTables, native_attention, torch_attention

compiled = pytest.mark.skipif(kernels().functions is None, reason=kernels().reason)


def problem(dtype=torch.float32, new=1):
    generator = torch.Generator().manual_seed(3)
    q = torch.randn(2 * new, 4, 32, generator=generator).to(dtype)
    k, v = (torch.randn(6, 16, 2, 32, generator=generator).to(dtype) for _ in "kv")
    return (q, k, v, BlockTables([[4, 1, 3], [2, 5, 0]], [48, 40], 16), (0, new, 2 * new), 0.2)


def calls(monkeypatch):
    """Return the list in which each call of the kernel is noted."""
    noted, attend = [], native_attention.native.attend
    monkeypatch.setattr(native_attention.native, "attend", lambda *a, **k: noted.append(1) or attend(*a, **k))
    return noted


@compiled
def test_the_kernel_serves_pages_and_rows(monkeypatch):
    noted = calls(monkeypatch)
    given = problem()
    torch.testing.assert_close(ops.attention_pages(*given), torch_attention.attention_pages(*given))
    q, k, v = given[0], torch.randn(3, 2, 50, 32), torch.randn(3, 2, 50, 32)
    rows = (q, k, v, [2, 0], (0, 1, 2), (50, 7), 0.2)
    torch.testing.assert_close(ops.attention_rows(*rows), torch_attention.attention_rows(*rows))
    assert len(noted) == 2


def test_without_the_kernel_plain_torch_serves(monkeypatch):
    monkeypatch.setattr(native_attention.native, "serves", lambda *_: False)
    noted = calls(monkeypatch)
    given = problem()
    assert torch.equal(ops.attention_pages(*given), torch_attention.attention_pages(*given))
    assert not noted


@compiled
@pytest.mark.parametrize(("multiplies", "new", "native"), [(True, 33, 0), (True, 32, 1), (False, 33, 1)])
def test_long_bf16_chunks_are_plain_where_the_processor_multiplies_bf16(monkeypatch, multiplies, new, native):
    monkeypatch.setattr(native_attention, "can_pack", lambda dtype: multiplies)
    noted = calls(monkeypatch)
    ops.attention_pages(*problem(torch.bfloat16, new))
    assert len(noted) == native


@compiled
def test_another_pass_over_the_same_tables_is_another_call():
    q, k, v, tables, _, scale = problem(new=3)
    for starts in ((0, 3, 6), (0, 1, 6)):
        got = ops.attention_pages(q, k, v, tables, starts, scale)
        torch.testing.assert_close(got, torch_attention.attention_pages(q, k, v, tables, starts, scale))
