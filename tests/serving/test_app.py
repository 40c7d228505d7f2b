"""The routes through the official client: every parameter, streams, refusals before the first byte, leaving."""

import asyncio
import json
import socket
import threading

import httpx
import openai
import pytest

from helpers.model import generate
from tests.serving.service import (
    HTTP,
    NAME,
    ROOM,
    GatedModel,
    alone,
    is_empty,
    model,
    running,
    tokenizer,
    until,
)

QUESTION = [{"role": "user", "content": "Name three rivers."}]


@pytest.fixture(scope="module")
def server():
    with running() as here:
        yield here


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as made:
        yield made


def complete(client, prompt="The rivers", max_tokens=12, temperature=0, **options):
    return client.completions.create(
        model=NAME, prompt=prompt, max_tokens=max_tokens, temperature=temperature, **options
    )


def chat(client, messages=QUESTION, max_tokens=12, temperature=0, **options):
    return client.chat.completions.create(
        model=NAME, messages=messages, max_tokens=max_tokens, temperature=temperature, **options
    )


def chat_tokens(messages=QUESTION):
    text = tokenizer().apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer()(text, add_special_tokens=False)["input_ids"]


def streamed(stream):
    """The text of each choice of a stream, its reasons, and the last usage."""
    texts, reasons, usage = {}, {}, None
    for event in stream:
        for choice in event.choices:
            new = choice.delta.content if hasattr(choice, "delta") else choice.text
            texts[choice.index] = texts.get(choice.index, "") + (new or "")
            reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
        usage = event.usage or usage
    return [texts[i] for i in sorted(texts)], [reasons[i] for i in sorted(reasons)], usage


# What models answer.


def test_models(client):
    (listed,) = client.models.list().data
    assert (listed.id, client.models.retrieve(NAME).id) == (NAME, NAME)
    with pytest.raises(openai.NotFoundError, match="'other' is not served here"):
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError, match="'other' is not served here"):
        client.chat.completions.create(model="other", messages=QUESTION)


def test_a_completion_is_what_generate_answers(client):
    answer = complete(client)
    expected = alone("The rivers", 12)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == (expected.answer, "length")
    counts = (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens)
    assert counts == (2, 12, 14)
    assert streamed(complete(client, stream=True))[:2] == ([expected.answer], ["length"])
    assert len(complete(client, max_tokens=None).choices[0].text) == len(alone("The rivers", 16).answer)


def test_a_chat_is_what_generate_answers(client):
    answer, expected = chat(client), alone(chat_tokens(), 12)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", expected.answer)
    texts, reasons, usage = streamed(chat(client, stream=True, stream_options={"include_usage": True}))
    assert (texts, reasons) == ([expected.answer], ["length"])
    assert usage.completion_tokens == 12
    assert usage.prompt_tokens == len(chat_tokens())
    parts = [{"type": "text", "text": "Name three"}, {"type": "text", "text": " rivers."}]
    assert chat(client, [{"role": "user", "content": parts}]).choices[0].message.content == expected.answer
    by_other_name = chat(client, max_tokens=openai.omit, max_completion_tokens=12)
    assert by_other_name.choices[0].message.content == expected.answer


def test_a_chat_without_a_number_goes_on_to_the_end_of_the_context(client):
    usage = chat(client, max_tokens=None, extra_body={"ignore_eos": True}).usage
    assert usage.total_tokens == ROOM + 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_ends_the_answer_before_itself(client, stream):
    text = alone("The rivers", 40).answer
    stop = text[20:23]
    expected = text[: text.index(stop)]
    for given in (stop, ["never there", stop]):
        answer = complete(client, max_tokens=40, stop=given, stream=stream)
        found = streamed(answer)[:2] if stream else ([answer.choices[0].text], ["stop"])
        assert found == ([expected], ["stop"])


def test_a_seed_decides_what_is_drawn(client):
    drawn = [complete(client, temperature=1, seed=seed, n=3).choices for seed in (4, 4, 5)]
    first, again, other = ([choice.text for choice in choices] for choices in drawn)
    assert first == again
    assert len({*first, *other}) >= 4
    free = [complete(client, temperature=1.5).choices[0].text for _ in range(2)]
    assert free[0] != free[1]


def test_top_k_and_top_p_narrow_the_choice(client):
    greedy = alone("The rivers", 12).answer
    assert complete(client, temperature=2, extra_body={"top_k": 1}).choices[0].text == greedy
    assert complete(client, temperature=2, top_p=1e-6).choices[0].text == greedy
    assert complete(client, temperature=2, seed=1, extra_body={"top_k": -1}).choices[0].text != greedy


def test_n_and_several_prompts_are_numbered_in_order(client):
    prompts = ["The rivers", "A lake"]
    texts = [alone(prompt, 6).answer for prompt in prompts]
    answer = complete(client, prompts, max_tokens=6, n=2)
    assert [choice.text for choice in answer.choices] == [texts[0]] * 2 + [texts[1]] * 2
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage.completion_tokens == 24
    assert streamed(complete(client, prompts, max_tokens=6, n=2, stream=True))[0] == [
        texts[0], texts[0], texts[1], texts[1],
    ]  # fmt: skip
    tokens = [tokenizer()(prompt)["input_ids"] for prompt in prompts]
    assert [choice.text for choice in complete(client, tokens, max_tokens=6).choices] == texts
    assert complete(client, tokens[0], max_tokens=6).choices[0].text == texts[0]
    chats = chat(client, n=3, temperature=1, seed=1, stream=True)
    assert len({*streamed(chats)[0]}) == 3


def test_echo_brings_the_prompt_first(client):
    expected = "The rivers" + alone("The rivers", 5).answer
    assert complete(client, max_tokens=5, echo=True).choices[0].text == expected
    assert streamed(complete(client, max_tokens=5, echo=True, stream=True))[0] == [expected]


def test_log_probabilities_in_the_form_of_completions(client):
    logprobs = complete(client, max_tokens=6, logprobs=3).choices[0].logprobs
    tokens = alone("The rivers", 6).token_ids
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 6
    for token, name, logprob, top in zip(
        tokens, logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        text = tokenizer().decode([token])
        assert name == (f"token_id:{token}" if "\ufffd" in text else text)
        assert len(top) == 3
        assert max(top.values()) == logprob == top[name]  # greedy: the likeliest
        assert logprob < 0
    parts = [event.choices[0].logprobs for event in complete(client, max_tokens=6, logprobs=3, stream=True)]
    assert [name for part in parts for name in part.tokens] == logprobs.tokens
    assert [at for part in parts for at in part.text_offset] == logprobs.text_offset


def test_log_probabilities_in_the_form_of_chats(client):
    content = chat(client, max_tokens=6, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert len(content) == 6
    for entry in content:
        assert entry.token == entry.top_logprobs[0].token
        assert entry.logprob == entry.top_logprobs[0].logprob > entry.top_logprobs[1].logprob
        whole = not entry.token.startswith("token_id:")
        assert (bytes(entry.bytes).decode() == entry.token) if whole else entry.bytes is None
    assert chat(client, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    assert chat(client).choices[0].logprobs is None
    events = [e for e in chat(client, max_tokens=6, logprobs=True, top_logprobs=2, stream=True) if e.choices]
    parts = [event.choices[0].logprobs for event in events if event.choices[0].logprobs]
    assert [part.content[0] for part in parts] == content


def test_the_event_loop_does_not_wait_for_a_tokenizer_that_is_in_use(server):
    body = {"prompt": tokenizer()("The rivers")["input_ids"], "max_tokens": 4, "temperature": 0}
    url, found = server.url + "/v1/completions", []

    def echo():
        found.append(HTTP.post(url, json={**body, "echo": True}).json()["choices"][0]["text"])

    waiting = threading.Thread(target=echo)
    with server.service.prompts._turn:  # as a thread holds it that computes a long prompt's tokens
        waiting.start()
        answer = HTTP.post(url, json={**body, "logprobs": 1}).json()
        for _ in range(3):
            assert HTTP.get(server.url + "/health").status_code == 200
        assert found == []
    waiting.join(120)
    expected = alone("The rivers", 4).answer
    assert (answer["choices"][0]["text"], found) == (expected, ["The rivers" + expected])


def test_the_end_token_is_heeded_or_not_as_asked():
    tokens = alone("The rivers", 12).token_ids
    end = tokens[3]
    assert end not in tokens[:3]
    text = alone(tokenizer()("The rivers")["input_ids"], 3).answer
    with running(ends=(end,)) as server, openai.OpenAI(base_url=server.url + "/v1", api_key="x") as client:
        early = complete(client)
        (choice,) = early.choices
        assert (choice.finish_reason, choice.text) == ("stop", text)
        assert early.usage.completion_tokens == 4
        on = complete(client, extra_body={"ignore_eos": True})
        assert on.choices[0].text == alone("The rivers", 12).answer
        later = complete(client, logprobs=0, extra_body={"min_tokens": 6})
        assert later.usage.completion_tokens >= 6
        assert tokenizer().decode([end]) != later.choices[0].logprobs.tokens[3]


def test_usage_in_every_event(client):
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = list(chat(client, max_tokens=5, stream=True, stream_options=options))
    counts = [event.usage.completion_tokens for event in events if event.usage]
    assert counts == sorted(counts)
    assert counts[-2:] == [5, 5]


def test_equal_prompts_are_found_cached_but_for_another_salt(client):
    prompt = list(range(700, 764))

    def cached(**extra):
        usage = complete(client, prompt, max_tokens=1, extra_body=extra).usage
        return usage.prompt_tokens_details.cached_tokens

    assert [cached(), cached(), cached(cache_salt="mine"), cached(cache_salt="mine")] == [0, 56, 0, 56]


def test_what_asks_for_nothing_is_taken(client):
    nothing = dict(presence_penalty=0, frequency_penalty=0, logit_bias={}, best_of=1, suffix=None)
    answer = complete(client, user="someone", **nothing)
    assert answer.choices[0].text == alone("The rivers", 12).answer
    floats = dict(presence_penalty=0.0, frequency_penalty=0.0, extra_body={"repetition_penalty": 1.0})
    assert complete(client, **floats).choices[0].text == answer.choices[0].text
    said = {**chat(client).choices[0].message.model_dump(), "content": "Ebro"}
    assert None in said.values()
    assert chat(client, [*QUESTION, said, *QUESTION]).choices[0].finish_reason == "length"
    chat(client, tools=[], response_format={"type": "text"}, store=False, parallel_tool_calls=True)


# Refusals.


@pytest.mark.parametrize(
    ("options", "param"),
    [
        (dict(temperature=-1), "temperature"),
        (dict(temperature=2.5), "temperature"),
        (dict(top_p=0), "top_p"),
        (dict(n=0), "n"),
        (dict(n=17), "n"),
        (dict(max_tokens=0), "max_tokens"),
        (dict(max_tokens=100_000), "max_tokens"),
        (dict(max_completion_tokens=13), "max_completion_tokens"),
        (dict(stop=["a"] * 5), "stop"),
        (dict(stop=""), "stop"),
        (dict(stop="x" * 257), "stop"),
        (dict(logprobs=True, top_logprobs=21), "top_logprobs"),
        (dict(top_logprobs=2), "top_logprobs"),
        (dict(stream_options={"include_usage": True}), "stream_options"),
        (dict(stream=True, stream_options={"colour": 1}), "stream_options.colour"),
        (dict(presence_penalty=0.5), "presence_penalty"),
        (dict(frequency_penalty=1), "frequency_penalty"),
        (dict(logit_bias={"5": 1}), "logit_bias"),
        (dict(response_format={"type": "json_object"}), "response_format"),
        (dict(tools=[{"type": "function", "function": {"name": "f"}}]), "tools"),
        (dict(extra_body={"min_p": 0.1}), "min_p"),
        (dict(extra_body={"min_tokens": 13}), "min_tokens"),
        (dict(extra_body={"top_k": -2}), "top_k"),
        (dict(extra_body={"priority": 1}), "priority"),
        (dict(extra_body={"cache_salt": ""}), "cache_salt"),
        (dict(extra_body={"ignore_eos": "yes"}), "ignore_eos"),
        (dict(messages=[]), "messages"),
        (dict(messages=[{"role": "tool", "content": "x", "tool_call_id": "1"}]), "messages[0].role"),
        (dict(messages=[{"role": "user", "content": "x", "name": "me"}]), "messages[0].name"),
        (
            dict(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
            "messages[0].content[0].type",
        ),
        (dict(messages=[{"role": "user", "content": "word " * 600}]), "messages"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_obeyed_is_refused_by_name(client, options, param, stream):
    if "stream_options" in options and stream != options.get("stream", False):
        return
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, **{"stream": stream, **options})
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert refused.value.message


@pytest.mark.parametrize(
    ("options", "param"),
    [
        (dict(prompt=[]), "prompt"),
        (dict(prompt=""), "prompt"),
        (dict(prompt=[len(tokenizer())]), "prompt"),
        (dict(prompt=[-1]), "prompt[0]"),
        (dict(prompt=["a"] * 17), "n"),
        (dict(prompt=list(range(ROOM + 1))), "prompt"),
        (dict(logprobs=21), "logprobs"),
        (dict(echo=True, logprobs=1), "echo"),
        (dict(best_of=2), "best_of"),
        (dict(suffix="end"), "suffix"),
    ],
)
def test_prompts_that_cannot_be_computed(client, options, param):
    with pytest.raises(openai.BadRequestError) as refused:
        complete(client, **options)
    assert refused.value.param == param


def test_other_paths_and_methods_are_refused_in_the_same_form(server):
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/v1/completions", 405)):
        answer = HTTP.request(method, server.url + path)
        assert answer.status_code == status
        assert f"{method} {path}: there is no such route" in answer.json()["error"]["message"]


def test_tokenize(server):
    tokens = HTTP.post(server.url + "/tokenize", json={"prompt": "The rivers"}).json()
    assert tokens == {
        "count": 2, "max_model_len": ROOM + 1, "tokens": tokenizer()("The rivers")["input_ids"]
    }  # fmt: skip
    of_chat = HTTP.post(server.url + "/tokenize", json={"messages": QUESTION}).json()
    assert of_chat["tokens"] == chat_tokens()
    assert HTTP.post(server.url + "/tokenize", json={}).status_code == 400


def test_priorities_where_the_policy_heeds_them():
    with running(policy="priority") as server:
        body = {"prompt": "x", "max_tokens": 2, "priority": 3}
        assert HTTP.post(server.url + "/v1/completions", json=body).status_code == 200


# Many at once, and those that leave.


def test_many_streams_at_once_are_each_as_generate_answers(server):
    prompts = [f"Story {i} " + "and " * (i % 5) for i in range(60)]

    async def one(client, i):
        stream = await client.completions.create(
            model=NAME, prompt=prompts[i], max_tokens=4 + i % 9, temperature=0, stream=True
        )
        return "".join([event.choices[0].text async for event in stream])

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0) as client:
            return await asyncio.gather(*(one(client, i) for i in range(60)))

    texts = asyncio.run(all_of_them())
    assert texts == [alone(prompt, 4 + i % 9).answer for i, prompt in enumerate(prompts)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_cancelled(stream):
    gated = GatedModel(passes=2)
    with running(model=gated) as server:
        body = json.dumps({"prompt": "x", "max_tokens": 500, "stream": stream, "ignore_eos": True}).encode()
        head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: gated.begun == 3)  # two tokens are computed, the third one waits
        until(lambda: server.service.loop._inbox)  # the server has seen that nobody reads
        gated.let()
        until(lambda: is_empty(server))
        ends = HTTP.get(server.url + "/metrics").text
        assert 'vllm:request_success_total{engine="0",finished_reason="abort",model_name="tiny"} 1.0' in ends


def test_a_full_queue_answers_429_and_when_to_come_again():
    with running(slow=0.1, max_batch_size=2, max_waiting=1) as server:  # half a minute for an answer
        body = {"prompt": "x", "max_tokens": 300, "stream": True, "ignore_eos": True}
        with httpx.Client(timeout=120) as client:
            taken = [
                client.send(
                    client.build_request("POST", server.url + "/v1/completions", json=body), stream=True
                )
                for _ in range(2)
            ]
            body["n"] = 2
            late = client.post(server.url + "/v1/completions", json=body)
            assert (late.status_code, late.headers["Retry-After"]) == (429, "1")
            assert late.json()["error"]["code"] == "rate_limit_exceeded"
            for answer in taken:
                answer.close()
        until(lambda: is_empty(server))


def test_one_that_fails_answers_500_alone():
    poison = tokenizer()("bad")["input_ids"][0]
    with running(poison=poison, slow=0.005) as server:
        with openai.OpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0) as client:
            found = []
            other = threading.Thread(target=lambda: found.append(complete(client, max_tokens=30)))
            other.start()
            with pytest.raises(openai.InternalServerError, match="this token cannot be computed"):
                complete(client, "bad", stream=True)
            other.join()
        assert found[0].choices[0].text == alone("The rivers", 30).answer


def test_an_error_behind_the_first_byte_is_an_event():
    answer = generate(model(), tokenizer()("The rivers")["input_ids"], 12)
    poison = next(
        token for i, token in enumerate(answer.token_ids) if i > 3 and token not in answer.token_ids[:i]
    )
    with running(poison=poison) as server, openai.OpenAI(base_url=server.url + "/v1", api_key="x") as client:
        stream = complete(client, stream=True)
        next(stream)
        with pytest.raises(openai.APIError, match="this token cannot be computed"):
            list(stream)
        body = {"prompt": "The rivers", "max_tokens": 12, "temperature": 0, "stream": True}
        lines = HTTP.post(server.url + "/v1/completions", json=body).text.split("\n\n")
        assert "error" in json.loads(lines[-3].removeprefix("data: "))
        assert lines[-2:] == ["data: [DONE]", ""]
