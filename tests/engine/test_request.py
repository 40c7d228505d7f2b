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
        (dict(min_tokens=-1), "min_tokens must be a whole number from 0 to max_tokens (64); got -1"),
        (dict(min_tokens=65), "min_tokens must be a whole number from 0 to max_tokens (64); got 65"),
        (dict(min_tokens=1.0), "min_tokens must be a whole number"),
        (dict(logprobs=-1), "logprobs must be None, or 0 or more; got -1"),
        (dict(logprobs=True), "logprobs must be None, or 0 or more; got True"),
        (dict(ignore_eos=1), "ignore_eos must be True or False; got 1"),
        (dict(at_context_end="wait"), 'at_context_end must be "refuse" or "cut"; got \'wait\''),
        (dict(stop="END"), "stop must be a list of texts of one character or more; got 'END'"),
        (dict(stop=["a", ""]), "stop must be a list of texts of one character or more"),
        (dict(stop=[b"a"]), "stop must be a list of texts of one character or more"),
        (dict(stop={"a"}), "stop must be a list of texts of one character or more"),
        (dict(answered="text"), "answered must be a list of whole numbers; got 'text'"),
        (dict(answered=[3, -1]), "token ids must be 0 or more; got -1"),
        (dict(answered=[3], max_tokens=1), "answered must hold fewer tokens than max_tokens (1); got 1"),
        (dict(answered=[3, 4], stop_ids=[3]), "the answer has ended already, with a token of stop_ids; got 3"),
    ],
)  # fmt: skip
def test_what_no_engine_could_serve_is_refused(given, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Request(**(dict(request_id="a", prompt_ids=[1, 2]) | given))


def test_a_refusal_stays_short():
    with pytest.raises(ValueError, match="whole numbers") as refusal:
        Request("a", [0.5] * 10_000)
    assert len(str(refusal.value)) < 200


def test_an_answer_may_bring_stop_tokens_that_did_not_end_it():
    assert Request("a", [1], answered=[3, 4], stop_ids=[3], min_tokens=1)
    assert Request("a", [1], answered=[3, 4], stop_ids=[3], ignore_eos=True)


@pytest.mark.parametrize(
    ("room", "at_context_end", "longest"),
    [(40, "cut", 8), (12, "cut", 8), (11, "cut", 7), (7, "cut", 3), (6, "cut", 8), (7, "refuse", 8)],
)
def test_an_answer_is_cut_to_its_room_where_asked(room, at_context_end, longest):
    request = Request(
        "a", [1] * 5, 8, min_tokens=6, answered=[2, 2], at_context_end=at_context_end, client="c"
    )
    cut = request.cut_to(room)
    assert cut.max_tokens == longest, "the last token needs no room; two tokens are there already"
    assert (cut.min_tokens, cut.client, cut.answered) == (min(6, longest), "c", [2, 2])
    assert cut is request or longest < 8


def test_a_state_takes_tokens_until_its_answer_ends():
    state = RequestState(Request("a", [1], 4, stop_ids=[9], min_tokens=2, answered=[9]), 0.0)
    assert (state.token_ids, state.num_tokens, state.remaining) == ([9], 2, 2)
    assert [state.take(token, float(token)) for token in (9, 7, 9)] == [None, None, "stop"]
    assert (state.token_ids, state.token_times) == ([9, 9, 7, 9], [9.0, 7.0, 9.0])
    endless = RequestState(Request("a", [1], 3, stop_ids=[9], ignore_eos=True), 0.0)
    assert [endless.take(9, 0.0) for _ in range(3)] == [None, None, "length"]


@pytest.mark.parametrize("prompt", [[1, 2], (1, 2), range(1, 3)])
def test_any_sequence_of_tokens_will_do(prompt):
    state = RequestState(Request("a", prompt, stop_ids={5, 6}), 0.0, token_ids=[7, 8])
    assert state.text == [1, 2, 7, 8]
    assert [list(state.tokens(i, j)) for i, j in ((0, 2), (1, 3), (2, 4), (3, 3), (0, 4))] == [
        [1, 2], [2, 7], [7, 8], [], [1, 2, 7, 8],
    ]  # fmt: skip
