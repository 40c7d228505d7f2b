"""Capture sizes: where a batch runs, what is padded, and that the best sizes are best."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.graphs import BucketedDecode, Buckets, best_sizes, vllm_sizes


def test_a_batch_runs_at_the_smallest_size_that_holds_it():
    buckets = Buckets([8, 1, 4])
    assert buckets.sizes == (1, 4, 8)
    assert [buckets.size_for(n) for n in (1, 2, 4, 5, 8, 9)] == [1, 4, 4, 8, 8, None]


def test_padding_and_share_are_counted_over_steps_in_graphs():
    buckets = Buckets([2, 4])
    histogram = {1: 10, 2: 5, 3: 2, 9: 3}
    assert buckets.padded_rows(histogram) == 10 + 2
    assert buckets.share_in_graphs(histogram) == 17 / 20


@pytest.mark.parametrize("sizes", [[], [0, 1], [2, 2]])
def test_sizes_that_make_no_sense_are_refused(sizes):
    with pytest.raises(ValueError, match="expected different sizes of 1 or more"):
        Buckets(sizes)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.integers(1, 30), st.integers(0, 9), min_size=1, max_size=7), st.integers(1, 4))
def test_the_best_sizes_pad_as_little_as_any(histogram, count):
    if not any(histogram.values()):
        histogram[3] = 1
    used = {b: n for b, n in histogram.items() if n}
    found = best_sizes(histogram, count)
    assert len(found) <= count
    assert found[-1] == max(used)
    ways = [
        s for n in range(1, count + 1) for s in itertools.combinations(sorted(used), n) if s[-1] == max(used)
    ]
    assert Buckets(found).padded_rows(used) == min(Buckets(sizes).padded_rows(used) for sizes in ways)


@pytest.mark.parametrize(("histogram", "count"), [({}, 1), ({0: 3}, 1), ({4: 1}, 0), ({4: 0}, 1)])
def test_what_no_sizes_serve_is_refused(histogram, count):
    with pytest.raises(ValueError, match="expected batches of 1 or more"):
        best_sizes(histogram, count)


def test_vllms_rule():
    assert vllm_sizes(20) == (1, 2, 4, 8, 16)
    assert vllm_sizes(3) == (1, 2)
    sizes = vllm_sizes(512)
    assert (len(sizes), sizes[33:36], sizes[-1]) == (51, (248, 256, 272), 512)
    with pytest.raises(ValueError, match="got 0"):
        vllm_sizes(0)


class Step:
    """A pretended captured step: it says its rows."""

    def __init__(self, rows):
        self.rows = rows

    def step(self, token_ids):
        return len(self.rows), token_ids


def test_a_step_runs_in_its_bucket_and_too_many_tokens_are_refused():
    decode = BucketedDecode(Step, [4, 1])
    assert decode.step([9]) == (1, (1, [9]))
    assert decode.step([9, 8]) == (4, (4, [9, 8]))
    with pytest.raises(ValueError, match="5 tokens, and the largest captured step has 4"):
        decode.step([1] * 5)
