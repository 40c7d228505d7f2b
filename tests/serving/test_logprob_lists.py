"""Log-probabilities in both forms, also of tokens that are no whole characters."""

import math

from helpers.engine import TokenLogprobs
from helpers.serving import LogprobLists

TEXTS = {1: "é", 2: "\ufffd", 3: " a"}
LISTS = LogprobLists(lambda tokens: TEXTS[tokens[0]])


def test_chats():
    (entry,) = LISTS.of_chat(TokenLogprobs(1, -0.5, ((1, -0.5), (2, -math.inf))))
    other = {"token": "token_id:2", "logprob": -9999.0, "bytes": None}
    first = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    assert entry == {**first, "top_logprobs": [first, other]}


def test_texts():
    assert LISTS.of_text(TokenLogprobs(3, -1.0, ()), 7) == {
        "tokens": [" a"], "token_logprobs": [-1.0], "top_logprobs": [{}], "text_offset": [7],
    }  # fmt: skip
    assert [LISTS.num_characters(token) for token in (1, 2, 3)] == [1, 0, 2]
