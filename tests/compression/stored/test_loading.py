"""A quantised folder loads as a model of the course: its logits are those of the numbers behind its codes."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.caches import PagedKVCache
from helpers.compression import QuantisedLinear, load_quantised, matrices
from helpers.model import FlatBatch, build, generate
from tests.compression.stored.folders import LAYOUTS, write

BATCH = FlatBatch.pack([[5, 96, 3, 3, 41, 12, 17], [9, 8, 7]])
KEPT = ("gptq by activity", "fp8 blocks", "compressed fp8")
"""Layouts without a packed product."""


def packed_modules(model):
    return [module for module in model.modules() if isinstance(module, QuantisedLinear)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_are_those_of_the_numbers_behind_the_codes(layout, tmp_path):
    """Packed weights agree to fp32's rounding; int8 activations move logits by a few hundredths of the largest."""
    config, numbers = write(tmp_path, layout)
    want = build(config, numbers)(BATCH, logits="all")
    plain, model = load_quantised(tmp_path, packed=False), load_quantised(tmp_path)
    torch.testing.assert_close(plain(BATCH, logits="all"), want, atol=1e-4, rtol=1e-4)
    got = model(BATCH, logits="all")
    activations = layout == "compressed w8a8" or layout.startswith("slim W8A8")
    if activations:
        difference = (got - want).abs().max() / want.abs().max()
        assert 1e-5 < difference < 0.05
    else:
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    assert not packed_modules(plain)
    assert bool(packed_modules(model)) == (layout not in KEPT)


def test_a_loaded_model_serves_from_pages_in_bf16(tmp_path):
    write(tmp_path, "gptq 4")
    model = load_quantised(tmp_path, torch.bfloat16)
    answer = generate(model, [5, 4, 3], 6, PagedKVCache.for_model(model, 4))
    assert len(answer.token_ids) == 6
    assert len(list(matrices(model))) == 1, "the head is as it was"


def test_parts_that_share_an_input_stay_apart_where_one_is_plain(tmp_path):
    """q, k and v share a matrix: where v is FLOAT, that matrix is made of numbers."""
    config, numbers = write(tmp_path, "slim W8A8_DYNAMIC", kept=("v_proj", "lm_head"))
    model = load_quantised(tmp_path)
    assert not isinstance(model.layers[0].attn.qkv_proj, QuantisedLinear)
    assert len(packed_modules(model)) == 6
    want = build(config, numbers)(BATCH, logits="all")
    assert (model(BATCH, logits="all") - want).abs().max() < 0.05 * want.abs().max()


def test_a_bias_that_the_model_lacks_is_not_dropped(tmp_path):
    write(tmp_path, "slim W8A8")
    path = tmp_path / "quant_model_weights.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.down_proj.quant_bias"] += 9
    save_file(tensors, path)
    with pytest.raises(
        ValueError, match=r"bias 'model\.layers\.0\.mlp\.down_proj\.bias', which this model does not"
    ):
        load_quantised(tmp_path)


def changed(folder, **fields):
    """Change the quantization_config of a folder."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] |= fields
    path.write_text(json.dumps(config))


def lost(folder, ending):
    """Leave tensors out of a folder's file."""
    path = next(folder.glob("*.safetensors"))
    save_file({name: t for name, t in load_file(path).items() if not name.endswith(ending)}, path)


def retyped(folder, ending):
    """Store float8 tensors as int8."""
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    eight = [n for n, t in tensors.items() if n.endswith(ending) and t.dtype == torch.float8_e4m3fn]
    save_file(tensors | {n: tensors[n].view(torch.int8) for n in eight}, path)


@pytest.mark.parametrize(
    ("layout", "spoil", "words"),
    [
        ("awq", lambda f: changed(f, bits=8), "4 bits and version 'gemm' alone"),
        ("awq", lambda f: changed(f, version="gemv"), "4 bits and version 'gemm' alone"),
        ("awq", lambda f: lost(f, "layers.1.mlp.up_proj.qzeros"), r"model.layers.1.mlp.up_proj is quantised in another"),
        ("gptq 4", lambda f: changed(f, bits=3), "2, 4 or 8 bits, got 3"),
        ("fp8 blocks", lambda f: changed(f, quant_method="quip"), "'quip', which is not read"),
        ("compressed int4", lambda f: changed(f, format="marlin-24"), "'marlin-24' with 4 bits is not read"),
        ("compressed int4", lambda f: changed(f, config_groups={}), "no group of quantization_config names"),
        ("slim W8A16", lambda f: lost(f, "weight_offset"), "is quantised in another way"),
        ("slim W8A16", lambda f: (f / "quant_model_description.json").write_text("[]"), "is JSON, but no table of fields"),
        ("compressed int4", lambda f: changed(f, config_groups={"group_0": {"targets": ["Linear"], "weights": None}}), "is quantised in another"),
        ("fp8 blocks", lambda f: retyped(f, "weight"), "is torch.int8, not torch.float8_e4m3fn"),
        ("slim W8A16", lambda f: (f / "quant_model_weights.safetensors").unlink(), "holds no quant_model_weights"),
        ("slim W8A16", lambda f: (f / "quant_model_weights.safetensors").write_bytes(b"no"), "is damaged"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(layout, spoil, words, tmp_path):
    write(tmp_path, layout)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=words):
        load_quantised(tmp_path)


def test_a_plain_folder_and_an_unknown_kind_are_refused(tmp_path):
    write(tmp_path, "slim W8A16")
    path = tmp_path / "quant_model_description.json"
    path.write_text(path.read_text().replace("W8A16", "W4A4_DYNAMIC"))
    with pytest.raises(ValueError, match="'W4A4_DYNAMIC' is not read"):
        load_quantised(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="holds no quantised checkpoint"):
        load_quantised(tmp_path)
