"""Pictures of tiled attention show the weights as they are known, and every tile by its kind."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from helpers.attention import FlashAttention, Tiling, Visibility
from helpers.display import plots
from helpers.figures import draw_steps, draw_tiles, known_weights


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
