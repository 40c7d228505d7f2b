"""The end of a connection, without sockets: what is written, what is dropped, and when the end comes."""

import pytest

from helpers.serving.streams import LINGER_ROUNDS, LINGER_SECONDS, Wire


class Transport:
    """A transport that notes what is asked of it."""

    def __init__(self, left=False):
        self.left, self.asked, self.closing = left, [], False

    def write(self, data):
        self.asked.append(data)

    def write_eof(self):
        if self.left:
            raise OSError("not connected")
        self.asked.append("eof")

    def resume_reading(self):
        self.asked.append("read")

    def pause_reading(self):
        self.asked.append("pause")

    def close(self):
        self.asked.append("close")
        self.closing = True

    def abort(self):
        self.asked.append("abort")
        self.closing = True

    def is_closing(self):
        return self.closing


class Clock:
    """An event loop whose time a test moves."""

    def __init__(self):
        self.due = []

    def call_later(self, seconds, action, *arguments):
        assert seconds == LINGER_SECONDS
        self.due.append(lambda: action(*arguments))

    def round(self):
        """Let a round of lingering pass."""
        due, self.due = self.due, []
        for action in due:
            action()


@pytest.fixture
def parts():
    transport, clock = Transport(), Clock()
    return Wire(transport, clock), transport, clock


def test_the_end_of_the_writing_comes_at_once_and_the_reading_goes_on(parts):
    wire, transport, clock = parts
    wire.write(b"answer")
    wire.close()
    wire.close()
    wire.write(b"more")
    wire.pause_reading()
    assert transport.asked == [b"answer", "read", "eof"]
    assert wire.is_closing()
    clock.round()
    assert transport.asked[3:] == ["close"]
    assert not clock.due


def test_a_client_that_still_sends_has_time_but_not_for_ever(parts):
    wire, transport, clock = parts
    wire.close()
    for _ in range(LINGER_ROUNDS - 1):
        wire.heard()
        clock.round()
        assert not transport.closing
    wire.heard()
    clock.round()
    assert transport.closing
    assert not clock.due


def test_a_client_that_has_left_is_not_awaited():
    transport, clock = Transport(left=True), Clock()
    Wire(transport, clock).close()
    assert transport.asked[-1] == "abort"
    assert not clock.due


def test_an_idle_connection_is_closed_at_once(parts):
    wire, transport, clock = parts
    wire.drop()
    wire.close()
    assert (transport.asked, clock.due, wire.is_closing()) == (["close"], [], True)


def test_a_connection_that_is_lost_is_not_closed_again(parts):
    wire, transport, clock = parts
    transport.closing = True
    wire.close()
    assert (transport.asked, clock.due) == ([], [])
