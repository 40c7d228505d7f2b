"""From bodies to requests: every parameter arrives, and limits are named."""

import json

import pytest

from helpers.serving import BadRequest, ChatBody, CompletionBody, Limits, Serves, UnknownModel, parsed

SERVES = Serves("m", room=40, vocab_size=100, stop_ids=(7,), priorities=True)


def requests(prompts=((1, 2),), kind=CompletionBody, serves=SERVES, **fields):
    """The engine's requests for a body."""
    needed = {"prompt": "x"} if kind is CompletionBody else {"messages": [{"role": "user", "content": "x"}]}
    return serves.requests(
        "r", parsed(kind, json.dumps({**needed, **fields}).encode()), [*map(list, prompts)]
    )


def test_every_parameter_arrives():
    (request,) = requests(
        max_tokens=9, temperature=0.5, top_p=0.9, top_k=3, seed=11, cache_salt="s", priority=2, user="u",
        stop="end", ignore_eos=True, min_tokens=4, logprobs=2,
    )  # fmt: skip
    assert (request.request_id, request.prompt_ids, request.max_tokens) == (("r", 0), [1, 2], 9)
    assert (request.temperature, request.top_p, request.top_k, request.seed) == (0.5, 0.9, 3, 11)
    assert (request.salt, request.priority, request.client, request.stop) == ("s", 2, "u", ["end"])
    assert (request.ignore_eos, request.min_tokens, request.logprobs) == (True, 4, 2)
    assert request.stop_ids == (7,)
    assert requests(top_k=-1)[0].top_k == 0


def test_samples_of_several_prompts_have_seeds_of_their_own():
    assert [request.seed for request in requests([[1], [2], [3]], n=4, seed=5)] == [5, 9, 13]
    assert requests(temperature=1)[0].seed != requests(temperature=1)[0].seed


def test_an_answers_length_where_none_is_given():
    assert requests()[0].max_tokens == 16
    assert requests([[1] * 38])[0].max_tokens == 3
    assert requests(kind=ChatBody)[0].max_tokens == 39
    assert requests(kind=ChatBody, max_completion_tokens=3, max_tokens=3)[0].max_tokens == 3


@pytest.mark.parametrize(
    ("prompts", "fields", "name", "code"),
    [
        ([[1] * 41], {}, "prompt", "context_length_exceeded"),
        ([[1] * 40], dict(max_tokens=2), "max_tokens", "context_length_exceeded"),
        ([[1], [1] * 40], dict(max_tokens=2), "max_tokens", "context_length_exceeded"),
        ([[100]], {}, "prompt", None),
        ([[]], {}, "prompt", None),
        ([[1]] * 3, dict(n=6), "n", None),
        ([[1]], dict(logprobs=21), "logprobs", None),
        ([[1]], dict(min_tokens=17), "min_tokens", None),
        ([[1]], dict(max_tokens=3, max_completion_tokens=4), "max_completion_tokens", None),
    ],
)
def test_limits_are_named(prompts, fields, name, code):
    with pytest.raises(BadRequest) as refused:
        requests(prompts, **fields)
    assert (refused.value.param, refused.value.code) == (name, code)


def test_limits_and_the_model_are_the_servers_own():
    assert len(requests([[1]] * 3, serves=Serves("m", 40, 100, limits=Limits(answers=3)))) == 3
    with pytest.raises(BadRequest, match="--policy priority"):
        requests(serves=Serves("m", 40, 100), priority=1)
    SERVES.check_model(None)
    with pytest.raises(UnknownModel):
        SERVES.check_model("M")
