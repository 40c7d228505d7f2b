"""What the emulated NPU claims: torch_npu's own behaviour, memory, streams, graphs, loud failures, whole models."""

from __future__ import annotations

import copy
import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import emulated_npu
from helpers.emulated_npu.emulation import emulation
from helpers.emulated_npu.operators import store
from helpers.emulated_npu.records import Kind, read
from helpers.machine import repeats
from tests.npu.support import causal_mask, npu

MIB = 1 << 20


@pytest.fixture
def base() -> Iterator[int]:
    """Bytes in use before the test, with an empty allocator cache and a fresh peak."""
    gc.collect()
    torch.npu.empty_cache()
    torch.npu.reset_peak_memory_stats()
    yield torch.npu.memory_allocated()
    emulated_npu.set_capacity(64 << 30)
    torch.npu.empty_cache()


@pytest.fixture
def outside(base: int) -> int:
    """Bytes that torch_npu took past its allocator, such as the words of an event that tests before this left behind."""
    return emulated_npu.used() - torch.npu.memory_reserved()


# ---- starting --------------------------------------------------------------------------------------------------------
def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints, warnings on stderr left out."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=600, check=False
    )  # fmt: skip
    return done.stdout.strip() if done.returncode == 0 else f"{done.stdout}{done.stderr}"


def test_starting_again_changes_nothing():
    before = emulated_npu.operators()
    emulated_npu.start()
    assert emulated_npu.running()
    assert emulated_npu.operators() == before


def test_the_set_up_loads_the_model_in_a_fresh_process():
    environment = {**os.environ, "COURSE_DEVICE": "emulated-npu"}
    command = [sys.executable, "-m", "helpers.model"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(":")[0] for line in said] == ["speed on the CPU", "model"]
    assert said[1].startswith("model: ready in ")


def test_nothing_starts_by_itself():
    code = """
import sys, helpers, torch
from helpers import emulated_npu
print(emulated_npu.running(), "torch_npu" in sys.modules, hasattr(torch, "npu") and torch.npu.is_available())
"""
    assert python(code) == "False False False"


def test_a_start_prints_nothing_and_works_after_torch():
    code = """
import helpers, torch
from helpers import emulated_npu
emulated_npu.start()
assert torch.npu.is_available() and emulated_npu.running()
assert torch.ones(2, device="npu").sum().item() == 2
"""
    assert python(code) == ""


def test_a_start_after_torch_npu_is_refused():
    code = """
import sys, helpers, types
sys.modules["torch_npu"] = types.ModuleType("torch_npu")
from helpers import emulated_npu
try:
    emulated_npu.start()
except RuntimeError as error:
    print(error)
print(emulated_npu.running())
"""
    told = python(code).splitlines()
    assert told[0].startswith("torch_npu was imported already")
    assert told[1] == "False"


def test_what_is_missing_is_said(tmp_path: Any):
    code = """
import os
from unittest.mock import patch
import helpers.emulated_npu.build as b
from helpers import emulated_npu
for cause in (
    patch.object(b.importlib.util, "find_spec", lambda name: None),
    patch.dict(os.environ, CC="no-such-compiler"),
    patch.dict(os.environ, CC="false"),
    patch.object(b.platform, "machine", lambda: "riscv64"),
    patch.object(b.platform, "system", lambda: "Windows"),
):
    with cause:
        try:
            emulated_npu.start()
        except RuntimeError as error:
            print(" ".join(str(error).split()))
"""
    messages = (
        "torch_npu, which is not installed",
        "needs a C compiler",
        "could not build",
        "not on Linux riscv64",
        "not on Windows",
    )
    for said, message in zip(python(code, COURSE_CACHE=str(tmp_path)).splitlines(), messages, strict=True):
        assert message in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "nothing half-built is left"


def test_two_processes_may_build_at_once(tmp_path: Any):
    code = "import helpers; from helpers.emulated_npu.build import libraries; print(libraries().cann_home.exists())"
    environment = {**os.environ, "COURSE_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
        for _ in range(2)
    ]
    assert [process.communicate()[0].decode().strip() for process in both] == ["True", "True"]
    assert len(list((tmp_path / "emulated_npu").iterdir())) == 1


# ---- tensors ---------------------------------------------------------------------------------------------------------
def test_the_device_says_what_it_is():
    properties = torch.npu.get_device_properties(0)
    assert torch.npu.get_device_name(0) == "Ascend910B3"
    assert (properties.cube_core_num, properties.vector_core_num, properties.total_memory) == (
        20,
        40,
        64 << 30,
    )


def test_copies_and_views():
    a = torch.randn(5, 7)
    n = a.npu()
    assert torch.equal(n.t()[1:3].cpu(), a.t()[1:3])
    assert "npu:0" in repr(n)
    assert torch.equal(n[n > 0].cpu(), a[a > 0])
    assert torch.equal(n.nonzero().cpu(), a.nonzero())


def test_seeds_repeat():
    drawn = []
    for seed in (1, 1, 2):
        torch.npu.manual_seed(seed)
        drawn.append(torch.randn(8, device="npu").cpu())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_events_streams_and_pinned_memory():
    a = torch.randn(5, 7)
    n = a.npu()
    start, end = (torch.npu.Event(enable_timing=True) for _ in range(2))
    start.record()
    n @ n.t()
    end.record()
    torch.npu.synchronize()
    assert start.elapsed_time(end) > 0
    with torch.npu.stream(torch.npu.Stream()):
        doubled = n * 2
    torch.npu.current_stream().synchronize()
    assert torch.equal(doubled.cpu(), a * 2)
    assert a.pin_memory().is_pinned()
    assert torch.equal(a.pin_memory().to("npu", non_blocking=True).cpu(), a)


def test_a_callers_default_device_stays_outside():
    with torch.device("npu"):
        assert torch.arange(5.0).sum().item() == 10
        assert F.dropout(torch.ones(8), 0.5).device.type == "npu"


def test_the_trace_lists_kernels_in_order():
    x = torch.randn(2, 8).npu()
    with emulated_npu.trace() as outer:
        x + x
        with emulated_npu.trace() as inner:
            npu.npu_swiglu(x)
        x * x
    assert inner == ["aclnnSwiGlu"]
    assert outer == ["aclnnAdd", "aclnnSwiGlu", "aclnnMul"]


# ---- failures --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: torch.cdist(n, n), "aclnnCdist: NotEmulated"),
        (lambda n: npu.npu_ptiou(n, n), "npu_ptiou|PtIou|old-style aclop"),
        (lambda n: npu.npu_rotary_mul(n, n, n, "spiral"), "should be half or interleave"),
        (lambda n: n.to(torch.complex64) ** 2, "NotEmulated: complex tensors"),
        (lambda n: n.int() @ n.int(), "float16, bfloat16 and float32"),
    ],
    ids=["an operator", "an aclop", "torch_npu's check", "complex", "int matmul"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_failures_are_loud(call: Any, message: str):
    argument = torch.rand(4, 4).npu()
    with pytest.raises(RuntimeError, match=message):
        call(argument)


def test_arguments_are_not_read_blindly():
    """What a wrong operator signature, or a tensor beyond its storage, would otherwise read from memory."""
    runtime, data = emulation().runtime, (ctypes.c_float * 4)(1, 2, 3, 4)
    create = runtime._library.aclCreateTensor
    create.restype = ctypes.c_void_p
    numbers = lambda *values: (ctypes.c_int64 * len(values))(*values)  # noqa: E731
    make = lambda size, storage: create(  # noqa: E731
        numbers(size),
        ctypes.c_uint64(1),
        0,
        numbers(1),
        ctypes.c_int64(0),
        2,
        numbers(storage),
        ctypes.c_uint64(1),
        data,
    )
    good, beyond = make(4, 4), make(4, 3)
    assert read(good, Kind.TENSOR, runtime.record).tolist() == [1, 2, 3, 4]
    assert read(None, Kind.TENSOR, runtime.record) is None
    with pytest.raises(ValueError, match="4 elements of a storage of 3"):
        read(beyond, Kind.TENSOR, runtime.record)
    with pytest.raises(TypeError, match="not an acl SCALAR"):
        read(good, Kind.SCALAR, runtime.record)
    with pytest.raises(TypeError, match="not an acl TENSOR"):
        read(good + 8, Kind.TENSOR, runtime.record)


def test_a_result_of_another_shape_is_not_stored():
    with pytest.raises(ValueError, match="allocated an output of shape"):
        store(torch.empty(2, 3), torch.ones(3))


def test_work_goes_on_after_a_failure():
    n = torch.rand(4, 4).npu()
    with pytest.raises(RuntimeError):
        torch.cdist(n, n)
    assert torch.equal((n + n).cpu(), n.cpu() * 2)


def test_a_failure_in_the_queue_is_raised_by_every_synchronization():
    code = """
import helpers, torch
from helpers import emulated_npu
emulated_npu.start()
x = torch.randn(4, 4).npu()
told = []
for i in range(3):
    try:
        y = torch.cdist(x, x) if i == 0 else x + 1
        torch.npu.synchronize()
        told.append("silence")
    except RuntimeError as error:
        told.append("aclnnCdist" in str(error))
print(told)
"""
    assert python(code, ASCEND_LAUNCH_BLOCKING="0", TASK_QUEUE_ENABLE="1") == "[True, True, True]"


def test_the_queue_computes_and_does_not_deadlock():
    code = """
import helpers, torch
from helpers import emulated_npu
emulated_npu.start()
a = torch.randn(300, 300); x = a.npu()
for _ in range(5):
    y = x @ x
    torch.npu.current_stream().query(); torch.npu.memory_allocated(); e = torch.npu.Event(); e.record(); e.query()
print(torch.allclose(y.cpu(), a @ a, rtol=1e-4, atol=1e-3), (x > 0).nonzero().shape[0] == int((a > 0).sum()))
with emulated_npu.trace() as names:
    x + 1
print(names)
"""
    out = python(code, ASCEND_LAUNCH_BLOCKING="0", TASK_QUEUE_ENABLE="1")
    assert out == "True True\n['aclnnAdds']"


# ---- memory ----------------------------------------------------------------------------------------------------------
def test_memory_is_counted(base: int, outside: int):
    """4 MiB take 32 bytes more, which torch_npu pads, rounded up to 512."""
    z = torch.empty(MIB, device="npu")
    assert torch.npu.memory_allocated() - base == 4 * MIB + 512
    temporary = z + 1
    del temporary
    assert torch.npu.max_memory_allocated() - base == 2 * (4 * MIB + 512)
    assert torch.npu.memory_reserved() == emulated_npu.used() - outside


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, MIB - 32)), max_size=12))
def test_memory_is_counted_through_any_history(base: int, outside: int, history: list[tuple[bool, int]]):
    """Each tensor counts its bytes and 32 more, in units of 512, until it is freed; over 1 MiB, an unsplit rest as well."""
    held: list[Tensor] = []
    before = torch.npu.memory_allocated()
    for allocates, nbytes in history:
        if allocates or not held:
            held.append(torch.empty(nbytes, dtype=torch.uint8, device="npu"))
        else:
            held.pop(nbytes % len(held))
        assert torch.npu.memory_allocated() - before == sum(-(-(t.numel() + 32) // 512) * 512 for t in held)
        assert torch.npu.memory_reserved() == emulated_npu.used() - outside
    held.clear()
    torch.npu.empty_cache()
    assert torch.npu.memory_allocated() == before
    assert torch.npu.memory_reserved() == emulated_npu.used() - outside


def test_running_out_and_recovering(base: int, outside: int):
    emulated_npu.set_capacity(emulated_npu.used() + 64 * MIB)
    big = torch.empty(48 * MIB, dtype=torch.uint8, device="npu")
    with pytest.raises(torch.OutOfMemoryError, match="NPU out of memory"):
        torch.empty(32 * MIB, dtype=torch.uint8, device="npu")
    assert torch.npu.memory_reserved() == emulated_npu.used() - outside
    del big
    assert torch.empty(32 * MIB, dtype=torch.uint8, device="npu").numel() == 32 * MIB


def test_fresh_memory_reads_as_nan(base: int):
    assert torch.empty(10 * MIB, device="npu").isnan().all()


# ---- graphs ----------------------------------------------------------------------------------------------------------
def test_a_graph_runs_when_replayed():
    n, static = torch.randn(5, 7).npu(), torch.randn(3, 7, device="npu")
    model = lambda t: torch.softmax(t @ n.t() + 1, -1).sum(0)  # noqa: E731
    model(static)
    graph = torch.npu.NPUGraph()
    with emulated_npu.trace() as captured, torch.npu.graph(graph):
        result = model(static)
    for _ in range(2):
        static.copy_(torch.randn(3, 7))
        with emulated_npu.trace() as replayed:
            graph.replay()
        assert torch.equal(result, model(static))
    assert captured == []
    assert replayed == ["aclnnMatmul", "aclnnAdds", "aclnnSoftmax", "aclnnReduceSum"]


def test_a_synchronization_while_captured_is_refused():
    x = torch.randn(3, device="npu")

    def capture() -> None:
        with torch.npu.graph(torch.npu.NPUGraph()):
            x.sum().item()

    with pytest.raises(RuntimeError, match="synchronized while it was being captured"):
        capture()


def test_contents_are_checked_at_each_replay():
    cache, slots = torch.zeros(2, 16, 1, 16).half().npu(), torch.tensor([3, 4], dtype=torch.int32).npu()
    rows = torch.ones(2, 1, 16).half().npu()
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph):
        npu.npu_scatter_pa_kv_cache(rows, rows, cache, cache.clone(), slots, cache_mode="Norm")
    graph.replay()
    assert cache[0, 3:5].all()
    assert cache.sum() == 32
    slots.copy_(torch.tensor([3, 3], dtype=torch.int32))
    with pytest.raises(RuntimeError, match="no slot comes twice"):
        graph.replay()


class Decode:
    """Paged decode steps of two sequences, whose lengths grow."""

    def __init__(self) -> None:
        self.q = torch.randn(2, 4, 128).bfloat16().npu()
        self.k, self.v = (torch.randn(4, 128, 256).bfloat16().npu() for _ in range(2))
        self.arguments = dict(
            atten_mask=causal_mask(), block_size=128, num_query_heads=4, num_key_value_heads=2, softmax_scale=128**-0.5,
            block_table=torch.tensor([[0, 1], [2, 3]], dtype=torch.int32).npu(), input_layout="TND", sparse_mode=3,
            actual_seq_qlen=[1, 2],
        )  # fmt: skip

    def __call__(self, lengths: list[int]) -> Tensor:
        """One call of the operator."""
        q = self.q * 1  # something before it in the graph
        return npu.npu_fused_infer_attention_score_v2(
            q, self.k, self.v, actual_seq_kvlen=lengths, **self.arguments
        )[0]


STEPS = [[5, 200], [6, 201], [7, 202]]


def test_a_graphs_lengths_are_updated():
    decode = Decode()
    expected = [decode(lengths).cpu() for lengths in STEPS]
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph, auto_dispatch_capture=True):
        first, second = decode(STEPS[0]), decode(STEPS[0])
    for lengths, right in zip(STEPS, expected, strict=True):
        graph.update(cpu_update_input=[{"actual_seq_kvlen": lengths}])
        graph.replay()
        assert torch.equal(first.cpu(), right)
        assert torch.equal(second.cpu(), right)
    assert not torch.equal(expected[0], expected[1])


def test_a_graph_keeps_the_latest_calls_only_and_drops_them_with_itself():
    kept = emulation()._calls._kept
    gc.collect()
    before = len(kept)
    decode, graph = Decode(), torch.npu.NPUGraph()
    with torch.npu.graph(graph, auto_dispatch_capture=True):
        decode(STEPS[0])
    captured = len(kept)
    for lengths in STEPS:
        graph.update(cpu_update_input=[{"actual_seq_kvlen": lengths}])
        graph.replay()
    assert len(kept) == captured > before
    graph.reset()
    assert len(kept) == before


def test_a_replay_without_its_update_does_not_run_on_old_lengths():
    decode = Decode()
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph, auto_dispatch_capture=True):
        result = decode(STEPS[0])
    with pytest.raises(RuntimeError, match="update the graph first"):
        graph.replay()
    graph.update(cpu_update_input=[{"actual_seq_kvlen": STEPS[1]}])  # now the replay that waited goes on
    torch.npu.synchronize()
    assert torch.equal(result, decode(STEPS[1]))


def test_an_updated_call_is_checked():
    decode = Decode()
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph, auto_dispatch_capture=True):
        decode(STEPS[0])
    with pytest.raises(RuntimeError, match="plain"):
        graph.update(cpu_update_input=[{"actual_seq_kvlen": [5, 257]}])
    # torch_npu leaves the update open, on a stream of its pool that later graphs will get.
    with pytest.raises(RuntimeError, match="fewer operators"):
        torch.npu.graph_task_update_end(graph.graph_dispatch_mode.update_stream)


def test_task_groups_by_hand():
    decode = Decode()
    call = npu.npu_fused_infer_attention_score_v2.out
    workspace = npu._npu_fused_infer_attention_score_v2_get_max_workspace(
        decode.q, decode.k, decode.v, actual_seq_kvlen=STEPS[0], **decode.arguments
    )
    out, lse = torch.empty_like(decode.q), torch.empty(0, device="npu")
    run = lambda lengths: call(  # noqa: E731
        decode.q,
        decode.k,
        decode.v,
        actual_seq_kvlen=lengths,
        workspace=workspace,
        out=[out, lse],
        **decode.arguments,
    )
    graph, updates, event = torch.npu.NPUGraph(), torch.npu.Stream(), torch.npu.ExternalEvent()
    with torch.npu.graph(graph):
        stream = torch.npu.current_stream()
        event.wait(stream)
        event.reset(stream)
        torch.npu.graph_task_group_begin(stream)
        run(STEPS[0])
        handle = torch.npu.graph_task_group_end(stream)
    for lengths in STEPS:
        with torch.npu.stream(updates):
            torch.npu.graph_task_update_begin(updates, handle)
            run(lengths)
            torch.npu.graph_task_update_end(updates)
            event.record(updates)
        graph.replay()
        assert torch.equal(out, decode(lengths))
    torch.npu.graph_task_update_begin(updates, handle)
    with pytest.raises(RuntimeError, match="fewer operators in a task update"):
        torch.npu.graph_task_update_end(updates)


# ---- attention behind torch's own door -------------------------------------------------------------------------------
def test_sdpa_is_the_fused_kernel():
    q, k, v = (torch.randn(2, heads, 9, 32) for heads in (8, 2, 2))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    with emulated_npu.trace() as names:
        got = F.scaled_dot_product_attention(q.npu(), k.npu(), v.npu(), is_causal=True, enable_gqa=True)
    assert "aclnnFlashAttentionScore" in names
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-5, atol=1e-5)


# ---- whole models ----------------------------------------------------------------------------------------------------
def llama(attention: str) -> tuple[nn.Module, nn.Module]:
    """The same small Llama on the CPU and on the device."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attn_implementation=attention,
    )  # fmt: skip
    cpu = LlamaForCausalLM(config).eval()
    return cpu, copy.deepcopy(cpu).to("npu")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_a_llama_generates_as_on_the_cpu(attention: str):
    cpu, device = llama(attention)
    ids = torch.randint(0, 97, (2, 11))
    torch.testing.assert_close(device(ids.npu()).logits.cpu(), cpu(ids).logits, rtol=0, atol=1e-5)
    options: dict[str, Any] = dict(max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(device.generate(ids.npu(), **options).cpu(), cpu.generate(ids, **options))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_llama_learns_as_on_the_cpu(attention: str):
    models = llama(attention)
    ids = torch.randint(0, 97, (2, 11))
    for model in models:
        mine = ids.to(next(model.parameters()).device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            model(mine, labels=mine).loss.backward()
            optimizer.step()
    for on_cpu, on_device in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(on_device.cpu(), on_cpu, rtol=0, atol=1e-5)


def test_nothing_is_timed_twice():
    assert repeats(torch.device("npu"), 7) == 1
    assert repeats(torch.device("cpu"), 7) == 7
