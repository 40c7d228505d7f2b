"""`torch.compile` with torch_npu's graph backends: the eager result, from one graph, with other operators where they rewrite."""

from __future__ import annotations

import pytest
import torch
import torch_npu
from torch.nn import functional as F

from helpers import emulated_npu

WEIGHT, GAMMA = torch.randn(64, 64), torch.rand(64) + 0.5
EAGER = ["aclnnAddRmsNorm", "aclnnMatmul", "aclnnAdd"]
INPUTS = "aclnnForeachCopy"


def block(x, residual, weight, gamma):
    """Add, norm, product, add: a block of a decoder without its attention."""
    normed, _, total = torch_npu.npu_add_rms_norm(x, residual, gamma)
    return F.linear(normed, weight) + total


@pytest.fixture
def inputs():
    """Two sets of inputs on the device, in bf16."""
    torch.compiler.reset()
    given = [torch.randn(2, 4, 64).bfloat16().npu().unbind() for _ in "ab"]
    return [(*pair, WEIGHT.bfloat16().npu(), GAMMA.bfloat16().npu()) for pair in given]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("backend", "kernels"), [
    ("npugraphs", EAGER), ("npugraph_ex", [*EAGER[:2], "aclnnInplaceAdd"]),
])  # fmt: skip
def test_a_compiled_block_gives_the_eager_result_in_a_replay(backend, kernels, inputs):
    with torch.inference_mode():
        with emulated_npu.trace() as ran:
            wanted = [block(*given) for given in inputs]
        assert ran == 2 * EAGER
        compiled = torch.compile(block, backend=backend, dynamic=False)
        for _ in range(2):
            compiled(*inputs[0])
        with emulated_npu.trace() as ran, emulated_npu.trace(launched=True) as launched:
            found = [compiled(*given).clone() for given in inputs]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert [name for name in ran if name in kernels or name in EAGER] == 2 * kernels
    assert not {*launched} & {*kernels}, "a replay launches none of its kernels"
    assert INPUTS in launched


def test_no_core_is_set_aside():
    """What `npugraph_ex` asks first: how many cores a device's and a stream's work may use."""
    all_cores = {"cube_core_num": 20, "vector_core_num": 40}
    assert torch.npu.get_device_limit(0) == all_cores
    assert torch.npu.get_stream_limit(torch.npu.current_stream()) == all_cores


@pytest.mark.parametrize("backend", ["npu", "inductor"])
def test_backends_out_of_reach_say_so(backend, inputs):
    """The graph engine's backend needs GE (and its Python packages), inductor needs triton-ascend."""
    with pytest.raises(Exception, match=r"protobuf|not supported|PackageNotFound"):
        torch.compile(block, backend=backend, dynamic=False)(*inputs[0])
