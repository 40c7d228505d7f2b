"""The text of an answer: it grows by whole characters and ends before a stop string."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.model import AnswerText
from tests.model.text.test_stop_strings import brute
from tests.model.text.tokenizers import byte_fallback, byte_tokens, decode, default


def read(tokenizer, tokens, **how):
    """Return the text after each token and at the end, and the number of tokens that were needed."""
    answer, seen = AnswerText(tokenizer, **how), []
    for token in tokens:
        ended = answer.push(token)
        seen.append(answer.text)
        if ended:
            break
    answer.finish()
    return [*seen, answer.text], len(seen)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_it_is_the_decoded_text_up_to_the_stop_string(data):
    tokenizer = data.draw(st.sampled_from([default(), byte_fallback()]))
    tokens = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=20))
    whole = decode(tokenizer, tokens)
    begin = data.draw(st.integers(0, len(whole)))
    stop = [s for s in (whole[begin : begin + data.draw(st.integers(1, 5))],) if s]
    seen, _ = read(tokenizer, tokens, stop=stop)
    assert seen[-1] == brute(whole, stop)[0]
    assert all(later.startswith(earlier) for earlier, later in pairwise(seen))


def test_a_stop_string_across_tokens_is_never_seen():
    tokenizer = default()
    tokens = tokenizer("One. Two. Three.")["input_ids"]
    seen, needed = read(tokenizer, tokens, stop=[". Th"])
    assert seen[-1] == "One. Two"
    assert needed < len(tokens)
    assert [text for text in seen if "Th" in text] == []
    assert "One." not in seen, "the point may begin the stop string, so it waits for its successor"


def test_the_first_tokens_are_not_searched():
    tokenizer = default()
    tokens = tokenizer(" a b a b a b")["input_ids"]
    assert [read(tokenizer, tokens, stop=[" b"], min_tokens=n)[1] for n in range(5)] == [2, 2, 4, 4, 6]
    assert read(tokenizer, tokens, stop=[" b"], min_tokens=2)[0][-1] == " a b a"


def test_an_answer_goes_on_from_tokens_that_it_has():
    tokenizer = byte_fallback()
    tokens = [260, *byte_tokens("🙂END of")]
    for count in range(len(tokens)):
        answer = AnswerText(tokenizer, ["of"], answered=tokens[:count])
        assert not any(answer.push(token) for token in tokens[count:]), "a run of bytes has no end yet"
        assert answer.finish()
        assert answer.text == "a🙂END "
    with pytest.raises(ValueError, match="the answer has ended already, with the stop string 'END'"):
        AnswerText(tokenizer, ["END"], answered=[*tokens, 260])
