"""Lengths are of the shape that is asked for; each purpose has random numbers of its own."""

import numpy as np
import pytest

from helpers.traffic import (
    Lengths,
    Mix,
    stream,
)


def test_lengths():
    drawn = Lengths(100, 0.5, 20, 300).draw(20000, stream(0, "x"))
    assert np.median(drawn) == pytest.approx(100, rel=0.03)
    assert np.std(np.log(drawn)) == pytest.approx(0.5, rel=0.05)
    assert (min(drawn), max(drawn)) == (20, 300)
    assert set(Lengths(7).draw(5, stream(0, "x"))) == {7}
    for wrong in (dict(median=5, shortest=6), dict(median=5, longest=4), dict(median=5, spread=-1.0)):
        with pytest.raises(ValueError, match="expected"):
            Lengths(**wrong)
    with pytest.raises(ValueError, match="clients"):
        Mix(clients=())


def test_every_purpose_has_random_numbers_of_its_own():
    draws = lambda seed, what: stream(seed, what).random(4).tolist()  # noqa: E731
    assert draws(3, "prompts") == draws(3, "prompts")
    assert draws(3, "prompts") != draws(3, "answers")
    assert draws(3, "prompts") != draws(4, "prompts")
