"""Every lab's checks refuse the wrong answers that small changes make of its solution."""

import pytest

from helpers.checks import lab05
from helpers.checks.machinery import family, limit
from tools import mutate_labs


@pytest.mark.parametrize("lab", [*range(1, 10), 12])
def test_a_solution_changed_in_one_place_is_refused(lab, monkeypatch):
    monkeypatch.setattr(family.SETTINGS, "explain", False)
    monkeypatch.setattr(limit, "SECONDS", mutate_labs.SECONDS)
    count, accepted = mutate_labs.survivors(lab)
    assert count > 100
    assert 1 - len(accepted) / count >= mutate_labs.LEAST, accepted


def test_mutants_that_are_right_all_the_same_are_mutants():
    found = {
        f"{lab}.{answer.name}: {mutant.change}"
        for lab in (*range(1, 10), 12)
        for answer in mutate_labs.answers(lab)
        for mutant in mutate_labs.mutants(answer)
    }
    assert len(found) > 1000
    assert set(mutate_labs.EQUIVALENT) - found == set()


def test_a_check_that_looks_at_one_case_is_found_out(monkeypatch):
    monkeypatch.setattr(family.SETTINGS, "explain", False)
    monkeypatch.setattr(limit, "SECONDS", mutate_labs.SECONDS)
    monkeypatch.setattr(lab05, "CHUNK", family.Family(**{**vars(lab05.CHUNK), "count": 1}))
    count, accepted = mutate_labs.survivors(5)
    assert 1 - len(accepted) / count < mutate_labs.LEAST
