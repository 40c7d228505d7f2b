"""Every family can be drawn with any seed: an instructor's seed is one that no author has tried."""

import importlib
import itertools
import pkgutil
import random

import pytest

from helpers.checks import families
from helpers.checks.machinery import family as exercise

SEEDS = range(1000, 1040)


def all_families():
    """Name and family of each exercise."""
    for module in pkgutil.walk_packages(families.__path__, f"{families.__name__}."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, exercise.Family):
                yield f"{module.name.removeprefix(families.__name__ + '.')}.{name}", value


FAMILIES = dict(all_families())


@pytest.mark.parametrize("name", FAMILIES)
def test_cases_of_any_seed_are_drawn(name):
    family = FAMILIES[name]
    for seed in SEEDS:
        drawn = list(itertools.islice(family.cases(random.Random(seed)), family.count))
        assert drawn
        assert all(family.solved(case) for case in drawn[:: len(SEEDS)])
