"""Pictures of several devices: areas, bars and lines are those of the numbers."""

import pytest

from helpers.figures import draw_cuts, draw_messages, draw_parts, draw_slots
from helpers.model import DecoderConfig
from helpers.parallel import pipeline_slots, plan_shards
from helpers.simulation import Wire
from tests.parallel.toys import CONFIGS


def test_each_rank_has_its_share_of_every_matrix():
    shards = plan_shards(DecoderConfig.from_hf(CONFIGS["llama"]), 2)
    fig = draw_cuts(shards, "title")
    assert [ax.get_title() for ax in fig.axes] == ["q, k, v", "output of attention", "gate, up", "down"]
    for ax in fig.axes:
        assert sum(p.get_width() * p.get_height() for p in ax.patches) == pytest.approx(1)
    first = [p for p in fig.axes[0].patches if p.get_facecolor() == fig.axes[0].patches[0].get_facecolor()]
    assert sum(p.get_height() for p in first) == pytest.approx((6 + 2 + 2) / 15)
    assert fig.axes[1].patches[0].get_width() == pytest.approx(6 / 9)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["rank 0", "rank 1"]


def test_slots_stand_in_their_stage_and_their_time():
    fig = draw_slots({"one": pipeline_slots([1, 2], [0, 1]), "two": pipeline_slots([1], [0])}, "title")
    (ax,) = fig.axes
    bars = [(bar.get_y() + 0.4, bar.get_x(), bar.get_width()) for bar in ax.patches]
    assert bars == [(0, 0, 1), (0, 1, 1), (1, 1, 2), (1, 3, 2), (2.5, 0, 1)]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["one, stage 1", "stage 2", "two, stage 1"]
    assert ax.get_xlim() == (0, 5)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["group 1", "group 2"]


def test_parts_are_stacked_and_one_bar_is_framed():
    fig = draw_parts({"a": {"work": 3.0, "wait": 1.0}, "b": {"wait": 2.0}}, "title", "ms", "b")
    (ax,) = fig.axes
    bars = [(bar.get_x(), bar.get_width()) for bar in ax.patches]
    assert bars == [(0, 3), (0, 0), (3, 1), (0, 2), (0, 2)]
    assert ax.patches[-1].get_facecolor()[3] == 0
    assert len(draw_parts({"a": {"work": 3.0}}, "title", "ms").axes[0].patches) == 1


def test_messages_stand_beside_their_line():
    wire = Wire(1e-3, 1e6)
    (ax,) = draw_messages({"send": {1000: 3e-3, 4000: 5e-3}}, {"send": wire}, [4000], "title").axes
    line, fitted, held_out = ax.lines
    xs, ys = line.get_xdata(), line.get_ydata()
    assert (xs[0], xs[-1]) == pytest.approx((1, 4))
    assert list(ys) == pytest.approx([1000 + 1000 * x for x in xs])
    assert [text.get_text() for text in ax.get_legend().get_texts()][
        1
    ] == "send, measured (hollow: not fitted)"
    assert [mark.get_ydata()[0] for mark in (fitted, held_out)] == pytest.approx([3000, 5000])
    assert held_out.get_markerfacecolor() == "white" != fitted.get_markerfacecolor()
