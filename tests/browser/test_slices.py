"""The statements that a panel needs, and no others; in every chapter they define all that they use."""

import ast
import builtins

import ipywidgets
import nbformat
import pytest

from tests.browser.slices import Statement, panel_cells
from tests.tiny import CONFIGS
from tools import notebooks as nbs


def sliced(*sources: str) -> list[str]:
    """The code that is kept, by cell."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return [cell.source for cell in panel_cells(nbformat.v4.new_notebook(cells=cells)).cells[1:]]


def test_only_what_the_panel_needs_is_kept_in_order():
    draw = "@cached\ndef draw(x):\n    return y + x"
    kept = sliced(
        "import a, b\nslow()", "x = slow()", f"y = a.f()\n\n\n{draw}\nprint(y)", "SweepPanel(draw)", "z = y"
    )
    assert kept == ["import a, b", f"y = a.f()\n{draw}", "SweepPanel(draw)"]


def test_the_last_meaning_before_the_panel_counts():
    assert sliced("x = 1", "x = 2", "SweepPanel(x)", "x = 3") == ["x = 2", "SweepPanel(x)"]
    assert sliced("x = 1", "x = x + 2", "SweepPanel(x)") == ["x = 1", "x = x + 2", "SweepPanel(x)"]


def test_what_a_function_uses_may_come_after_it():
    assert sliced("def f():\n    return g", "g = 1", "SweepPanel(f)") == [
        "def f():\n    return g",
        "g = 1",
        "SweepPanel(f)",
    ]


def test_names_inside_functions_and_comprehensions_are_seen():
    source = "class C(B):\n    def m(self, a):\n        return [k(a, i) for i in h]\n"
    statement = Statement(0, ast.parse(source).body[0], source)
    assert statement.made == {"C"}
    assert {"B", "k", "h"} <= statement.used
    assert not {"a", "i", "self", "m"} & statement.used


@pytest.mark.parametrize("path", sorted((nbs.ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_chapters_panel_cells_define_what_they_use(path):
    cells = [cell.source for cell in panel_cells(nbs.read(path)).cells if cell.cell_type == "code"]
    assert any("SweepPanel(" in source for source in cells)
    kept = [Statement(0, node, ast.unparse(node)) for source in cells for node in ast.parse(source).body]
    known = set(dir(builtins)).union(*(statement.made for statement in kept))
    for statement in kept:
        assert statement.used <= known, statement.source


@pytest.mark.parametrize("path", sorted((nbs.ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_control_changes_table_and_picture(path, monkeypatch, tmp_path):
    monkeypatch.chdir(path.parent)
    CONFIGS["llama"].save_pretrained(tmp_path)
    for panel in panels(path):
        for control in panel._controls.values():
            start, seen = control.value, {(panel.picture, panel.table)}
            for value in values_near(control, tmp_path):
                control.value = value
                seen.add((panel.picture, panel.table))
                if all(len({each[i] for each in seen}) > 1 for i in (0, 1)):
                    break
            else:
                pytest.fail(f"the panel does not follow {control.description!r}")
            control.value = start


def panels(path):
    """The chapter's panels, without a kernel."""
    space: dict[str, object] = {}
    for cell in panel_cells(nbs.read(path)).cells:
        if cell.cell_type == "code":
            *before, last = ast.parse(cell.source).body
            exec(compile(ast.Module(before, []), path.stem, "exec"), space)
            if "SweepPanel(" in cell.source and isinstance(last, ast.Expr):
                yield eval(compile(ast.Expression(last.value), path.stem, "eval"), space)
            else:
                exec(compile(ast.Module([last], []), path.stem, "exec"), space)


def values_near(control, folder):
    """Values that a few presses of a key reach; for a box, the folder of a model's config."""
    if isinstance(control, ipywidgets.Text):
        return [str(folder)]
    if hasattr(control, "options"):
        options = list(control.options)
        place = options.index(control.value)
        return options[place + 1 : place + 7] + options[max(0, place - 6) : place][::-1]
    steps = [control.value + i * control.step for i in (1, 2, 3, -1, -2, -3)]
    return [value for value in steps if control.min <= value <= control.max]
