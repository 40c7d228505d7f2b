"""Greedy generation: the same tokens whatever the cache, counted work, clear refusals."""

from types import SimpleNamespace

import pytest
import torch

from helpers.model import ConcatCache, FlatBatch, Generation, chat_prompt, checkpoint, end_tokens, generate
from tests.tiny import CONFIGS, reference, twin

PROMPT = [5, 17, 80, 2]


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_equal_transformers(name):
    model = reference(name)
    with torch.no_grad():
        want = model.generate(torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False, eos_token_id=None)[
            0, 4:
        ].tolist()
    ours = twin(model)
    assert generate(ours, PROMPT, 12).token_ids == want
    assert generate(ours, PROMPT, 12, ConcatCache()).token_ids == want


def test_work_is_counted():
    ours = twin(reference("llama"))
    assert generate(ours, PROMPT, 5).tokens_computed == 4 + 5 + 6 + 7 + 8
    assert generate(ours, PROMPT, 5, ConcatCache()).tokens_computed == 4 + 4


def test_margins_are_the_distance_to_the_runner_up():
    ours = twin(reference("llama"))
    result = generate(ours, PROMPT, 1)
    first, second = ours(FlatBatch.pack([PROMPT]))[0].sort(descending=True).values[:2]
    assert result.min_margin == pytest.approx(float(first - second))


def test_a_text_with_an_unclear_choice_is_not_shown():
    _, tokenizer = checkpoint.load()
    clear = Generation([1], tokenizer("Paris")["input_ids"], [0.051])
    assert clear.text(tokenizer) == "Paris"
    close = Generation([1], tokenizer("Paris, London")["input_ids"], [3.0, 0.05, 1.0])
    with pytest.raises(ValueError, match=r"token 1 was chosen by 0\.050, not clearly"):
        close.text(tokenizer)


def test_it_stops_after_a_stop_token_and_reports_each_token():
    ours = twin(reference("llama"))
    free, seen = generate(ours, PROMPT, 8), []
    stopped = generate(ours, PROMPT, 8, stop_ids=[free.token_ids[2]], on_token=seen.append)
    assert stopped.token_ids == seen == free.token_ids[: free.token_ids.index(free.token_ids[2]) + 1]


def test_bad_requests_are_refused():
    ours = twin(reference("llama"))
    with pytest.raises(ValueError, match="prompt is empty"):
        generate(ours, [], 3)
    with pytest.raises(ValueError, match="max_new_tokens must be 1 or more, got 0"):
        generate(ours, PROMPT, 0)


def test_the_chat_prompt_is_the_models_own_format():
    _, tokenizer = checkpoint.load()
    text = tokenizer.decode(chat_prompt(tokenizer, "Why?"))
    assert text.endswith("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n")


def test_an_answer_that_cannot_fit_is_refused_first_or_cut():
    ours, seen = twin(reference("llama")), []
    prompt, room = [1 + i % 90 for i in range(250)], 256 - 250 + 1
    with pytest.raises(
        ValueError, match="250 prompt tokens and 8 new ones do not fit into the model's 256 positions"
    ):
        generate(ours, prompt, room + 1, ConcatCache(), on_token=seen.append)
    assert not seen
    whole = generate(ours, prompt, room, ConcatCache())
    cut = generate(ours, prompt, 100, ConcatCache(), at_context_end="cut")
    assert cut.token_ids == whole.token_ids
    assert (cut.finish_reason, len(cut.token_ids)) == ("length", room)
    with pytest.raises(ValueError, match="do not fit"):
        generate(ours, [1] * 257, 1, at_context_end="cut")


def test_the_reason_of_an_end_is_told():
    ours = twin(reference("llama"))
    free = generate(ours, PROMPT, 4)
    assert free.finish_reason == "length"
    assert generate(ours, PROMPT, 4, stop_ids=[free.token_ids[-1]]).finish_reason == "stop"


def test_logits_that_are_no_number_are_refused():
    ours = twin(reference("llama"))
    ours.norm[3] = float("nan")
    with pytest.raises(ValueError, match=r"logits of new token 0 are not a number \(NaN\)"):
        generate(ours, PROMPT, 4, ConcatCache())


def test_all_end_tokens_are_known():
    ours = twin(reference("llama"))
    assert end_tokens(ours, SimpleNamespace(eos_token_id=None)) == []
    ours.end_tokens = (2, 7)
    assert end_tokens(ours, SimpleNamespace(eos_token_id=2)) == [2, 7]
    assert end_tokens(ours, SimpleNamespace(eos_token_id=9)) == [2, 7, 9]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(stop=["x"]), "stop texts need a tokenizer; pass tokenizer="),
        (dict(stop="x", tokenizer=object()), "stop must be a list of texts, got the text 'x'"),
        (dict(min_tokens=-1), r"min_tokens must be 0 to max_new_tokens \(3\), got -1"),
        (dict(min_tokens=4), r"min_tokens must be 0 to max_new_tokens \(3\), got 4"),
    ],
)
def test_ends_that_cannot_be_found_are_refused_first(given, words):
    seen = []
    with pytest.raises(ValueError, match=words):
        generate(twin(reference("llama")), PROMPT, 3, on_token=seen.append, **given)
    assert not seen


def test_margins_leave_out_tokens_that_may_not_be_chosen():
    ours = twin(reference("llama"))
    order = ours(FlatBatch.pack([PROMPT]))[0].sort(descending=True)
    best = int(order.indices[0])
    result = generate(ours, PROMPT, 1, stop_ids=[best, 5000], min_tokens=1)
    assert result.token_ids == [int(order.indices[1])]
    assert result.min_margin == pytest.approx(float(order.values[1] - order.values[2]))
    ours.norm[3] = float("nan")
    with pytest.raises(ValueError, match=r"\(NaN\)"):
        generate(ours, PROMPT, 1, stop_ids=range(97), min_tokens=1)


def test_an_answer_has_its_text_where_a_tokenizer_is_given():
    model, tokenizer = checkpoint.load()
    prompt = chat_prompt(tokenizer, "What is the capital of France?")
    free = generate(model, prompt, 30, stop_ids=end_tokens(model, tokenizer), tokenizer=tokenizer)
    assert free.answer == tokenizer.decode(free.token_ids, skip_special_tokens=True)
    assert "Paris" in free.answer
    cut = generate(model, prompt, 30, tokenizer=tokenizer, stop=["aris"])
    assert (cut.answer, cut.finish_reason) == (free.answer[: free.answer.index("aris")], "stop")
    assert len(cut.token_ids) < len(free.token_ids)
