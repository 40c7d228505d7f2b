"""A decoder out of a checkpoint's tensors: what is missing or misshapen is named."""

import pytest
import torch

from helpers.model import build
from tests.tiny import CONFIGS, reference


def test_a_missing_or_misshapen_tensor_is_named():
    model = reference("llama")
    tensors = dict(model.state_dict())
    tensors["model.norm.weight"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"norm: expected shape \(32,\)"):
        build(model.config, tensors)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(ValueError, match=r"layers.1.mlp.up_proj"):
        build(model.config, tensors)


def tensors_of(name, **more):
    model = reference(name)
    return model.config, {**model.state_dict(), **more}


def test_biases_that_the_model_does_not_compute_are_an_error():
    config, tensors = tensors_of("llama", **{"model.layers.1.self_attn.q_proj.bias": torch.ones(32)})
    with pytest.raises(
        ValueError, match=r"'model.layers.1.self_attn.q_proj.bias', which this model does not use; 1 such"
    ):
        build(config, tensors)


def test_norms_that_the_model_does_not_compute_are_an_error():
    config, tensors = tensors_of("llama", **{"model.layers.0.self_attn.q_norm.weight": torch.ones(8)})
    with pytest.raises(ValueError, match=r"q_norm\.weight"):
        build(config, tensors)


def test_other_tensors_are_named_in_one_warning():
    extra = {"model.layers.2.mlp.up_proj.weight": torch.ones(2), "value_head.weight": torch.ones(2)}
    config, tensors = tensors_of("llama", **extra)
    with pytest.warns(
        UserWarning, match=r"has 2 tensors that are not used, such as 'model\.layers\.2"
    ) as heard:
        build(config, tensors)
    assert len(heard) == 1


def test_what_says_nothing_of_its_own_is_passed_over(recwarn):
    config, tensors = tensors_of(
        "llama tied", **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    )
    build(config, {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    assert not recwarn.list


def test_a_head_of_its_own_under_a_tied_config_is_an_error():
    config, tensors = tensors_of("llama tied")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    with pytest.raises(
        ValueError,
        match=r"ties the output matrix to the embedding, the checkpoint has another lm_head\.weight",
    ):
        build(config, tensors)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.uint8, torch.float8_e4m3fn])
def test_numbers_that_are_no_floats_are_refused_as_quantised(dtype):
    config, tensors = tensors_of("llama")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(dtype)
    with pytest.raises(ValueError, match=f"is quantised: '{name}' is stored as {str(dtype)[6:]}"):
        build(config, tensors)


@pytest.mark.parametrize("name", CONFIGS)
def test_names_without_the_base_prefix_load(name):
    config, tensors = tensors_of(name)
    bare = {key.removeprefix("model."): tensor for key, tensor in tensors.items()}
    ours, theirs = build(config, bare).state_dict(), build(config, tensors).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
