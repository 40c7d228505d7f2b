"""Stop strings: where the text ends does not depend on its pieces, and a reader sees no part of a stop string."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.model import StopStrings

TEXTS = st.text(alphabet="ab.", max_size=25)
STOPS = st.lists(st.text(alphabet="ab.", min_size=1, max_size=4), max_size=3)


def brute(text, stop):
    """Return the text up to the stop string that is complete first, the longest one there; and that one."""
    for end in range(len(text) + 1):
        ends = [s for s in stop if text[:end].endswith(s)]
        if ends:
            longest = max(ends, key=len)
            return text[: end - len(longest)], longest
    return text, None


@settings(max_examples=500, deadline=None)
@given(text=TEXTS, stop=STOPS, cuts=st.sets(st.integers(0, 25)))
def test_the_end_does_not_depend_on_the_pieces(text, stop, cuts):
    want, found = brute(text, stop)
    stream, seen = StopStrings(stop), ""
    borders = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    for begin, end in pairwise(borders):
        seen += stream.push(text[begin:end])
        assert want.startswith(seen), "what was passed on is never taken back"
        if stream.found is None:
            held = text[len(seen) : end]
            assert not held or any(s.startswith(held) and s != held for s in stop), (
                "no more is held than need be"
            )
    assert (seen + stream.finish(), stream.found) == (want, found)


def test_nothing_is_passed_on_after_the_end():
    stream = StopStrings(["END"])
    assert [stream.push(piece) for piece in ("a E", "N", "Dmore", "and more")] == ["a ", "", "", ""]
    assert (stream.found, stream.finish()) == ("END", "")


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ValueError, match="a stop string needs at least one character"):
        StopStrings(["a", ""])
