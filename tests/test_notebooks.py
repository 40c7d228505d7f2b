"""Committed notebooks are executed, clean, in sync; and the guards that say so notice each kind of spoiling."""

import copy
import re
import shutil
import subprocess
import sys

import jupytext
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests.remedies import nothing
from tools import guard, in_sync, refresh
from tools import notebooks as nbs

SOURCE = """# %%
import time

from helpers import MemoryCalculator
from helpers.display import measured, plots

# %%
start = time.perf_counter()
print("modelled 3.2 ms,", measured(time.perf_counter() - start))

# %%
print(MemoryCalculator().calculate_model_memory(7e9))

# %% tags=["measured"]
fig, ax = plots.new_figure("a clock's number", "run", "s")
ax.plot([time.perf_counter()], [1], "o")
plots.show(fig, alt="one dot")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small course: one source and its notebook, executed."""
    root = tmp_path_factory.mktemp("course")
    source = root / "notebooks" / "src" / "00_small.py"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE)
    refresh.refresh(source)
    return root


@pytest.fixture
def course(made, tmp_path):
    """A copy of the small course, to be spoiled."""
    source, notebook = (
        tmp_path / "notebooks" / "src" / "00_small.py",
        tmp_path / "notebooks" / "00_small.ipynb",
    )
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE)
    notebook.write_bytes((made / "notebooks" / "00_small.ipynb").read_bytes())
    return source, notebook


@pytest.mark.parametrize("path", nbs.notebooks(), ids=lambda path: path.stem)
def test_every_committed_notebook_is_well(path):
    nothing(guard.problems(nbs.read(path)))


def test_every_notebook_is_in_sync_with_its_source():
    nothing(in_sync.problems())
    assert nbs.sources(), "there is something to check"


def test_the_small_course_is_well(made):
    assert guard.problems(nbs.read(made / "notebooks" / "00_small.ipynb")) == []
    assert in_sync.problems(made) == []


def spoil_clear(notebook):
    for cell in notebook.cells:
        cell.outputs, cell.execution_count = [], None


def spoil_stderr(notebook):
    notebook.cells[1].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="UserWarning: old"))


def spoil_error(notebook):
    notebook.cells[1].outputs.append(
        nbformat.v4.new_output("error", ename="KeyError", evalue="x", traceback=[])
    )


def spoil_widget(notebook):
    notebook.cells[2].outputs.append(
        nbformat.v4.new_output("display_data", data={nbs.WIDGET_VIEW: {"model_id": "1"}})
    )


def spoil_path(notebook):
    notebook.cells[2].outputs[0].text = "saved to /home/ada/course/x.bin\n"


def spoil_tag(notebook):
    notebook.cells[2].metadata.tags = ["nbval-ignore-output"]


def spoil_order(notebook):
    notebook.cells[1].execution_count = 9


def spoil_length(notebook):
    notebook.cells[2].source += "\n" * 21 + "1"


def spoil_width(notebook):
    notebook.cells[2].source += "  # " + "long" * 30


def spoil_listing(notebook):
    listing = {"text/markdown": "`x.py`\n\n```python\n" + "x" * 89 + "\n```"}
    notebook.cells[2].outputs.append(nbformat.v4.new_output("display_data", listing))


def spoil_state(notebook):
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {}}


def spoil_import(notebook):
    notebook.cells[0].source = "import time"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_clear, "was not executed"),
        (spoil_stderr, "cell 1: stderr: 'UserWarning: old'"),
        (spoil_error, "cell 1: an uncaught KeyError"),
        (spoil_widget, "cell 2: a live widget"),
        (spoil_path, "cell 2: a path of the machine it ran on: /home/ada"),
        (spoil_tag, "cell 2: its output is not compared"),
        (spoil_order, "was not executed from top to bottom"),
        (spoil_length, "cell 2: 22 lines"),
        (spoil_width, "cell 2: a line of 177 characters"),
        (spoil_listing, "cell 2: a listing with a line of 89 characters"),
        (spoil_state, "holds widget state"),
        (spoil_import, "no cell imports helpers"),
    ],
)
def test_the_guard_names_what_is_spoiled(made, spoil, said):
    notebook = nbs.read(made / "notebooks" / "00_small.ipynb")
    spoil(notebook)
    assert any(text.startswith(said) for text in guard.problems(notebook)), guard.problems(notebook)


def test_an_edited_source_is_out_of_sync(course):
    source, _ = course
    source.write_text(SOURCE.replace("7e9", "8e9"))
    (said,) = in_sync.problems(source.parents[2])
    assert "+print(MemoryCalculator().calculate_model_memory(8e9))" in said
    assert said.splitlines()[0].endswith("run: python tools/refresh.py notebooks/00_small")


def test_a_long_difference_leaves_the_remedy_on_the_screen(course):
    source, _ = course
    source.write_text(SOURCE + "\n# %%\n" + "\n".join(f"x{i} = {i}" for i in range(500)))
    (said,) = in_sync.problems(source.parents[2])
    lines = said.splitlines()
    assert "run: python tools/refresh.py notebooks/00_small" in lines[0]
    assert len(lines) == in_sync.MOST_LINES + 2
    assert lines[-1].endswith("lines more")


def test_a_remedy_is_not_cut_off_in_a_failing_test(tmp_path):
    texts = [f"{i} is stale; run: python tools/make_labs.py {'x' * 300} {i} end" for i in range(30)]
    (tmp_path / "test_x.py").write_text(
        f"from tests.remedies import nothing\n\ndef test_x():\n    nothing({texts!r})\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run([*command, tmp_path], cwd=nbs.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert all(text in done.stdout for text in texts), done.stdout


def test_a_missing_notebook_and_a_missing_source_are_said(course):
    source, notebook = course
    notebook.unlink()
    assert "has no notebook" in in_sync.problems(source.parents[2])[0]
    notebook.write_text("{}")
    source.unlink()
    assert "has no source in notebooks/src" in in_sync.problems(source.parents[2])[0]


EDITS = {  # of the executed notebook: a text in it, and what stands there instead
    "same": ("", ""),
    "other_clock": ('"modelled 3.2 ms, measured ', '"modelled 3.2 ms, measured 9'),
    "other_model": ('"modelled 3.2 ms, measured', '"modelled 3.3 ms, measured'),
    "other_output": ('"14.0\\n"', '"14.1\\n"'),
}


@pytest.fixture(scope="module")
def refused(made, tmp_path_factory):
    """The edits that strict nbval, with the course's sanitiser, takes for differences; all in one run."""
    folder = tmp_path_factory.mktemp("edited")
    for name, (old, new) in EDITS.items():
        shutil.copy(made / "notebooks" / "00_small.ipynb", folder / f"{name}.ipynb")
        edit(folder / f"{name}.ipynb", old, new)
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", "-c", "/dev/null"]
    command += ["--nbval", "--nbval-current-env"]
    command += [f"--nbval-sanitize-with={nbs.ROOT / 'tests' / 'sanitize.cfg'}", str(folder)]
    done = subprocess.run(command, cwd=nbs.ROOT, capture_output=True, text=True, check=False)
    counts = re.findall(r"(\d+) (?:failed|passed)", done.stdout.splitlines()[-1])
    assert sum(map(int, counts)) == 4 * len(EDITS), done.stdout + done.stderr  # four cells each
    return set(re.findall(r"^FAILED \S*?(\w+)\.ipynb::", done.stdout, re.MULTILINE))


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new) if old else text)


def test_nbval_lets_measurements_differ_and_nothing_else(refused):
    assert "same" not in refused
    assert "other_clock" not in refused, "another measured time is not a difference"
    assert "other_model" in refused, "another modelled time is"


def test_nbval_sees_an_edited_output(refused):
    assert "other_output" in refused


def test_a_second_refresh_changes_no_byte(course):
    source, path = course
    before = path.read_bytes()
    refresh.refresh(source)
    assert path.read_bytes() == before
    refresh.refresh(source, force=True)
    assert path.read_bytes() != before, "the clock has moved on"


def test_text_between_code_is_taken_without_executing_it(course):
    source, path = course
    edit(path, '"14.0\\n"', '"14.1\\n"')  # an output that executing would mend
    source.write_text(SOURCE.replace("# %%\nprint(Mem", "# %% [markdown]\n# A sentence.\n\n# %%\nprint(Mem"))
    refresh.take_text(source)
    assert '"14.1\\n"' in path.read_text()
    assert "A sentence." in path.read_text()
    assert in_sync.problems(source.parents[2]) == []
    source.write_text(SOURCE.replace("7e9", "8e9"))
    with pytest.raises(ValueError, match="code has changed"):
        refresh.take_text(source)


def test_a_changed_result_is_taken_although_the_source_is_the_same(course):
    source, path = course
    edit(path, '"14.0\\n"', '"14.1\\n"')
    refresh.refresh(source)
    assert '"14.0\\n"' in path.read_text()


def test_a_failing_cell_leaves_the_old_notebook(course):
    source, path = course
    before = path.read_bytes()
    source.write_text(SOURCE + "\n# %%\n1 / 0\n")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        refresh.refresh(source)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.glob("*.ipynb*")] == [path.name]


def test_pictures_count_unless_the_cell_is_measured(made):
    cell = nbs.read(made / "notebooks" / "00_small.ipynb").cells[3]
    other = copy.deepcopy(cell)
    other.outputs[0].data["image/png"] = "AAAA"
    assert refresh.comparable(cell, text_only=True) == refresh.comparable(other, text_only=True)
    assert refresh.comparable(cell, text_only=False) != refresh.comparable(other, text_only=False)


def test_the_text_of_a_source_decides_its_cell_ids(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("# %%\n1\n\n# %%\n1\n")
    first = [cell.id for cell in nbs.read_source(path).cells]
    assert len(set(first)) == 2
    path.write_text("# %%\n0\n\n# %%\n1\n\n# %%\n1\n")
    assert [cell.id for cell in nbs.read_source(path).cells][1:] == first
    assert jupytext.reads(path.read_text(), fmt="py:percent").cells[0].source == "0"


FALSE_ON_PURPOSE = (
    "own seeds: both ranks have the same texts",
    "rows as stored: 4 sums, logits equal to 0.001",
)
"""What chapter 11 shows to be wrong."""


def verdicts(notebook):
    """The lines of a notebook's outputs that say that something is not so."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)
    return [line for line in text.splitlines() if ": False" in line]


@pytest.mark.parametrize("path", sorted((nbs.ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_stored_proof_has_failed(path):
    assert not [line for line in verdicts(nbs.read(path)) if not line.startswith(FALSE_ON_PURPOSE)]


def test_a_failed_proof_is_found():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print()")])
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="tokens equal: False\n")]
    assert verdicts(notebook) == ["tokens equal: False"]
