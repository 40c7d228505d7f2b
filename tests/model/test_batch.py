"""A flat batch says which token belongs where, and refuses what is no batch."""

import pytest

from helpers.model import FlatBatch


def test_packing():
    batch = FlatBatch.pack([[5, 6, 7], [8]], history=[0, 4], seq_ids=["a", "b"])
    assert batch.token_ids.tolist() == [5, 6, 7, 8]
    assert batch.positions.tolist() == [0, 1, 2, 4]
    assert batch.query_start_loc == (0, 3, 4)
    assert batch.seq_lens == (3, 5)
    assert batch.query_lens == (3, 1)
    assert batch.history_lens == (0, 4)
    assert batch.last_token_indices.tolist() == [2, 3]
    assert batch.max_token_id == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(new_tokens=[]), "at least one sequence"),
        (dict(new_tokens=[[1], []]), "sequence 1 has no new token"),
        (dict(new_tokens=[[1]], history=[-1]), "0 or more, got -1"),
        (dict(new_tokens=[[1, -3]]), "0 or more, got -3"),
        (dict(new_tokens=[[1], [2]], history=[0]), "2 sequences, 1 histories"),
        (dict(new_tokens=[[1], [2]], seq_ids=["a", "a"]), "may stand in a batch once"),
    ],
)
def test_what_is_no_batch_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FlatBatch.pack(**arguments)
