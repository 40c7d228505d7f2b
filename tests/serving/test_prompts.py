"""Prompts: texts, tokens and chats."""

import json
import threading

import pytest

from helpers.serving import BadRequest, ChatBody, CompletionBody, Prompts, TokenizeBody, parsed
from tests.serving.service import tokenizer

PROMPTS = Prompts(tokenizer())


def body(kind, **fields):
    return parsed(kind, json.dumps(fields).encode())


def test_every_form_of_a_prompt():
    one, two = tokenizer()("One")["input_ids"], tokenizer()("Two")["input_ids"]
    for prompt, expected in (
        ("One", [one]),
        (["One", "Two"], [one, two]),
        (one, [one]),
        ([one, two], [one, two]),
    ):
        assert PROMPTS.of_completion(body(CompletionBody, prompt=prompt)) == expected
    assert PROMPTS.text_of(one + two) == "OneTwo"


def test_a_chat_that_the_template_refuses():
    own = Prompts(tokenizer())
    own._tokenizer.chat_template = "{{ raise_exception('a question is needed') }}"
    messages = body(ChatBody, messages=[{"role": "user", "content": "x"}]).messages
    with pytest.raises(BadRequest, match="a question is needed") as refused:
        own.of_chat(messages)
    assert refused.value.param == "messages"
    assert tokenizer().chat_template != own._tokenizer.chat_template


def test_tokenize_wants_one_text():
    for fields in ({}, {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}):
        with pytest.raises(BadRequest, match="either prompt or messages"):
            PROMPTS.of_tokenize(body(TokenizeBody, **fields))
    assert PROMPTS.of_tokenize(body(TokenizeBody, prompt="One")) == tokenizer()("One")["input_ids"]


def test_a_copy_does_not_wait_for_the_others_turn():
    own = Prompts(tokenizer())
    other, tokens = own.copy(), tokenizer()("One")["input_ids"]
    found = []
    reader = threading.Thread(target=lambda: found.extend(other.texts_of([tokens, tokens])), daemon=True)
    with own._turn:
        reader.start()
        reader.join(120)
    assert found == ["One", "One"]
    assert other._tokenizer is not own._tokenizer
