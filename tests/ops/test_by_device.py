"""An operator runs the version for the device of its first tensor."""

import inspect
import sys
from types import SimpleNamespace

import pytest
import torch

from helpers import ops
from helpers.ops import by_device, int8_cache, low_bit, torch_attention, torch_ops

OPERATORS = sorted(
    set(ops.__all__)
    - {"BlockTables", "likeliest", "materialised_attention", "pack_weight", "packed_from"}
    - {"Int8", "quantise_int8"}
)


def plain(name):
    modules = (torch_ops, torch_attention, int8_cache, low_bit)
    return next(getattr(module, name) for module in modules if hasattr(module, name))


@pytest.mark.parametrize("name", OPERATORS)
def test_it_has_the_name_the_signature_and_the_words_of_the_plain_version(name):
    operator = getattr(ops, name)
    assert operator is getattr(by_device, name)
    assert operator.__name__ == name
    assert operator.__doc__ == plain(name).__doc__
    assert inspect.signature(operator) == inspect.signature(plain(name))


@pytest.mark.parametrize("name", OPERATORS)
def test_a_tensor_on_an_npu_runs_the_fused_version(monkeypatch, name):
    """The tensor and the module are stand-ins: torch_npu is not imported here."""
    fused = SimpleNamespace(**{other: lambda *_, **__: "another" for other in OPERATORS})
    setattr(fused, name, lambda *arguments, **options: (arguments, options))
    monkeypatch.setitem(sys.modules, "helpers.ops.npu_ops", fused)
    tensor = SimpleNamespace(device=SimpleNamespace(type="npu"))
    assert getattr(ops, name)(tensor, 1, scale=2) == ((tensor, 1), {"scale": 2})


def test_a_tensor_elsewhere_runs_the_plain_version(monkeypatch):
    monkeypatch.setitem(sys.modules, "helpers.ops.npu_ops", None)  # an import would fail
    x = torch.randn(3, 8)
    assert torch.equal(ops.swiglu(x), torch_ops.swiglu(x))
    assert ops.swiglu(x.to("meta")).device.type == "meta"
