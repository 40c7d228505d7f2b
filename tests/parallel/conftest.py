"""Ranks that several test files share: each number of ranks starts once."""

import pytest

from helpers.parallel import Ranks
from tests.parallel import toys


@pytest.fixture(scope="session", autouse=True)
def _kernels():
    """Ask for native passes, which compute all layers in one call: a shared model must not take them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_KERNELS", "native")
        yield


@pytest.fixture(scope="session")
def ranks_of():
    """Return a function that gives the ranks of a number, started when they are first asked for."""
    started = {}

    def give(world):
        if world not in started:
            started[world] = Ranks(world, limit=300)
        return started[world]

    yield give
    for ranks in started.values():
        ranks.close()


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders of the toy checkpoints, by name."""
    return {name: toys.save(name, tmp_path_factory.mktemp(name)) for name in toys.CONFIGS}
