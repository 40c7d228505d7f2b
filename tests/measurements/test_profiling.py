"""The profiler: right tokens, honest clock, figures that follow from the times."""

import time
from types import SimpleNamespace

import pytest
import torch

from helpers import InferenceProfiler
from helpers.measurements import GenerationProfile
from helpers.model import Generation, checkpoint
from tests.tiny import reference, twin
from tools.notebooks import sanitised

PROMPT = [5, 17, 80, 2]
NO_TOKENIZER = SimpleNamespace(eos_token_id=None, decode=lambda ids, **_: str(len(ids)))


@pytest.fixture
def clock(monkeypatch):
    """A clock of the test's own: each pass of a model takes as long as it has new tokens, in seconds."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now.seconds)
    return now


def timed(model, clock):
    forward = type(model).forward

    class Timed(type(model)):
        def forward(self, batch, *arguments, **options):
            clock.seconds += len(batch.token_ids) * (10.0 if clock.cold else 1.0)
            clock.cold = False
            return forward(self, batch, *arguments, **options)

    model.__class__ = Timed
    return model


def test_first_token_and_steps_are_timed_apart_after_a_warm_up(clock):
    clock.cold = True
    profile = InferenceProfiler().profile_generation(
        timed(twin(reference("llama")), clock), NO_TOKENIZER, PROMPT, 5
    )
    assert profile.ttft == 4
    assert profile.step_times == (1, 1, 1, 1)
    assert (profile.prompt_tokens, profile.new_tokens, profile.total) == (4, 5, 8)
    assert profile.throughput == 5 / 8
    clock.cold = True
    cold = InferenceProfiler(warmup=0).profile_generation(
        timed(twin(reference("llama")), clock), NO_TOKENIZER, PROMPT, 2
    )
    assert cold.ttft == 40, "without a warm-up the first call pays"


def profile_of(*step_times):
    generation = Generation([1, 2], [0] * (len(step_times) + 1), [1.0] * (len(step_times) + 1))
    return GenerationProfile(generation, "", 0.5, step_times)


def test_mean_and_percentiles():
    profile = profile_of(*(i / 100 for i in range(100, 0, -1)))
    assert profile.tpot == pytest.approx(0.505)
    assert [profile.percentile(p) for p in (1, 50, 90, 99, 100)] == [0.01, 0.5, 0.9, 0.99, 1.0]
    assert profile_of(0.3, 0.1, 0.2).percentile(50) == 0.2
    for bad in (0, 101, -5):
        with pytest.raises(ValueError, match="above 0 and up to 100"):
            profile.percentile(bad)


def test_a_single_token_has_no_steps():
    profile = profile_of()
    assert profile.tpot == 0
    assert "TPOT" not in repr(profile)
    with pytest.raises(ValueError, match="no time between tokens"):
        profile.percentile(50)


def test_everything_a_clock_said_is_marked():
    shown = sanitised(repr(profile_of(0.1, 0.2)))
    assert shown.count("MEASURED") == 7
    assert sanitised(profile_of(0.1, 0.2)._repr_html_()).count("MEASURED") == 7
    assert "prompt tokens" in shown


def test_the_plot_shows_every_token():
    (ax,) = profile_of(0.1, 0.2).plot().axes
    assert [bar.get_height() for bar in ax.patches] == [500, 100, 200]


def test_tokens_equal_transformers_on_the_real_model():
    model, tokenizer = checkpoint.load(torch.float32, "cpu")
    profile = InferenceProfiler().profile_generation(model, tokenizer, "Once upon a time", max_new_tokens=12)
    folder = checkpoint.locate()
    from transformers import AutoConfig, AutoModelForCausalLM

    peer = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).eval()
    peer.load_state_dict(checkpoint.read_tensors(folder), strict=False)
    peer.tie_weights()
    prompt = tokenizer("Once upon a time", return_tensors="pt")["input_ids"]
    want = peer.generate(prompt, max_new_tokens=12, do_sample=False)[0, prompt.shape[1] :].tolist()
    assert profile.generation.token_ids == want
    assert profile.text == tokenizer.decode(want, skip_special_tokens=True)
    assert profile.ttft > 0
    assert all(seconds > 0 for seconds in profile.step_times)


def test_it_stops_at_the_end_of_text():
    model = twin(reference("llama"))
    free = InferenceProfiler(0).profile_generation(model, NO_TOKENIZER, PROMPT, 6).generation.token_ids
    tokenizer = SimpleNamespace(eos_token_id=free[2], decode=NO_TOKENIZER.decode)
    stopped = InferenceProfiler(0).profile_generation(model, tokenizer, PROMPT, 6)
    assert stopped.generation.token_ids == free[: free.index(free[2]) + 1]


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="warmup must be 0 or more"):
        InferenceProfiler(warmup=-1)
    with pytest.raises(ValueError, match="prompt is empty"):
        InferenceProfiler().profile_generation(twin(reference("llama")), NO_TOKENIZER, [])


def test_a_trace_is_written_beside_and_changes_no_token(tmp_path):
    model = twin(reference("llama"))
    plain = InferenceProfiler().profile_generation(model, NO_TOKENIZER, PROMPT, 4)
    traced = InferenceProfiler().profile_generation(
        model, NO_TOKENIZER, PROMPT, 4, trace_folder=tmp_path / "new"
    )
    assert traced.generation.token_ids == plain.generation.token_ids
    assert "scaled_dot_product_attention" in (tmp_path / "new" / "trace.json").read_text()


def test_logits_that_are_no_number_are_refused():
    model = twin(reference("llama"))
    model.norm[3] = float("nan")
    for warmup in (0, 1):
        with pytest.raises(ValueError, match=r"logits of new token 0 are not a number \(NaN\)"):
            InferenceProfiler(warmup).profile_generation(model, NO_TOKENIZER, PROMPT, 4)
