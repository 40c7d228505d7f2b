"""Pictures of tiled attention show the weights as they are known, every tile by its kind, and the costs as counted."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from helpers.attention import AttentionSize, FlashAttention, Tiling, Traffic, Visibility, needs
from helpers.display import plots
from helpers.estimates import accelerator
from helpers.figures import draw_needs, draw_over_length, draw_steps, draw_tiles, draw_traffic, known_weights


def states(q_len=6, kv_len=8, query_block=4, key_block=3, **options):
    random = torch.Generator().manual_seed(1)
    q = torch.randn(2, 2, q_len, 4, generator=random) * 3
    k, v = (torch.randn(2, 2, kv_len, 4, generator=random) for _ in range(2))
    return q, k, list(FlashAttention(key_block, query_block, **options).steps(q, k, v))


def labels(fig):
    legend = fig.axes[0].get_legend() if fig.axes[0].get_legend() else fig.legends[0]
    return [text.get_text() for text in legend.get_texts()]


def test_weights_are_known_tile_by_tile():
    q, k, steps = states()
    scores = (q[0, 1] @ k[0, 1].T) / 2
    hidden = ~torch.ones(6, 8, dtype=torch.bool).tril(2)
    final = known_weights(steps, (6, 8), head=1)
    assert (np.isneginf(final) == hidden.numpy()).all()
    want = scores.masked_fill(hidden, -np.inf).softmax(dim=-1).numpy()
    np.testing.assert_allclose(np.where(hidden, 0, final), want, atol=1e-6)
    first = known_weights(steps[:1], (6, 8), head=1)
    assert np.isnan(first[:, 3:]).all()
    assert np.isnan(first[4:]).all()
    np.testing.assert_allclose(first[:4, :3][~hidden[:4, :3]], scores[:4, :3].masked_fill(hidden[:4, :3], -np.inf).softmax(-1).numpy()[~hidden[:4, :3]], atol=1e-6)  # fmt: skip


def test_each_frame_is_a_panel_with_its_tile_framed():
    _, _, steps = states(key_block=2)
    fig = draw_steps(steps, "title", columns=3)
    assert len(fig.axes) == len(steps) == 8
    assert fig.get_suptitle() == "title"
    for i, (ax, state) in enumerate(zip(fig.axes, steps, strict=True)):
        assert ax.get_title(loc="left") == f"{i + 1}: {state.tile.kind}"
        framed = [p for p in ax.patches if to_hex(p.get_edgecolor()) == plots.COLORS["decode"].lower()]
        tile = state.tile
        assert [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in framed] == [
            (tile.k_start, tile.q_start, tile.k_end - tile.k_start, tile.q_end - tile.q_start)
        ]
    skipped = [state.tile for state in steps if state.tile.kind == "skipped"]
    assert [(p.get_x(), p.get_y()) for p in fig.axes[-1].patches if p.get_hatch()] == [
        (tile.k_start, tile.q_start) for tile in skipped
    ]
    assert skipped
    words = [text.get_text() for text in fig.axes[0].texts]
    assert words[:2] == [f"{steps[0].maximum[0, 0, 0]:.1f}", f"{steps[0].total[0, 0, 0]:.1f}"]
    assert labels(fig) == ["weight so far (dark: 1)", "hidden key", "skipped tile", "tile taken in"]


def test_some_frames_of_all():
    _, _, steps = states()
    fig = draw_steps(steps, "", [0, 4])
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["1: full", "5: full"]
    assert plots.png(fig)[:4] == b"\x89PNG"
    for frames in ([], [len(steps)], [-1]):
        with pytest.raises(ValueError, match="expected frames from 0 to 5"):
            draw_steps(steps, "", frames)


def test_tiles_are_coloured_by_kind_and_counted():
    fig = draw_tiles(Visibility(8, 8), Tiling(2, 4), "tiles")
    image = fig.axes[0].images[0].get_array()
    assert image.tolist() == [[1, 2], [1, 2], [0, 1], [0, 1]]
    assert labels(fig) == ["2 full", "4 masked", "2 skipped"]
    assert fig.axes[0].get_ylim() == (8, 0)
    with pytest.raises(ValueError, match="a picture has up to"):
        draw_tiles(Visibility(4096, 4096), Tiling(1, 1), "")


def test_lines_over_length():
    fig = draw_over_length({"a": {512: 1.0, 1024: 2.0}, "b": {512: 3.0}}, "t", "MiB", dashed=["b"])
    ax = fig.axes[0]
    assert [(line.get_label(), line.get_linestyle()) for line in ax.lines] == [("a", "-"), ("b", "--")]
    assert len({line.get_color() for line in ax.lines} | {line.get_marker() for line in ax.lines}) == 4
    assert list(ax.lines[0].get_ydata()) == [1.0, 2.0]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_ylabel()) == ("log", "log", "MiB")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["512", "1,024"]
    for wrong in ({}, {str(i): {1: 1.0} for i in range(7)}):
        with pytest.raises(ValueError, match="expected 1 to 6 lines"):
            draw_over_length(wrong, "", "")
    for wrong in ({}, {512: 0.0}):
        with pytest.raises(ValueError, match="takes positive values"):
            draw_over_length({"a": wrong}, "", "")


def test_traffic_by_what_it_is():
    ax = draw_traffic({"x": Traffic(10**9, 2 * 10**9, 0, 10**9), "y": Traffic(1, 1, 1, 1)}, "").axes[0]
    widths = [[bar.get_width() for bar in bars] for bars in ax.containers]
    assert [w[0] for w in widths] == [1.0, 2.0, 0.0, 1.0]
    assert [bars[0].get_x() for bars in ax.containers] == [0.0, 1.0, 3.0, 3.0]
    assert ax.texts[0].get_text() == " 4"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["x", "y"]


def test_what_does_not_fit_is_hatched():
    found = needs(AttentionSize(8192, 32, 128), Tiling(512, 2048), accelerator("Ascend 910B1"))
    ax = draw_needs(found, "").axes[0]
    words = [text.get_text() for text in ax.texts]
    assert words[3:] == [" 232 KiB of 192 KiB", " 512 KiB of 512 KiB", " 300 MiB of 192 MiB"]
    hatched = {
        round(bar.get_y() + bar.get_height() / 2) for bar in ax.patches if bar.get_hatch() and bar.get_width()
    }
    assert [found[row].buffer for row in sorted(hatched)] == ["UB", "L2"]
    ends = {}
    for bar in ax.patches:
        row = round(bar.get_y() + bar.get_height() / 2)
        ends[row] = max(ends.get(row, 0.0), bar.get_x() + bar.get_width())
    assert list(ends.values()) == pytest.approx([100 * need.used / need.capacity for need in found])
