"""Bodies: what is read, what counts as absent, and the name of the parameter that is refused."""

import json

import pytest
from pydantic import ValidationError

from helpers.serving import BadRequest, ChatBody, CompletionBody, TokenizeBody, parsed


def refusal(kind, **fields):
    """Return name and code of what is refused."""
    with pytest.raises(BadRequest) as refused:
        parsed(kind, json.dumps(fields).encode())
    return refused.value.param, refused.value.code


def test_defaults_are_openais():
    body = parsed(CompletionBody, b'{"prompt": "x"}')
    assert (body.temperature, body.top_p, body.n, body.stream, body.seed) == (1.0, 1.0, 1, False, None)


def test_null_and_neutral_values_count_as_absent():
    body = parsed(CompletionBody, b'{"prompt": "x", "n": null, "logit_bias": null, "best_of": 1}')
    assert body.n == 1
    assert "best_of" not in body.model_fields_set
    assert refusal(CompletionBody, prompt="x", store=0) == ("store", "unsupported_parameter")
    assert refusal(CompletionBody, prompt="x", best_of=True) == ("best_of", "unsupported_parameter")
    for name in ("presence_penalty", "frequency_penalty"):
        assert refusal(CompletionBody, prompt="x", **{name: False}) == (name, "unsupported_parameter")
        assert refusal(CompletionBody, prompt="x", **{name: 0.5}) == (name, "unsupported_parameter")
    assert refusal(CompletionBody, prompt="x", unheard_of=None) == ("unheard_of", "unsupported_parameter")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        (dict(n="1"), "n"),
        (dict(n=True), "n"),
        (dict(stream=1), "stream"),
        (dict(stop=[1]), "stop[0]"),
        (dict(seed=2**63), "seed"),
        (dict(prompt=[["a"]]), "prompt[0][0]"),
        (dict(prompt=[]), "prompt"),
        (dict(prompt=None), "prompt"),
    ],
)
def test_values_keep_their_types(fields, name):
    assert refusal(CompletionBody, **{"prompt": "x", **fields}) == (name, "invalid_value")


def test_parts_of_a_message_are_one_text():
    raw = {"messages": [{"role": "user", "content": [{"type": "text", "text": t} for t in ("a", "b")]}]}
    assert parsed(ChatBody, json.dumps(raw).encode()).messages[0].text == "ab"
    assert refusal(ChatBody, messages=[{"role": "user", "content": 5}])[0] == "messages[0].content"
    assert refusal(ChatBody, messages=[{"role": "user", "content": [{"type": "video"}]}])[0].endswith(
        "[0].type"
    )


def test_what_is_no_object():
    for raw in (b"[]", b"{", b"", b"\xff"):
        with pytest.raises(BadRequest, match="the body"):
            parsed(TokenizeBody, raw)


def test_neutral_numbers_may_be_floats():
    raw = b'{"prompt": "x", "presence_penalty": 0.0, "frequency_penalty": -0.0, "repetition_penalty": 1.0}'
    assert parsed(CompletionBody, raw).model_fields_set == {"prompt"}


def test_nulls_inside_messages_count_as_absent():
    nulls = dict.fromkeys(("refusal", "tool_calls", "name", "audio", "a_field_of_tomorrow"))
    part = {"type": "text", "text": "x", "cache_control": None}
    message = {"role": "assistant", "content": [part], **nulls}
    found = parsed(ChatBody, json.dumps({"messages": [message]}).encode())
    assert found.messages[0].model_dump() == {"role": "assistant", "content": [{"type": "text", "text": "x"}]}
    assert refusal(ChatBody, messages=[{**message, "name": "me"}]) == (
        "messages[0].name",
        "unsupported_parameter",
    )
    assert refusal(ChatBody, messages=[{"role": "user", "content": None}])[0] == "messages[0].content"


MANY = 60_000


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (CompletionBody, dict(prompt=[{}] * MANY)),
        (CompletionBody, dict(prompt=[[{}] * MANY])),
        (CompletionBody, dict(prompt="x", stop=[0] * MANY)),
        (CompletionBody, dict.fromkeys(map(str, range(MANY)), 0)),
        (ChatBody, dict(messages=[{}] * MANY)),
        (ChatBody, dict(messages=[{"role": "user", "content": [{}] * MANY}])),
        (ChatBody, dict(messages=[dict.fromkeys(map(str, range(MANY)), 0)])),
    ],
    ids=["tokens", "token lists", "stop", "fields", "messages", "parts", "fields of a message"],
)
def test_of_many_errors_few_are_gathered(kind, fields):
    gathered = []

    class Counted(kind):
        @classmethod
        def model_validate_json(cls, raw):
            try:
                return kind.model_validate_json(raw)
            except ValidationError as error:
                gathered.append(error.error_count())
                raise

    with pytest.raises(BadRequest):
        parsed(Counted, json.dumps(fields).encode())
    assert gathered[0] <= 10
