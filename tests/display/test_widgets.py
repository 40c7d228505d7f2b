"""Panels, their controls, figures and the source view, without a browser."""

import re
import struct

import pytest
from matplotlib import pyplot

from helpers.display import SweepPanel, Table, dropdown, int_slider, plots, power_slider, show_source


def draw(batch, page):
    if batch == 13:
        raise ValueError("no 13 & no <b>")
    fig, ax = plots.new_figure("pages", "batch", "pages")
    ax.plot([0, batch], [0, page])
    return fig, Table(("batch", "pages"), [(batch, batch * page)])


def panel():
    controls = {"batch": int_slider("batch", 4, max=32), "page": power_slider("page", 16, max=128)}
    return SweepPanel(draw, controls, alt='pages over "batch"')


def test_a_moved_control_changes_table_and_picture():
    shown = panel()
    table, picture = shown.table, shown.picture
    shown._controls["batch"].value = 8
    assert shown.table != table
    assert ">128<" in shown.table
    assert shown.picture != picture


def test_it_shows_itself_without_a_browser():
    bundle = panel()._repr_mimebundle_()
    assert bundle["text/plain"] == repr(panel()) == "SweepPanel(batch=4, page=16)"
    assert panel().table in bundle["text/html"]
    assert 'alt="pages over &quot;batch&quot;"' in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_the_same_values_give_the_same_bytes():
    assert panel()._repr_mimebundle_()["text/html"] == panel()._repr_mimebundle_()["text/html"]


def test_set_moves_controls_and_refuses_unknown_names():
    shown = panel().set(batch=2, page=64)
    assert shown.values == {"batch": 2, "page": 64}
    with pytest.raises(ValueError, match="no control 'seq'; there are batch, page"):
        shown.set(batch=3, seq=1)
    assert shown.values["batch"] == 2, "nothing moved"


def test_what_cannot_be_drawn_is_said_and_the_panel_goes_on():
    shown = panel()
    picture = shown.picture
    shown.set(batch=13)
    assert "ValueError:</b> no 13 &amp; no &lt;b&gt;" in shown.table
    assert shown.picture == picture
    shown.set(batch=14)
    assert ">224<" in shown.table


def test_any_error_is_seen_for_the_first_values_it_is_raised():
    def names(n):
        return plots.new_figure("t", "x", "y")[0], Table(("n",), [({1: "one"}[n],)])

    shown = SweepPanel(names, {"n": int_slider("n", 1)})
    assert "KeyError:</b> 2" in shown.set(n=2).table
    assert ">one<" in shown.set(n=1).table
    with pytest.raises(KeyError):
        SweepPanel(names, {"n": int_slider("n", 2)})


def test_picture_and_table_change_together_or_not_at_all():
    def half(n):
        fig, ax = plots.new_figure("t", "x", "y")
        ax.plot([0, n])
        return fig, (Table(("n",), [(n,)]) if n < 5 else None)

    shown = SweepPanel(half, {"n": int_slider("n", 1)})
    picture = shown.picture
    assert "AttributeError" in shown.set(n=6).table
    assert shown.picture == picture


def test_controls():
    assert power_slider("page", 16, min=8, max=64).options == (8, 16, 32, 64)
    assert dropdown("model", ["a", "b"]).value == "a"
    assert dropdown("model", ["a", "b"], value="b").value == "b"
    for bad in ((12, 1, 64), (16, 3, 64), (16, 1, 60), (128, 1, 64)):
        with pytest.raises(ValueError, match="expected powers of two"):
            power_slider("page", bad[0], min=bad[1], max=bad[2])


def test_figures_leave_no_pyplot_state_and_have_their_size():
    fig, _ = plots.new_figure("t", "x", "y", width=5, height=3)
    assert pyplot.get_fignums() == []
    width, height = struct.unpack(">II", plots.png(fig, dpi=100)[16:24])
    assert (width, height) == (500, 300)


def test_nothing_is_cut_off_at_the_edges():
    fig, ax = plots.new_figure("A title of usual length", "requests at once", "tokens per second")
    ax.plot([0, 100_000], [0, 1_000_000])
    fig.canvas.draw()
    box = fig.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= fig.get_figwidth()
    assert box.y1 <= fig.get_figheight()


def test_log_axes_have_plain_numbers():
    fig, ax = plots.new_figure("t", "x", "y")
    ax.plot([1, 10], [1, 100_000])
    plots.log_axis(ax, "y")
    fig.canvas.draw()
    assert "10,000" in [label.get_text() for label in ax.get_yticklabels()]


def test_show_has_a_text_alternative(capsys):
    fig, _ = plots.new_figure("t", "x", "y")
    with pytest.raises(ValueError, match="needs a text"):
        plots.show(fig, alt=" ")
    plots.show(fig, alt="nothing yet")
    assert "Image object" in capsys.readouterr().out


def test_colours_are_distinct_and_readable():
    assert len(set(plots.COLORS.values())) == len(plots.COLORS)
    assert all(re.fullmatch("#[0-9A-F]{6}", color) for color in plots.COLORS.values())


def test_the_source_shown_is_the_source_on_disk():
    shown = show_source(Table.__repr__)
    assert repr(shown).startswith("# helpers/display/tables.py\ndef __repr__(self) -> str:\n    ")
    markdown = shown._repr_markdown_()
    assert markdown.startswith("`helpers/display/tables.py`\n\n```python\ndef __repr__(self) -> str:\n    ")
    assert markdown.endswith("\n```")
    assert "style=" not in markdown, "colours are the theme's"
