"""Of a notebook, the statements that its panels need: they run in seconds."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator

import nbformat
from nbformat import NotebookNode

PANEL = "SweepPanel("
LATE = (ast.FunctionDef, ast.ClassDef)  # what they use they ask for when they are called


class Statement:
    """One statement of a cell: the names that it gives a meaning to, and those whose meaning it asks for."""

    def __init__(self, cell: int, node: ast.stmt, source: str):
        self.cell, self.source = cell, source
        self.late = isinstance(node, LATE)
        self.is_panel = isinstance(node, ast.Expr) and source.startswith(PANEL)
        top = symtable.symtable(source, "cell", "exec")
        self.made = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
        self.used = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
        for table in _scopes(top):
            self.used |= {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}


def panel_cells(notebook: NotebookNode) -> NotebookNode:
    """A notebook of the statements that the panels need, in their order and cells, without outputs.

    A statement is needed when it is the last before the panel to give a needed name its meaning. What a statement changes
    inside a thing that another one made is not seen.
    """
    statements = list(_statements(notebook))
    kept: set[int] = set()
    for place, statement in enumerate(statements):
        if statement.is_panel:
            kept |= _needed(statements, place)
    cells: dict[int, list[str]] = {}
    for place in sorted(kept):
        cells.setdefault(statements[place].cell, []).append(statements[place].source)
    code = [nbformat.v4.new_code_cell("\n".join(sources)) for sources in cells.values()]
    title = nbformat.v4.new_markdown_cell("# The panels")
    return nbformat.v4.new_notebook(cells=[title, *code], metadata=notebook.metadata)


def _needed(statements: list[Statement], panel: int) -> set[int]:
    """The places of the statements that one panel needs, its own among them."""
    found, waiting = set(), [panel]
    while waiting:
        place = waiting.pop()
        if place in found:
            continue
        found.add(place)
        until = panel if statements[place].late else place
        for name in statements[place].used:
            waiting += [i for i in range(until) if name in statements[i].made][-1:]
    return found


def _statements(notebook: NotebookNode) -> Iterator[Statement]:
    """The statements of all code cells."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            for node in ast.parse(cell.source).body:
                first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
                lines = cell.source.splitlines()[first - 1 : node.end_lineno]
                yield Statement(number, node, "\n".join(lines))


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """All scopes inside one."""
    for child in table.get_children():
        yield child
        yield from _scopes(child)
