"""How often a function is compiled, for shapes that stay and that change."""

import pytest
import torch

from helpers.graphs import compile_for, default_backend


def norm(x):
    """A small function."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)


@pytest.mark.parametrize(
    ("dynamic", "sizes", "times"),
    [(False, (2, 2, 3, 4), 3), (True, (2, 3, 4), 1), (None, (2, 2, 3, 4, 5), 2)],
)
def test_compiled_anew_for_new_shapes_unless_they_are_declared(dynamic, sizes, times):
    inputs = [(torch.randn(n, 8),) for n in sizes]
    compiled = compile_for(norm, inputs, dynamic=dynamic, backend="eager")
    assert compiled.times == times
    assert len(compiled.seconds) == len(sizes)
    torch.testing.assert_close(compiled.function(*inputs[-1]), norm(*inputs[-1]))


def test_without_a_compiler_functions_are_traced_only(monkeypatch):
    assert default_backend() in ("inductor", "eager")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert default_backend() == "eager"
