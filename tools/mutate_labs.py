"""Derives wrong answers from each reference solution and tries the checks on them: `python tools/mutate_labs.py [LAB ...]`.

A check that accepts a wrong answer, a mutant that survives, is printed with the line that was changed. Mutants that are
right all the same are listed in `EQUIVALENT`, each with its reason. The exit status is 1 under 98 % of refused ones.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import io
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
LEAST = 0.98
SECONDS = 1.5
COMPARED: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
}
COMPUTED: dict[type[ast.operator], list[type[ast.operator]]] = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.FloorDiv, ast.Add],
    ast.FloorDiv: [ast.Mult, ast.Div],
    ast.Div: [ast.Mult],
    ast.Mod: [ast.FloorDiv],
    ast.LShift: [ast.RShift],
}
CALLED = {
    "max": "min",
    "min": "max",
    "sum": "max",
    "any": "all",
    "all": "any",
    "sorted": "list",
    "amax": "amin",
}

_SYMMETRIC = "both are factors of one product, or stand in one sum"
_HIDDEN = "exp(-inf - x) is 0 for every x"
_OWN_ROWS = "the batches' own rows are the same for every choice of sizes"
_EMPTY_STAGE = "a last stage that leaves another one empty is heavier than one that does not"
EQUIVALENT: dict[str, str] = {
    "1.kv_bytes: batch_size and seq_len swapped in kv_bytes": _SYMMETRIC,
    "1.kv_bytes: seq_len and element_size swapped in kv_bytes": _SYMMETRIC,
    "1.int4_bytes: scale_bits and zero_point_bits swapped in int4_bytes": _SYMMETRIC,
    "1.choose_deployment: seq_len and requests swapped in choose_deployment": _SYMMETRIC,
    "1.crossover_batch: return int(weights // one_request) + 1  # FloorDiv becomes Div": "int cuts, too",
    "1.choose_deployment: if shape.num_params * size + cache <= 0.9 * gib * GiB:  # LtE becomes Lt": (
        "nine tenths of a memory are no whole number of bytes"
    ),
    "1.choose_deployment: BYTES_PER_WEIGHT = {'bf16': 2.0, 'int8': 1.0, 'int4': 0.5195}  # left out": (
        "the table is there already"
    ),
    "1.choose_deployment: return None  # left out": "a function that ends gives None",
    "4.recover: secret, behind = ([], max(alphabet) + 1)  # 1 becomes 2": "any other token will do",
    "4.page_key: return (salt if before is None else before, tokens)  # two things swapped": "as good a key",
    "5.padding: p, a = (prompts[i:i + batch_size], answers[i:i + batch_size])  # two things swapped": _SYMMETRIC,
    "5.padding: prompts and answers swapped in padding": _SYMMETRIC,
    "6.append_tokens: length and new swapped in append_tokens": _SYMMETRIC,
    "7.update: shift = torch.where(new == float('-inf'), 0.0, new)  # 0.0 becomes 1.0": _HIDDEN,
    "7.update: shift = torch.where(new == float('-inf'), 0.0, new)  # 0.0 becomes -1.0": _HIDDEN,
    "7.merge: shift = torch.where(lse == float('-inf'), 0.0, lse)  # 0.0 becomes 1.0": _HIDDEN,
    "7.merge: shift = torch.where(lse == float('-inf'), 0.0, lse)  # 0.0 becomes -1.0": _HIDDEN,
    "7.choose: if small and in_l1 and ((4 + 2) * q * k // 2 <= ub):  # FloorDiv becomes Div": "it comes out even",
    "8.BothPromises: return state.arrived + {'chat': 2.0, 'document': 10.0}[state.request.client]  # 2.0 becomes 3.0": (
        "it keeps both promises, and all that keep them are right"
    ),
    "8.BothPromises: return state.arrived + {'chat': 2.0, 'document': 10.0}[state.request.client]  # 10.0 becomes 9.0": (
        "it keeps both promises, and all that keep them are right"
    ),
    "9.add_rms_norm: mean = (wide * wide).mean(-1, keepdim=True)  # USub left out": "there are two dimensions",
    "9.add_rms_norm: x and residual swapped in add_rms_norm": _SYMMETRIC,
    "9.capture_sizes: return sum(((min((size for size in sizes if size >= batch)) - batch) * steps for batch, steps in "
    "histogram.items()))  # Sub becomes Add": _OWN_ROWS,
    "9.capture_sizes: return sum(((min((size for size in sizes if size >= batch)) - batch) * steps for batch, steps in "
    "histogram.items()))  # right operand left out": _OWN_ROWS,
    "9.stale: for kind in ('memory', 'numbers'):  # two things swapped": "the pairs are compared in order",
    "9.stale: first and second swapped in stale": "a difference is one from both sides",
    "10.int8_cache: tokens = math.ceil(weight_bytes * (speedup - 1) / gain) if gain > 0 else None  # Gt becomes GtE": (
        "a gain of exactly 0 is none that two ways to calculate agree on"
    ),
    "11.idle: free, token = ([0.0] * len(seconds), [0.0] * groups)  # 0.0 becomes -1.0": (
        "a stage begins at the later of both moments, and the other one is 0"
    ),
    "11.stage_layers: for last in range(1, layers - stages + 2):  # Sub becomes Add": _EMPTY_STAGE,
    "11.stage_layers: for last in range(1, layers - stages + 2):  # right operand left out": _EMPTY_STAGE,
    "11.stage_layers: for last in range(1, layers - stages + 2):  # 2 becomes 3": _EMPTY_STAGE,
    "12.places: loads, homes, found = ([0] * engines, {}, [])  # 0 becomes 1": "loads are compared with each other alone",
    "12.places: loads, homes, found = ([0] * engines, {}, [])  # 0 becomes -1": "loads are compared with each other alone",
}
"""`lab.answer: the changed line` and why that answer is right all the same."""


@dataclass(frozen=True)
class Answer:
    """One solution cell: the lab, its source, what it defines, and the source of the check that follows."""

    lab: int
    source: str
    name: str
    check: str


@dataclass(frozen=True)
class Mutant:
    """One wrong answer: its source, and what was changed."""

    source: str
    change: str


def cells(lab: int) -> list[str]:
    """The code cells of a lab's solution."""
    (path,) = (ROOT / "solutions/src").glob(f"{lab:02d}_*.py")
    found = []
    for cell in path.read_text().split("\n# %%")[1:]:
        head, _, body = cell.partition("\n")
        if "[markdown]" not in head:
            found.append(body)
    return found


def answers(lab: int) -> Iterator[Answer]:
    """The functions and classes of a lab that a check tries, each with its check's call."""
    code = cells(lab)
    checks = {m[2]: m[1] for body in code if (m := re.match(r"\s*(lab\d\d\.check_\w+)\((\w+)\)", body))}
    for body in code:
        if "BEGIN SOLUTION" not in body:
            continue
        for node in ast.parse(body).body:
            if isinstance(node, ast.FunctionDef) and node.name in checks:
                yield Answer(lab, body, node.name, checks[node.name])
            elif isinstance(node, ast.ClassDef):
                tried = node.name if node.name in checks else "MyPool"
                yield Answer(lab, body, tried, checks[tried])


def _sites(tree: ast.AST) -> Iterator[tuple[ast.AST, Any, str]]:
    """Each place of a tree that can be changed, with the change and its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for i, op in enumerate(node.ops):
                for other in COMPARED.get(type(op), []):
                    yield node, _set_op(i, other), f"{type(op).__name__} becomes {other.__name__}"
        elif isinstance(node, ast.BinOp):
            for other in COMPUTED.get(type(node.op), []):
                yield node, _set("op", other()), f"{type(node.op).__name__} becomes {other.__name__}"
            if type(node.op) in (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod):
                yield node, _swap, "operands swapped"
            yield node, _replace_by("left"), "right operand left out"
            yield node, _replace_by("right"), "left operand left out"
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            for value in (node.value + 1, node.value - 1):
                yield node, _set("value", value), f"{node.value} becomes {value}"
        elif isinstance(node, ast.Constant) and type(node.value) is bool:
            yield node, _set("value", not node.value), f"{node.value} becomes {not node.value}"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
            yield node, _replace_by("operand"), f"{type(node.op).__name__} left out"
        elif isinstance(node, ast.BoolOp):
            other_op = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield node, _set("op", other_op()), f"becomes {other_op.__name__}"
            for i in range(len(node.values)):
                yield node, _drop("values", i), "a condition left out"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLED:
            other_name = CALLED[node.func.id]
            yield node.func, _set("id", other_name), f"{node.func.id} becomes {other_name}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLED:
            yield node.func, _set("attr", CALLED[node.func.attr]), f"{node.func.attr} becomes another"
        elif isinstance(node, ast.IfExp | ast.If):
            yield node, _set("test", ast.Constant(True)), "condition always true"
            yield node, _set("test", ast.Constant(False)), "condition never true"
        elif isinstance(node, ast.comprehension):
            for i in range(len(node.ifs)):
                yield node, _drop("ifs", i), "filter left out"
        elif isinstance(node, ast.Slice):
            yield node, _set("lower", None), "slice from the beginning"
            yield node, _set("upper", None), "slice to the end"
        elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) == 2:
            yield node, _reverse, "two things swapped"


def _set(name: str, value: Any) -> Any:
    """Sets one field."""
    return lambda node: setattr(node, name, value)


def _set_op(i: int, op: type[ast.cmpop]) -> Any:
    """Sets one comparison."""
    return lambda node: node.ops.__setitem__(i, op())


def _drop(name: str, i: int) -> Any:
    """Leaves one of several out."""

    def change(node: Any) -> None:
        del getattr(node, name)[i]
        if name == "values" and len(node.values) == 1:
            _become(node, node.values[0])

    return change


def _swap(node: Any) -> None:
    """Swaps two operands."""
    node.left, node.right = node.right, node.left


def _reverse(node: Any) -> None:
    """Swaps two elements."""
    node.elts.reverse()


def _replace_by(name: str) -> Any:
    """Puts a part in a node's place."""
    return lambda node: _become(node, getattr(node, name))


def _become(node: Any, other: Any) -> None:
    """Turns a node into another one, in place."""
    node.__class__ = other.__class__
    node.__dict__ = {**other.__dict__}


def mutants(answer: Answer) -> Iterator[Mutant]:
    """All wrong answers that one change makes of a solution."""
    before = ast.parse(answer.source)
    _without_docstrings(before)
    seen = {ast.unparse(before)}
    count = len(list(_sites(before)))
    for i in range(count):
        tree = copy.deepcopy(before)
        node, change, name = list(_sites(tree))[i]
        line = _line(before, node)
        with contextlib.suppress(AttributeError):
            change(node)
        yield from _new(tree, seen, f"{line}  # {name}")
    for i, path in enumerate(_statements(before)):
        tree = copy.deepcopy(before)
        block, at = list(_statements(tree))[i]
        line = ast.unparse(path[0][path[1]]).splitlines()[0].strip()
        block[at] = ast.Pass()
        yield from _new(tree, seen, f"{line}  # left out")
    for node in ast.walk(before):
        if isinstance(node, ast.FunctionDef):
            yield from _constant_results(before, node, seen)


def _new(tree: ast.AST, seen: set[str], change: str) -> Iterator[Mutant]:
    """The mutant, unless there is one like it already."""
    ast.fix_missing_locations(tree)
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        source = ast.unparse(tree)
        if source not in seen:
            seen.add(source)
            yield Mutant(source, change)


def _constant_results(before: ast.AST, function: ast.FunctionDef, seen: set[str]) -> Iterator[Mutant]:
    """Answers that ignore everything, and answers in which one parameter is another's namesake."""
    for value in ("None", "0", "[]", "1"):
        tree = copy.deepcopy(before)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == function.name:
                node.body = ast.parse(f"return {value}").body
        yield from _new(tree, seen, f"{function.name} always gives {value}")
    names = [arg.arg for arg in function.args.args if arg.arg != "self"]
    for one, other in itertools.pairwise(names):
        tree = copy.deepcopy(before)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == function.name:
                node.body = [*ast.parse(f"{one}, {other} = {other}, {one}").body, *node.body]
        yield from _new(tree, seen, f"{one} and {other} swapped in {function.name}")


def _without_docstrings(tree: ast.AST) -> None:
    """Takes the docstrings out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]


def _statements(tree: ast.AST) -> Iterator[tuple[list[ast.stmt], int]]:
    """Every statement, as the block that it stands in and its number there; functions and classes stay."""
    for node in ast.walk(tree):
        for field in ("body", "orelse"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                for i, one in enumerate(block):
                    if not isinstance(one, ast.FunctionDef | ast.ClassDef | ast.Pass):
                        yield block, i


def _line(tree: ast.AST, node: ast.AST) -> str:
    """The statement that a changed node stands in, as it was."""
    at = getattr(node, "lineno", 0)
    best = ""
    for one in ast.walk(tree):
        if isinstance(one, ast.stmt) and one.lineno <= at <= (one.end_lineno or 0):
            best = ast.unparse(one).splitlines()[0].strip()
    return best


def space(lab: int) -> dict[str, Any]:
    """The names that a lab's solution defines, its checks and outputs left out."""
    names: dict[str, Any] = {"__name__": "solution"}
    for body in cells(lab):
        tree = ast.parse(body)
        wanted = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
        tree.body = [
            node
            for node in tree.body
            if isinstance(node, wanted) and not (isinstance(node, ast.Assign) and "lab0" in ast.unparse(node))
        ]
        with contextlib.suppress(Exception):  # what only the lab's pictures need
            exec(compile(tree, "solution", "exec"), names)
    return names


def survives(mutant: Mutant, answer: Answer, names: dict[str, Any]) -> bool:
    """Whether the check accepts a mutant."""
    from helpers.checks import CheckFailed

    given = dict(names)
    try:
        exec(compile(mutant.source, "mutant", "exec"), given)
        for body in cells(answer.lab) if answer.name == "MyPool" else []:  # classes that build on the mutant
            for node in ast.parse(body).body:
                after = isinstance(node, ast.ClassDef) and f"class {node.name}(" not in mutant.source
                if after and node.name in ("Copying", "MyPool") and "class Copying" not in mutant.source[:0]:
                    exec(compile(ast.Module([node], []), "solution", "exec"), given)
        module, check = answer.check.split(".")
        with contextlib.redirect_stdout(io.StringIO()):
            getattr(importlib.import_module(f"helpers.checks.{module}"), check)(given[answer.name])
    except CheckFailed:
        return False
    except Exception:  # it does not even define an answer
        return False
    return True


def survivors(lab: int) -> tuple[int, list[str]]:
    """The number of a lab's mutants, and those that its checks accept though they are wrong."""
    names, count, found = space(lab), 0, list[str]()
    for answer in answers(lab):
        for mutant in mutants(answer):
            key = f"{lab}.{answer.name}: {mutant.change}"
            if key in EQUIVALENT:
                continue
            count += 1
            if survives(mutant, answer, names):
                found.append(key)
    return count, found


def main(arguments: list[str]) -> int:
    """The command."""
    os.environ.setdefault("COURSE_DATA", str(Path(tempfile.gettempdir()) / "course-mutants"))
    from helpers.checks.machinery import family, limit

    family.SETTINGS.explain, limit.SECONDS = False, SECONDS
    total = alive = 0
    for lab in map(int, arguments or range(1, 13)):
        count, found = survivors(lab)
        total, alive = total + count, alive + len(found)
        print(f"lab {lab}: {count - len(found)} of {count} wrong answers refused")
        for key in found:
            print(f"  accepted: {key}")
    share = 1 - alive / max(1, total)
    print(f"{share:.1%} of {total} wrong answers refused")
    return 0 if share >= LEAST else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
