"""A bar counts what is done, and what is saved of it does not."""

import pytest

from helpers.display import ProgressBar, progress, shown_bar, with_bar


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(progress, "display", shown.append)
    return shown


def test_a_bar_counts():
    bar = ProgressBar(3, "matrices")
    assert (bar.done, bar.text) == (0, "0 of 3 matrices")
    bar.step()
    bar.step("layers.0")
    assert (bar.done, bar.text) == (2, "2 of 3 matrices")
    bar.step()
    bar.step()
    assert bar.text == "3 of 3 matrices"


def test_what_is_saved_does_not_say_how_far_it_came():
    bar = ProgressBar(3, "matrices")
    before = bar._repr_mimebundle_()["text/plain"]
    bar.step()
    assert bar._repr_mimebundle_()["text/plain"] == before == repr(bar)
    assert before == "3 matrices, with a bar while they are computed"


def test_items_come_as_they_are_and_move_the_bar(displayed):
    seen = [(item, displayed[0].done) for item in with_bar(["a", "b", "c"], "letters")]
    assert seen == [("a", 0), ("b", 1), ("c", 2)]
    assert displayed[0].text == "3 of 3 letters"


def test_a_shown_bar_is_on_display(displayed):
    bar = shown_bar(2, "texts")
    assert displayed == [bar]


def test_nothing_to_do_is_refused(displayed):
    with pytest.raises(ValueError, match="1 step or more, got 0"):
        ProgressBar(0, "matrices")
    with pytest.raises(ValueError, match="got 0"):
        list(with_bar([], "letters"))
    assert not displayed
