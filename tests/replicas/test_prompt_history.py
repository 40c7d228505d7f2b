"""The guess of what a distant cache holds: as the cache itself would say, until memory is short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.caches import PagePool
from helpers.replicas import PromptHistory

prompts = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 40), st.sampled_from([None, "a"])), max_size=12
)


@given(prompts, st.integers(1, 16), st.integers(1, 8))
def test_it_says_what_a_pool_says_that_had_the_same_prompts_one_by_one(sent, num_pages, size):
    history, pool = PromptHistory(num_pages, size), PagePool(num_pages, size)
    for i, (beginning, length, salt) in enumerate(sent):
        tokens = [beginning] * length
        history.note(tokens, salt)
        if length <= num_pages * size:
            pool.append(i, tokens[pool.admit(i, tokens, salt) :])
            pool.confirm(i)
            pool.free(i)
            assert history.cached_tokens([*tokens, 9], salt) == pool.cached_tokens([*tokens, 9], salt)
        assert history.cached_tokens([*tokens, 9], "another salt") == 0


def test_a_prompt_that_no_pool_could_hold_is_cut():
    history = PromptHistory(4, 4)
    history.note(list(range(100)))
    assert history.cached_tokens(list(range(100))) == 16


def test_sizes_under_one_are_refused():
    with pytest.raises(ValueError, match="1 or more"):
        PromptHistory(0, 4)
