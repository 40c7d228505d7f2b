"""What the chapter serves in two stages: tokens of one process, bytes of the hidden states, seconds that add up."""

import pytest

from helpers.caches import PagedKVCache
from helpers.engine import ContinuousBatcher
from helpers.parallel import stage_engine
from tests.parallel import toys


@pytest.mark.parametrize("groups", [1, 3])
def test_two_stages(folders, ranks_of, groups):
    model = toys.whole(folders["llama"])
    engine = ContinuousBatcher(model, PagedKVCache.for_model(model, 256))
    for request in toys.requests():
        engine.add_request(request)
    alone = {name: state.token_ids for name, state in engine.run().items()}
    for _ in range(2):  # the second time, stages are loaded and counts begin anew
        first, last = ranks_of(2).run(
            stage_engine.serve_in_stages, toys.requests(), (2, 1), groups, folders["llama"]
        )
        assert first.tokens == last.tokens == alone
        assert first.order == last.order
        assert set(first.order) == set(range(groups))
        assert (first.sent, last.sent) == (first.computed * 36 * 4, 0)
        assert all(0 < stage.busy < stage.seconds for stage in (first, last))


def test_one_process_is_one_stage(folders):
    served = stage_engine.serve_in_stages(toys.requests(), (3,), 2, folders["llama"])
    assert len(served.tokens) == len(toys.requests())
    assert served.sent == 0
