"""The streaming detokeniser: its pieces joined are the text of the whole, and no piece is half a character."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.model import Detokeniser
from tests.model.text.tokenizers import KINDS, byte_fallback, byte_tokens, decode, default

TEXT = "naïve café: 한국어 中文 🙂👩‍👩‍👧 ½ \u00a0 end"


def pieces(tokenizer, tokens):
    """Return what is given out with each token, and at the end."""
    stream = Detokeniser(tokenizer)
    return [*(stream.push(token) for token in tokens), stream.finish()]


@cache
def sequences(kind):
    """Return sequences of any tokens, half of them mostly of few bytes; some ids are not in the vocabulary."""
    size = len(KINDS[kind]())
    anywhere = st.integers(0, size + 3)
    first = st.integers(0, min(size, 300))
    return st.lists(anywhere, max_size=20) | st.lists(first | anywhere, max_size=20)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_pieces_joined_are_the_text_of_the_whole(kind, data):
    tokenizer, tokens = KINDS[kind](), data.draw(sequences(kind))
    found = pieces(tokenizer, tokens)
    assert "".join(found) == decode(tokenizer, tokens)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=12), kind=st.sampled_from(["byte-level", "byte fallback"]))
def test_no_piece_of_a_real_text_holds_half_a_character(text, kind):
    tokenizer = KINDS[kind]()
    tokens = (
        default()(text, add_special_tokens=False)["input_ids"] if kind == "byte-level" else byte_tokens(text)
    )
    found = pieces(tokenizer, tokens)
    assert "".join(found) == decode(tokenizer, tokens)
    if decode(tokenizer, tokens) == text:  # some rare characters are not in the vocabulary
        assert "\ufffd" in text or not any("\ufffd" in piece for piece in found)


def test_a_character_of_many_tokens_comes_when_it_is_whole():
    tokenizer = default()
    tokens = tokenizer(TEXT)["input_ids"]
    found = pieces(tokenizer, tokens)
    assert "".join(found) == TEXT
    assert "" in found[:-1], "some character has more than one token"
    assert found[-1] == "", "nothing waits behind a whole text"
    assert max(map(len, found)) < 12, "pieces come as soon as they are settled"


def test_a_run_of_bytes_waits_for_its_end():
    tokenizer = byte_fallback()
    a, b = 3 + 256 + 1, 3 + 256 + 3
    assert pieces(tokenizer, [a, *byte_tokens("é"), b]) == ["a", "", "", "éb", ""]
    assert pieces(tokenizer, [a, *byte_tokens("é"), 3 + 0xE2, b]) == ["a", "", "", "", "\ufffd" * 3 + "b", ""]
    assert pieces(tokenizer, [a, *byte_tokens("🙂")])[-1] == "🙂"


def test_spaces_of_sentencepiece_stay_but_for_the_first():
    tokenizer = byte_fallback()
    hello, special = 3 + 256 + 2, 1
    assert pieces(tokenizer, [special, hello, special, hello, hello]) == [
        "", "Hello", "", " Hello", " Hello", "",
    ]  # fmt: skip


def test_special_and_unknown_tokens_have_no_text():
    tokenizer = default()
    word = tokenizer(" word")["input_ids"]
    assert len(word) == 1
    assert pieces(tokenizer, [2, *word, 16, 10**6, *word, 0]) == ["", " word", "", "", " word", "", ""]


def test_long_texts_cost_a_few_decoded_tokens_each():
    class Counting:
        def __init__(self, tokenizer):
            self.tokenizer, self.decoded = tokenizer, 0

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

        def decode(self, tokens, **options):
            self.decoded += len(tokens)
            return self.tokenizer.decode(tokens, **options)

    tokenizer = Counting(default())
    tokens = default()(TEXT * 20)["input_ids"]
    assert "".join(pieces(tokenizer, tokens)) == TEXT * 20
    assert tokenizer.decoded < 6 * len(tokens)
