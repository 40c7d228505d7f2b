"""Every `torch_npu` function that the course names is called by a test: enumerated from the source, compared with what ran."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_npu

from helpers.compression import INT4
from helpers.machine import device_trace
from tests.npu import test_graph, test_ops, test_quantised_models
from tests.tiny import reference, twin
from tools.notebooks import ROOT, read_source, sources

EMULATOR = ROOT / "helpers" / "emulated_npu"  # the device's side: it is called by torch_npu


def trees() -> Iterator[tuple[Path, ast.AST]]:
    """The library's files and the notebooks' code cells, parsed."""
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        if EMULATOR not in path.parents:
            yield path, ast.parse(path.read_text())
    for path in sources():
        code = [cell.source for cell in read_source(path).cells if cell.cell_type == "code"]
        yield path, ast.parse("\n".join(code))


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    before = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{before}.{node.attr}" if before else ""  # type: ignore[attr-defined]


def named() -> set[str]:
    """Functions and classes of torch_npu and torch.npu that the course's code names."""
    found = set()
    for _, tree in trees():
        for node in ast.walk(tree):
            name = dotted(node) if isinstance(node, ast.Attribute) else ""
            if name.startswith(("torch_npu.", "torch.npu.")):
                found.add(name.replace("torch.npu.", "torch_npu.npu."))
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def counted(monkeypatch: pytest.MonkeyPatch, name: str, ran: set[str]) -> None:
    """Has calls of one function recorded."""
    owner: Any = torch_npu
    *path, last = name.split(".")[1:]
    for part in path:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, last)

    class Recorded:
        """The original in everything but that it keeps count."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            ran.add(name)
            return original(*args, **kwargs)

        def __getattr__(self, attribute: str) -> Any:
            return getattr(original, attribute)

    monkeypatch.setattr(owner, last, Recorded())


def exercise(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Tests of this folder that compare results, and together call everything."""
    test_ops.test_norms_rotation_activation_product(torch.bfloat16)
    test_ops.test_rows("mixed", torch.bfloat16, 4, 2, 128)
    test_ops.test_packed_attention("mixed", torch.float32, 4, 2, 128)
    test_ops.test_pages("mixed", torch.bfloat16, 128, 4, 2, 128)
    test_graph.test_replays_equal_plain_passes(twin(reference("qwen3"), torch.bfloat16).to("npu"))
    with device_trace(torch.device("npu"), folder):
        torch.ones(2, device="npu").add_(1)
    with monkeypatch.context() as older:
        test_ops.without(older, "npu_fused_infer_attention_score_v2")
        test_ops.test_log_sum_exp(torch.bfloat16, True, 3, 70, 64)
    small = test_quantised_models.small_model()
    test_quantised_models.test_packed_weights_give_the_logits_of_their_numbers(small, INT4)
    test_quantised_models.test_int8_weights_and_activations(small, "token")
    test_quantised_models.test_an_int8_cache_in_rows(small)


def test_all_that_is_named_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted, ran = named(), set[str]()
    assert len(wanted) >= 10, wanted
    for name in wanted:
        counted(monkeypatch, name, ran)
    exercise(monkeypatch, tmp_path)
    assert ran == wanted


def test_a_name_is_found_wherever_it_stands() -> None:
    assert dotted(ast.parse("torch_npu.npu.graph").body[0].value) == "torch_npu.npu.graph"  # type: ignore[attr-defined]
    assert dotted(ast.parse("f().x").body[0].value) == ""  # type: ignore[attr-defined]
