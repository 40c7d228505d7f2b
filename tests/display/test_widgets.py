"""Panels and their controls, without a browser."""

import pytest

from helpers.display import SweepPanel, Table, dropdown, int_slider, plots, power_slider, text_box


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
    controls = {"batch": int_slider("batch", 4, max=32), "page": power_slider("page", 16, max=128)}
    shown = SweepPanel(draw, controls)
    table, picture = shown.table, shown.picture
    controls["batch"].value = 8
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
    assert shown.table == "<p>no 13 &amp; no &lt;b&gt;</p>"
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
    assert (text_box("path").value, text_box("path", "a folder").placeholder) == ("", "a folder")
    assert not text_box("path").continuous_update, "half a path is no value"
    assert dropdown("model", ["a", "b"]).value == "a"
    assert dropdown("model", ["a", "b"], value="b").value == "b"
    for bad in ((12, 1, 64), (16, 3, 64), (16, 1, 60), (128, 1, 64)):
        with pytest.raises(ValueError, match="expected powers of two"):
            power_slider("page", bad[0], min=bad[1], max=bad[2])
