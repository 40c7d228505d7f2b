"""The notebook commands: what they store, what they keep, and what they say when something fails."""

import copy
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
from nbclient.exceptions import CellTimeoutError
from nbformat.v4 import new_code_cell, new_notebook, new_output

from helpers.display import Table, measured
from tests import conftest
from tools import guard, in_sync, refresh, run_notebooks
from tools import notebooks as nbs

SOURCE = """# %%
import time

import helpers

print("early", flush=True)
time.sleep(0.5)
print("late")

# %% tags=["raises-exception"]
from helpers.display import Table

Table(("a", "b"), [(1,)])

# %%
1 + 1
"""


def place(root, text=SOURCE):
    """A course of one source in `root`; gives the source and where its notebook belongs."""
    source = root / "notebooks" / "src" / "00_small.py"
    source.parent.mkdir(parents=True)
    source.write_text(text)
    return source, nbs.notebook_of(source)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The notebook of `SOURCE`, executed."""
    source, path = place(tmp_path_factory.mktemp("course"))
    refresh.refresh(source)
    return nbs.read(path)


def error(message):
    return new_output("error", ename="ValueError", evalue=message, traceback=["ValueError: " + message])


def kept(old, new, **cell):
    """Whether a refresh keeps the output `old` of a cell that now gives `new`."""
    fresh, before = (
        new_notebook(cells=[new_code_cell("x", id="x", outputs=[o], **cell)]) for o in (new, old)
    )
    refresh.keep_equal_outputs(fresh, before)
    return fresh.cells[0].outputs[0] == old


def test_a_notebook_says_nothing_of_the_python_that_ran_it(made):
    assert {name: made.metadata[name] for name in nbs.METADATA} == nbs.METADATA
    assert set(made.metadata) == {*nbs.METADATA, "jupytext"}


def test_where_printing_paused_is_not_stored(made):
    assert [output.text for output in made.cells[0].outputs] == ["early\nlate\n"]


def test_streams_stay_apart_where_something_else_came_between():
    parts = (("stdout", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", "d"))
    pieces = [new_output("stream", name=name, text=text) for name, text in parts]
    notebook = new_notebook(cells=[new_code_cell("x", outputs=pieces)])
    nbs.tidy(notebook)
    said = [(output.name, output.text) for output in notebook.cells[0].outputs]
    assert said == [("stdout", "ab"), ("stderr", "c"), ("stdout", "d")]


def test_live_widgets_go_and_their_static_copy_stays():
    data = {nbs.WIDGET_VIEW: {"model_id": "1"}, "text/html": "<table>", "text/plain": "SweepPanel(n=1)"}
    notebook = new_notebook(cells=[new_code_cell("x", outputs=[new_output("display_data", data)])])
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {}}
    nbs.tidy(notebook)
    assert set(notebook.cells[0].outputs[0].data) == {"text/html", "text/plain"}
    assert "widgets" not in notebook.metadata


def test_an_expected_error_keeps_its_message_and_no_frame_of_this_machine(made):
    (output,) = made.cells[1].outputs
    assert output.traceback == ["ValueError: row 0 has 1 cells, the table has 2 columns"]
    assert guard.problems(made) == []


def test_the_guard_sees_a_path_in_an_expected_error():
    for output in (
        new_output("error", ename="E", evalue="no file /home/ada/x", traceback=["E"]),
        new_output("error", ename="E", evalue="", traceback=["\x1b[32m/home/ada/x.py\x1b[39m:12"]),
    ):
        cell = new_code_cell("import helpers", execution_count=1, outputs=[output])
        cell.metadata.tags = ["raises-exception"]
        (said,) = guard.problems(new_notebook(cells=[cell]))
        assert said.startswith("cell 0: a path of the machine it ran on: /home/ada")


@pytest.mark.parametrize("marker", ["NBVAL_IGNORE_OUTPUT", "nbval_skip", "PYTEST_VALIDATE_IGNORE_OUTPUT"])
def test_the_guard_sees_a_comment_that_turns_the_comparison_off(marker):
    cell = new_code_cell(f"import helpers\n#{marker}", execution_count=1)
    (said,) = guard.problems(new_notebook(cells=[cell]))
    assert said.startswith("cell 0: its output is not compared")
    cell.source += "\nenvironment_report()"
    assert guard.problems(new_notebook(cells=[cell])) == []


def test_another_error_message_is_taken():
    assert kept(error("first"), error("first"))
    assert not kept(error("first"), error("second"))


def test_another_text_alternative_is_taken():
    def figure(alt):
        return new_output("display_data", {"image/png": "AA"}, metadata={"image/png": {"alt": alt}})

    tagged = {"tags": ["measured"]}
    assert kept(figure("a curve"), figure("a curve"), metadata=tagged)
    assert not kept(figure("a curve"), figure("two curves"), metadata=tagged)


def test_measured_covers_pictures_and_no_other_data():
    def data(kind, content):
        return new_output("display_data", {kind: content})

    tagged = {"tags": ["measured"]}
    assert kept(data("image/png", "AA"), data("image/png", "BB"), metadata=tagged)
    assert not kept(data("application/json", {"n": 1}), data("application/json", {"n": 2}), metadata=tagged)


def test_a_kept_result_has_its_cells_new_number(made):
    fresh = copy.deepcopy(made)
    for cell in fresh.cells:
        cell.execution_count += 1
    fresh.cells[2].outputs[0].execution_count += 1
    refresh.keep_equal_outputs(fresh, made)
    assert fresh.cells[2].outputs[0].execution_count == fresh.cells[2].execution_count == 4


def timings(*seconds):
    rows = [(measured(s), f"way {i}", measured(s), i) for i, s in enumerate(seconds)]
    return repr(Table(("time", "way", "again", "n"), rows))


def test_a_table_of_measurements_compares_equal_whatever_their_width():
    usual = nbs.sanitised(timings(0.0123, 0.0234))
    for other in ((0.123, 0.0234), (0.123, 0.234), (1.23, 1e-5), (0.0, 1e6)):
        assert nbs.sanitised(timings(*other)) == usual
    assert "way 0" in usual
    assert len({len(line) for line in timings(0.0123, 0.234).splitlines()}) == 1, "columns are aligned"
    assert nbs.sanitised(timings(0.1, 0.2).replace("way 1", "way 2")) != usual


def test_padding_is_hidden_beside_measurements_only():
    assert nbs.sanitised("a    measured 1.23 s") == nbs.sanitised("a  measured 12.3 ms") == "a MEASURED"
    assert nbs.sanitised("   measured 1.23 s   \nb   c") == "MEASURED\nb   c"
    assert nbs.sanitised("modelled    3.2 ms") == "modelled    3.2 ms"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (9.999, "x", "measured 10.0 x"),
        (99.96, "%", "measured 100 %"),
        (0.9996, "s", "measured 1.00 s"),
        (999.7e-6, "s", "measured 1.00 ms"),
        (0.9994, "s", "measured 999 ms"),
    ],
)
def test_rounding_up_adds_no_digit(value, unit, text):
    assert measured(value, unit) == text


def run_python(*words, cwd, **variables):
    """The exit status of a Python with these words, and what it said."""
    own = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=own, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def command(name, *arguments, cwd, **variables):
    """A command's exit status and what it said, run as a person runs it."""
    return run_python(str(nbs.ROOT / "tools" / f"{name}.py"), *arguments, cwd=cwd, **variables)


def test_commands_work_from_any_folder_and_refuse_unknown_names(tmp_path):
    _, said = command("in_sync", cwd=tmp_path)
    assert "sync" in said
    assert "Traceback" not in said
    status, said = command("refresh", "99_typo", cwd=tmp_path)
    assert status != 0
    assert "no source named 99_typo" in said
    status, said = command("run_notebooks", "00_start_here", "99_typo", cwd=tmp_path)
    assert status != 0
    assert "no notebook named 99_typo" in said


def test_the_longest_files_come_first():
    assert all(path.exists() for path in conftest.LONG)
    labs, chapter = nbs.ROOT / "tests" / "labs", nbs.ROOT / "notebooks" / "00_start_here.ipynb"
    paths = [labs / "test_lab01.py", labs / "test_lab02.py", conftest.LONG[0], chapter]
    items = [SimpleNamespace(path=path) for path in paths]
    conftest.pytest_collection_modifyitems(items)
    assert [item.path for item in items] == [chapter, conftest.LONG[0], *paths[:2]]


@pytest.fixture
def without_nbgrader(tmp_path):
    """Variables under which nbgrader cannot be imported."""
    (tmp_path / "nbgrader.py").write_text("raise ImportError('hidden')")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(nbs.ROOT)])}


def test_without_nbgrader_no_lab_is_made_and_a_sentence_says_so(tmp_path, without_nbgrader):
    status, said = command("make_labs", "--check", cwd=tmp_path, **without_nbgrader)
    assert status == 1
    assert said.startswith("labs are made with nbgrader, which cannot be imported: pip install")
    assert said.count("\n") == 1
    _, said = command("way", "--check", cwd=tmp_path, **without_nbgrader)
    assert "nbgrader" not in said, "links need none"


def test_without_nbgrader_its_tests_are_skipped_and_the_others_collected(tmp_path, without_nbgrader):
    files = [f"tests/labs/test_{name}.py" for name in ("nbgrader", "machinery")]
    words = (
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        *files,
        "-k",
        "nbgrader or are_what_their",
    )
    status, said = run_python(*words, cwd=nbs.ROOT, **without_nbgrader)
    assert (status, said.splitlines()[-1].startswith("3 skipped")) == (0, True), said
    assert "labs are made with nbgrader" in said


@pytest.mark.parametrize(("found", "status"), [([], 0), (["00_small is out of sync"], 1)])
def test_in_sync_says_what_differs_and_fails_then(monkeypatch, capsys, found, status):
    monkeypatch.setattr(in_sync, "problems", lambda: found)
    assert in_sync.main() == status
    said = capsys.readouterr().out
    assert ("00_small is out of sync" in said) == bool(found)


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A course with one notebook that fails and one that does not, taken for the course by the commands."""
    place(tmp_path, "# %%\nprint('before')\n\n# %%\nsum([1, 'x'])\n")
    (tmp_path / "notebooks" / "src" / "01_fine.py").write_text("# %%\nprint(2)\n")
    for source in nbs.sources(tmp_path):
        nbformat.write(nbs.read_source(source), nbs.notebook_of(source))
    found = nbs.sources(tmp_path), nbs.notebooks(tmp_path)
    monkeypatch.setattr(nbs, "ROOT", tmp_path)
    monkeypatch.setattr(nbs, "sources", lambda: found[0])
    monkeypatch.setattr(nbs, "notebooks", lambda: found[1])
    monkeypatch.setattr(nbs, "use_this_interpreter", lambda: None)
    return tmp_path


def test_run_says_which_cell_failed_goes_on_and_changes_no_file(broken, capsys):
    before = {path: path.read_bytes() for path in broken.rglob("*.*") if path.is_file()}
    assert run_notebooks.main([]) == 1
    said = capsys.readouterr().out
    assert "00_small.ipynb ... FAILED" in said
    assert "sum([1, 'x'])" in said
    assert "TypeError" in said
    assert "01_fine.ipynb ... ok" in said
    assert said.endswith("2 notebooks, 1 failed\n")
    assert {path: path.read_bytes() for path in broken.rglob("*.*") if path.is_file()} == before


def test_refresh_says_which_cell_failed(broken, capsys):
    assert refresh.main(["00_small"]) == 1
    said = capsys.readouterr().out
    assert "notebooks/00_small: a cell failed, the notebook stays as it was" in said
    assert "sum([1, 'x'])" in said
    assert "TypeError" in said


def test_refresh_names_the_notebook_and_each_cell_as_it_runs(broken, capsys):
    assert refresh.main(["00_small"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "notebooks/00_small"
    assert re.fullmatch(r"   1 of 2  print\('before'\)  \d+\.\d s", lines[1])
    assert re.fullmatch(r"   2 of 2  sum\(\[1, 'x'\]\)  \d+\.\d s", lines[2])


def test_a_cell_is_named_before_it_ends():
    said, client = [], SimpleNamespace(nb=new_notebook(cells=[new_code_cell("\n" + "x" * 80)]))
    nbs.follow(client, said.append)
    client.on_cell_execute(cell=client.nb.cells[0], cell_index=0)
    assert said == [f"   1 of 1  {'x' * 67}..."]
    client.on_cell_executed(cell=client.nb.cells[0], cell_index=0, execute_reply={})
    assert re.fullmatch(r"  \d+\.\d s\n", said[1])


@pytest.mark.parametrize(
    ("names", "executed"),
    [
        (["01_fine"], ["notebooks"]),
        (["notebooks/src/01_fine.py"], ["notebooks"]),
        (["solutions/01_fine"], ["solutions"]),
        (["solutions/01_fine.ipynb", "01_fine"], ["notebooks", "solutions"]),
        (["02_lab"], ["solutions"]),
        ([], ["notebooks", "notebooks", "solutions", "solutions"]),
    ],
)
def test_refresh_executes_what_was_asked_for_and_nothing_else(tmp_path, monkeypatch, names, executed):
    place(tmp_path)
    for name in ("notebooks/src/01_fine", "solutions/src/01_fine", "solutions/src/02_lab"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text("# %%\nprint(2)\n")
    found, taken = nbs.sources(tmp_path), []
    monkeypatch.setattr(nbs, "sources", lambda: found)
    monkeypatch.setattr(nbs, "use_this_interpreter", lambda: None)
    monkeypatch.setattr(refresh, "refresh", lambda source, force: taken.append(source))
    assert refresh.main(names) == 0
    assert [source.parent.parent.name for source in taken] == executed


def test_a_cell_that_takes_too_long_is_a_failure_like_any_other(broken, monkeypatch, capsys):
    def slow(notebook, folder, **_):
        raise CellTimeoutError("a cell timed out")

    monkeypatch.setattr(nbs, "execute", slow)
    assert run_notebooks.main([]) == 1
    assert capsys.readouterr().out.endswith("2 notebooks, 2 failed\n")
    assert refresh.main(["01_fine"]) == 1
    assert "01_fine: a cell failed" in capsys.readouterr().out


def test_measurements_of_a_notebook_tell_of_one_run():
    def cell(number, text, tags=()):
        output = new_output("stream", name="stdout", text=text)
        made = new_code_cell(f"print({number})", outputs=[output], metadata={"tags": list(tags)})
        made.id = f"cell-{number}"
        return made

    def notebook(*cells):
        return new_notebook(cells=list(cells))

    old = notebook(cell(1, "measured 1.00 s"), cell(2, "plain"), cell(3, "", ["measured"]))
    same = notebook(cell(1, "measured 2.00 s"), cell(2, "plain"), cell(3, "", ["measured"]))
    refresh.keep_equal_outputs(same, old)
    assert same.cells[0].outputs[0].text == "measured 1.00 s"
    for new in (cell(4, "measured 5.00 s"), cell(4, "", ["measured"])):
        grown = notebook(cell(1, "measured 2.00 s"), cell(2, "plain"), cell(3, "", ["measured"]), new)
        refresh.keep_equal_outputs(grown, old)
        assert grown.cells[0].outputs[0].text == "measured 2.00 s", "a new measurement: all are taken anew"
    grown = notebook(cell(1, "measured 2.00 s"), cell(4, "no clock"))
    refresh.keep_equal_outputs(grown, old)
    assert grown.cells[0].outputs[0].text == "measured 1.00 s"
