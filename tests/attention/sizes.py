"""Any small attention and any small tiles, for hypothesis."""

from hypothesis import strategies as st

from helpers.attention import AttentionSize, Tiling


@st.composite
def sizes(draw):
    """Any small attention."""
    kv_heads = draw(st.integers(1, 3))
    return AttentionSize(
        draw(st.integers(1, 20)),
        kv_heads * draw(st.integers(1, 3)),
        draw(st.sampled_from([4, 16])),
        kv_heads,
        draw(st.none() | st.integers(1, 20)),
        draw(st.integers(1, 2)),
        draw(st.sampled_from([2, 4])),
        draw(st.booleans()),
        draw(st.none() | st.integers(1, 9)),
    )


TILINGS = st.builds(Tiling, st.integers(1, 8), st.integers(1, 8))
