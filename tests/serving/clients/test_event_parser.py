"""Events on the wire: whatever pieces they come in, the same events come out."""

import random

import pytest

from helpers.serving.clients import EventParser

STREAM = 'data: {"a": "né"}\r\n\r\n: a comment\n\ndata: one\r\ndata:two\nid: 7\n\nevent: x\rdata:  spaced\r\rdata\n\ndata: 日本🙂\n\n'
EVENTS = ['{"a": "né"}', "one\ntwo", " spaced", "", "日本🙂"]


def parsed(pieces):
    """The events of a stream that comes in pieces."""
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def test_whole():
    assert parsed([STREAM.encode()]) == EVENTS


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_in_pieces_of_one_size(size):
    stream = STREAM.encode()
    assert parsed(stream[i : i + size] for i in range(0, len(stream), size)) == EVENTS


def test_in_random_pieces():
    rng, stream = random.Random(1), STREAM.encode()
    for _ in range(200):
        cuts = sorted(rng.sample(range(len(stream)), rng.randrange(12)))
        assert parsed(stream[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)) == EVENTS


def test_an_event_without_its_empty_line_has_not_come():
    parser = EventParser()
    assert parser.feed(b"data: half\n") == []
    assert parser.feed(b"\n") == ["half"]


def test_a_byte_order_mark_is_no_text_and_broken_bytes_are_marked():
    assert parsed([b"\xef\xbb", b"\xbfdata: a\xff\n\n"]) == ["a\ufffd"]
