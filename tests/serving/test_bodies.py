"""Bodies: what is read, what counts as absent, and the name of the parameter that is refused."""

import json

import pytest

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
