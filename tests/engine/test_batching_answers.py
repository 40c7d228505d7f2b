"""How answers end and go on in a batch: stop texts, min_tokens, a cut context, tokens that are there already."""

import pytest

from helpers.caches import PagedKVCache
from helpers.engine import ContinuousBatcher, Request, StaticBatcher
from helpers.model import AnswerText, generate
from helpers.traffic import Report
from tests.model.text.tokenizers import KINDS
from tests.tiny import reference, twin

MODEL = twin(reference("llama"))
PROMPTS = [[5, 17, 80, 2], [5, 17, 80, 2, 9, 41], [33], [1 + i % 90 for i in range(30)]]


class Letters:
    """A tokenizer of one letter for each token."""

    all_special_ids, added_tokens_decoder = (), {}

    def convert_ids_to_tokens(self, token):
        return chr(0x4E00 + token)

    def decode(self, tokens, **options):
        return "".join(map(self.convert_ids_to_tokens, tokens))


LETTERS = Letters()


def batcher(num_pages=200, page_size=4, **options):
    cache = PagedKVCache.for_model(MODEL, num_pages, page_size)
    return ContinuousBatcher(MODEL, cache, **({"tokenizer": LETTERS} | options))


def serve(*requests, **options):
    """Return the finished requests, by name."""
    engine = batcher(**options)
    for request in requests:
        engine.add_request(request)
    return engine.run()


SAMPLED = dict(temperature=1.5, top_p=0.9, top_k=40, seed=7)


@pytest.mark.parametrize("how", [{}, SAMPLED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("page_size", [1, 4])
def test_an_answer_goes_on_elsewhere_as_if_it_had_never_left(how, page_size):
    whole = serve(*(Request(i, prompt, 14, logprobs=2, **how) for i, prompt in enumerate(PROMPTS)))
    for count in range(14):
        rest = serve(
            *(
                Request(i, prompt, 14, logprobs=2, answered=whole[i].token_ids[:count], **how)
                for i, prompt in reversed(list(enumerate(PROMPTS)))
            ),
            num_pages=120 // page_size,  # some are preempted
            page_size=page_size,
        )
        for i, state in rest.items():
            assert state.token_ids == whole[i].token_ids
            assert [entry.token_id for entry in state.logprobs] == whole[i].token_ids[count:]
            assert len(state.token_times) == 14 - count
            assert state.answer.text == whole[i].answer.text
            assert state.finish_reason == "length"


def test_samples_go_on_from_a_common_beginning():
    engine = batcher(page_size=4)
    names = engine.add_samples(Request("q", PROMPTS[3], 12, answered=[3, 4, 5], **SAMPLED), 3)
    done = engine.run()
    for i, name in enumerate(names):
        alone = serve(Request("a", PROMPTS[3], 12, answered=[3, 4, 5], **(SAMPLED | {"seed": 7 + i})))["a"]
        assert done[name].token_ids == alone.token_ids
    with pytest.raises(ValueError, match="samples have one prompt and one salt"):
        engine.scheduler.add_samples([Request("x", [1, 2], answered=[3]), Request("y", [1, 2, 3])])


def test_seeded_tokens_do_not_depend_on_the_batch():
    requests = [Request(i, prompt, 10, **SAMPLED) for i, prompt in enumerate(PROMPTS)]
    together = serve(*requests)
    for request in requests:
        assert serve(request)[request.request_id].token_ids == together[request.request_id].token_ids


def test_log_probabilities_come_with_each_token():
    state = serve(Request("a", PROMPTS[0], 8, logprobs=3))["a"]
    assert [entry.token_id for entry in state.logprobs] == state.token_ids
    for entry in state.logprobs:
        assert entry.top[0] == (entry.token_id, entry.logprob), "a greedy token is the likeliest"
        assert len(entry.top) == 3
    assert serve(Request("a", PROMPTS[0], 8))["a"].logprobs == []


def test_a_stop_text_ends_the_answer_wherever_tokens_have_their_borders():
    free = generate(MODEL, PROMPTS[0], 12).token_ids
    text = LETTERS.decode(free)
    for begin in range(11):
        stop = text[begin : begin + 2]
        at = text.index(stop)
        state = serve(Request("a", PROMPTS[0], 12, stop=["never", stop]))["a"]
        assert (state.answer.text, state.finish_reason) == (text[:at], "stop")
        assert state.token_ids == free[: at + 2], "the tokens of the stop text are part of the answer"
        alone = generate(MODEL, PROMPTS[0], 12, tokenizer=LETTERS, stop=["never", stop])
        assert (alone.token_ids, alone.answer, alone.finish_reason) == (state.token_ids, text[:at], "stop")


def test_a_reader_of_the_stream_sees_no_part_of_a_stop_text():
    free = generate(MODEL, PROMPTS[0], 12).token_ids
    text = LETTERS.decode(free)
    engine, seen = batcher(), [""]
    engine.add_request(Request("a", PROMPTS[0], 12, stop=[text[3:6]]))
    state = next(iter(engine.waiting))
    while state.finish_reason is None:
        engine.process_batch()
        seen.append(state.answer.text)
    assert seen[-1] == text[: text.index(text[3:6])]
    assert all(seen[-1].startswith(part) for part in seen)


def test_a_stop_token_has_no_text_and_a_length_gives_back_what_was_held():
    free = generate(MODEL, PROMPTS[0], 12).token_ids
    text, last = LETTERS.decode(free), free[5]
    at = free.index(last)
    state = serve(Request("a", PROMPTS[0], 12, stop_ids=[last]))["a"]
    assert (state.token_ids, state.answer.text) == (free[: at + 1], text[:at])
    assert generate(MODEL, PROMPTS[0], 12, stop_ids=[last], tokenizer=LETTERS).answer == text[:at]
    held = serve(Request("a", PROMPTS[0], 12, stop=[text[-1] + "and more"]))["a"]
    assert (held.answer.text, held.finish_reason) == (text, "length")


def test_an_answer_goes_on_after_stop_tokens_where_asked():
    free = generate(MODEL, PROMPTS[0], 12).token_ids
    stops = [free[0], free[4]]
    state = serve(Request("a", PROMPTS[0], 12, stop_ids=stops, ignore_eos=True))["a"]
    alone = generate(MODEL, PROMPTS[0], 12, stop_ids=stops, ignore_eos=True)
    assert (state.token_ids, state.finish_reason) == (free, "length")
    assert (alone.token_ids, alone.finish_reason) == (free, "length")


@pytest.mark.parametrize("at_least", range(6))
def test_no_answer_stops_too_early(at_least):
    free = generate(MODEL, PROMPTS[0], 12).token_ids
    options = dict(stop_ids=[free[0], free[3]], min_tokens=at_least)
    state = serve(Request("a", PROMPTS[0], 12, **options))["a"]
    alone = generate(MODEL, PROMPTS[0], 12, **options)
    assert state.token_ids == alone.token_ids
    assert not {free[0], free[3]} & {*state.token_ids[:at_least]}
    assert len(state.token_ids) > at_least
    assert state.finish_reason == alone.finish_reason


def test_no_stop_text_is_looked_for_too_early():
    text = LETTERS.decode(generate(MODEL, PROMPTS[0], 12).token_ids)
    options = dict(stop=[text[0], text[4:6]], min_tokens=3)
    want = text[: min(text.find(stop, 3) for stop in options["stop"] if stop in text[3:])]
    assert serve(Request("a", PROMPTS[0], 12, **options))["a"].answer.text == want
    assert generate(MODEL, PROMPTS[0], 12, tokenizer=LETTERS, **options).answer == want


def test_a_cut_answer_loses_nothing():
    prompt, room = [1 + i % 90 for i in range(250)], 256 - 250 + 1
    whole = generate(MODEL, prompt, room).token_ids
    engine = batcher(200, 4)
    with pytest.raises(ValueError, match="request 'a' may need 349 tokens, there is room for 256"):
        engine.add_request(Request("a", prompt, 100))
    engine.add_request(Request("a", prompt, 100, at_context_end="cut"))
    state = engine.run()["a"]
    assert (state.token_ids, state.finish_reason) == (whole, "length")
    with pytest.raises(ValueError, match="there is room for 256"):
        engine.add_request(Request("b", [1] * 257, 1, at_context_end="cut"))
    small = serve(Request("a", PROMPTS[0], 100, at_context_end="cut"), num_pages=3)["a"]
    assert (len(small.token_ids), small.finish_reason) == (12 - 4 + 1, "length"), "the pool's room counts too"
    static = StaticBatcher(MODEL, PagedKVCache.for_model(MODEL, 200, 4))
    static.add_request(Request("a", prompt, 100, at_context_end="cut", answered=whole[:2]))
    assert static.run()["a"].token_ids == whole


def test_what_the_engine_cannot_serve_is_refused_before_anything_changes():
    plain, static = batcher(tokenizer=None), StaticBatcher(MODEL, PagedKVCache.for_model(MODEL, 9, 4))
    wanting = Request("a", [1, 2], stop=["x"])
    for add in (plain.add_request, lambda request: plain.add_samples(request, 2)):
        with pytest.raises(ValueError, match="stop texts need an engine with a tokenizer"):
            add(wanting)
    for request in (wanting, Request("a", [1, 2], logprobs=1)):
        with pytest.raises(ValueError, match="request 'a': stop texts and logprobs need a ContinuousBatcher"):
            static.add_request(request)
    with pytest.raises(ValueError, match="token ids must be under 97, got 97"):
        plain.add_request(Request("a", [1, 2], answered=[97]))
    told = batcher()
    with pytest.raises(ValueError, match="the answer has ended already, with the stop string"):
        told.add_request(Request("a", [1, 2], stop=[chr(0x4E00 + 3)], answered=[3]))
    assert [len(engine.waiting) for engine in (plain, static, told)] == [0, 0, 0]


def test_a_cancelled_answer_keeps_its_text():
    engine = batcher()
    engine.add_request(Request("a", PROMPTS[0], 12))
    for _ in range(3):
        engine.process_batch()
    engine.cancel("a")
    state = engine.finished["a"]
    assert state.answer.text == LETTERS.decode(state.token_ids)
    assert len(state.token_ids) == 3


@pytest.mark.parametrize("kind", ["byte-level", "byte fallback"])
def test_texts_are_those_of_real_tokenizers(kind):
    tokenizer = KINDS[kind]()
    state = serve(Request("a", PROMPTS[0], 20, **SAMPLED), tokenizer=tokenizer)["a"]
    assert state.answer.text == tokenizer.decode(state.token_ids, skip_special_tokens=True)
    assert isinstance(state.answer, AnswerText)


def test_texts_found_again_after_a_preemption_are_no_hits():
    def run(prompts, pages):
        engine = ContinuousBatcher(MODEL, PagedKVCache.for_model(MODEL, pages, 4), 8, 32)
        for i, prompt in enumerate(prompts):
            engine.add_request(Request(i, prompt, 24))
        engine.run()
        stats, report = engine.cache.pool.stats(), Report.of(engine)
        return report.preemptions, report.hit_rate, stats.hit_tokens / stats.looked_up_tokens

    apart = [[(i * 13 + j * 7) % 97 for j in range(12)] for i in range(6)]
    alike = [[*range(8), i, i, i, i] for i in range(6)]
    for pages in (12, 14, 60):
        preemptions, rate, pool_rate = run(apart, pages)
        assert rate == pool_rate == 0
        assert (preemptions > 0) == (pages < 60)
        preemptions, rate, pool_rate = run(alike, pages)
        assert 0 < rate <= 5 * 8 / (6 * 12)
        assert 0 < pool_rate <= 5 * 8 / (6 * 12)
        assert (preemptions > 0) == (pages < 60)


def test_tokens_that_an_answer_brings_are_not_counted_as_computed():
    engine = batcher()
    engine.add_request(Request("a", PROMPTS[0], 12, answered=[3, 4, 5, 6]))
    engine.add_request(Request("b", PROMPTS[0], 12, answered=[3, 4, 5, 6]))
    engine.run()
    report = Report.of(engine)
    assert [outcome.new_tokens for outcome in report.outcomes] == [8, 8]
    assert report.throughput == pytest.approx(16 / report.seconds)
    assert report.hit_rate <= 0.5, "what a prompt shares is at most the prompt"


def test_samples_that_fork_beside_an_unfinished_prompt_have_their_own_log_probabilities():
    engine = batcher(token_budget=8)
    names = engine.add_samples(Request("q", PROMPTS[0], 3, logprobs=2, **SAMPLED), 2)
    engine.add_request(Request("long", PROMPTS[3], 2))
    done = engine.run()
    for i, name in enumerate(names):
        alone = serve(Request("a", PROMPTS[0], 3, logprobs=2, **(SAMPLED | {"seed": 7 + i})))["a"]
        want = [entry.logprob for entry in alone.logprobs]
        assert [entry.logprob for entry in done[name].logprobs] == pytest.approx(want, abs=1e-4)
