"""Request: what no engine could serve is refused where it is written down."""

import math
import re

import numpy as np
import pytest
import torch

from helpers.engine import Request, RequestState


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(prompt_ids=[]), "the prompt is empty"),
        (dict(prompt_ids=[3, -1]), "token ids must be 0 or more; got -1"),
        (dict(prompt_ids=[1.5]), "prompt_ids must be a list of whole numbers; got [1.5]"),
        (dict(prompt_ids=[True]), "prompt_ids must be a list of whole numbers"),
        (dict(prompt_ids="text"), "prompt_ids must be a list of whole numbers; got 'text'"),
        (dict(prompt_ids=torch.tensor([1, 2])), "prompt_ids must be a list of whole numbers; got tensor([1, 2])"),
        (dict(prompt_ids=np.array([1, 2])), "prompt_ids must be a list of whole numbers; got array([1, 2])"),
        (dict(prompt_ids=(i for i in [1])), "prompt_ids must be a list of whole numbers; got <generator"),
        (dict(stop_ids=5), "stop_ids must be a list of whole numbers; got 5"),
        (dict(stop_ids=["."]), "stop_ids must be a list of whole numbers; got ['.']"),
        (dict(max_tokens=0), "max_tokens must be 1 or more"),
        (dict(max_tokens=2.5), "max_tokens must be 1 or more"),
        (dict(seed=0.5), "top_k and seed whole numbers"),
        (dict(top_k=1.0), "top_k and seed whole numbers"),
        (dict(top_k=-1), "top_k >= 0"),
        (dict(temperature=-0.1), "temperature >= 0"),
        (dict(temperature=math.nan), "temperature >= 0"),
        (dict(temperature=math.inf), "temperature >= 0"),
        (dict(top_p=0.0), "0 < top_p <= 1"),
        (dict(top_p=math.nan), "0 < top_p <= 1"),
        (dict(salt=[1]), "salt must be hashable, such as a string; got [1]"),
        (dict(client={}), "client must be hashable"),
        (dict(request_id=["a"]), "request_id must be hashable"),
    ],
)  # fmt: skip
def test_what_no_engine_could_serve_is_refused(given, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Request(**(dict(request_id="a", prompt_ids=[1, 2]) | given))


def test_a_refusal_stays_short():
    with pytest.raises(ValueError, match="whole numbers") as refusal:
        Request("a", [0.5] * 10_000)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("prompt", [[1, 2], (1, 2), range(1, 3)])
def test_any_sequence_of_tokens_will_do(prompt):
    state = RequestState(Request("a", prompt, stop_ids={5, 6}), 0.0, token_ids=[7, 8])
    assert state.text == [1, 2, 7, 8]
    assert [list(state.tokens(i, j)) for i, j in ((0, 2), (1, 3), (2, 4), (3, 3), (0, 4))] == [
        [1, 2], [2, 7], [7, 8], [], [1, 2, 7, 8],
    ]  # fmt: skip
