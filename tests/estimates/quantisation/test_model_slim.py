"""ModelSlim's description: the bytes of a file that is written as ModelSlim's saver writes it, tensor by tensor."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from helpers.estimates import SizedModel, UnknownScheme, model_slim_bytes
from helpers.model import config_from_file
from tests.families import FAMILIES

F32, I8, I32, I64, U8, F8 = (
    torch.float32,
    torch.int8,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.float8_e4m3fn,
)


def beside(kind, rows, columns, last, bf16, group=0):
    """The tensors of one packed matrix in the format AscendV1, as types and sides: from ModelSlim's documentation."""
    scale = {"weight_scale": (F32, rows, -(-columns // group) if group else 1)}
    offset = {"weight_offset": scale["weight_scale"]}
    static = {
        "quant_bias": (I32, rows),
        "deq_scale": (F32 if bf16 else I64, rows),
        "input_scale": (F32, 1),
        "input_offset": (F32, 1),
    }
    slices = 16 if last in ("o_proj", "down_proj") else 1
    blocks = {"weight_scale": (U8, rows, -(-columns // 32))}
    return {
        "W8A8": {"weight": (I8, rows, columns), **static},
        "W8A8_MIX": {"weight": (I8, rows, columns), **static, **scale, **offset},
        "W8A8_DYNAMIC": {"weight": (I8, rows, columns), **scale, **offset},
        "W8A16": {"weight": (I8, rows, columns), **scale, **offset},
        "WFP8AFP8_DYNAMIC": {"weight": (F8, rows, columns), **scale, **offset},
        "W4A8_DYNAMIC": {"weight": (I8, rows // 2, columns), **scale, **offset, "scale_bias": (F32, rows, slices)},
        "W8A8_MXFP8": {"weight": (F8, rows, columns), **blocks},
        "W4A8_MXFP": {"weight": (U8, rows, columns // 2), **blocks},
        "W4A4_MXFP4": {"weight": (U8, rows, columns // 2), **blocks},
    }[kind]  # fmt: skip


def written(folder, config, kind, group=0):
    """Write a checkpoint and its description as ModelSlim does; return the bytes of its tensors."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    bf16 = config.dtype == torch.bfloat16
    tensors, kinds = {}, {"version": "1.0.0", "model_quant_type": kind, "group_size": group, "metadata": {}}
    for name, p in model.named_parameters():
        module, _, own = name.rpartition(".")
        last = module.split(".")[-1]
        packed = last.endswith("_proj")
        if packed and own == "weight":
            found = beside(kind, *p.shape, last, bf16, group)
        else:
            found = {own: (F32 if packed else config.dtype, *p.shape)}
        for part, (dtype, *sides) in found.items():
            tensors[f"{module}.{part}"] = torch.zeros(sides, dtype=dtype)
            kinds[f"{module}.{part}"] = kind if packed and part != "bias" else "FLOAT"
    save_file(tensors, folder / "quant_model_weights.safetensors")
    (folder / "quant_model_description.json").write_text(json.dumps(kinds))
    return sum(tensor.nbytes for tensor in tensors.values())


KINDS = (
    "W8A8",
    "W8A8_MIX",
    "W8A8_DYNAMIC",
    "W8A16",
    "WFP8AFP8_DYNAMIC",
    "W4A8_DYNAMIC",
    "W8A8_MXFP8",
    "W4A8_MXFP",
    "W4A4_MXFP4",
)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_description_gives_the_bytes_of_the_files_tensors(tmp_path, kind, dtype):
    config = FAMILIES["qwen2"]()  # with biases
    config.dtype = dtype
    stored = written(tmp_path, config, kind)
    assert model_slim_bytes(config, tmp_path / "quant_model_description.json") == stored


def test_scales_by_groups_are_counted(tmp_path):
    config = FAMILIES["llama"]()
    config.dtype = torch.bfloat16
    stored = written(tmp_path, config, "W8A16", group=16)
    assert model_slim_bytes(config, tmp_path / "quant_model_description.json") == stored


@pytest.mark.parametrize("silent", [True, False])
def test_a_folder_is_sized_by_its_description(tmp_path, silent):
    """ModelSlim writes config.json as it was; what that file says itself comes first."""
    config = FAMILIES["llama"]()
    config.dtype = torch.bfloat16
    stored = written(tmp_path, config, "W8A8_DYNAMIC")
    config.save_pretrained(tmp_path)
    whole = SizedModel.of(config).weights
    assert SizedModel.of(config_from_file(tmp_path)).weights == stored < 0.8 * whole
    assert SizedModel.of(config_from_file(tmp_path), "bf16").weights == whole
    if not silent:
        config.quantization_config = {"quant_method": "fp8", "weight_block_size": [8, 8]}
        config.save_pretrained(tmp_path)
        assert SizedModel.of(config_from_file(tmp_path)).weights == SizedModel.of(config).weights


@pytest.mark.parametrize("text", ["{", "[1]", '"W8A8"', "[" * 100_000])
def test_a_folder_whose_description_is_damaged_is_refused(tmp_path, text):
    FAMILIES["llama"]().save_pretrained(tmp_path)
    (tmp_path / "quant_model_description.json").write_text(text)
    with pytest.raises(ValueError, match=r"^quant_model_description\.json .{0,150}$"):
        config_from_file(tmp_path)


def packed(config, kind="W8A8_DYNAMIC"):
    """A description that names weights alone."""
    with torch.device("meta"):
        names = [n for n, _ in AutoModelForCausalLM.from_config(config).named_parameters()]
    return {name: kind if "_proj" in name else "FLOAT" for name in names}


def test_what_stands_beside_a_weight_follows_from_its_type(tmp_path):
    config = FAMILIES["llama"]()
    config.dtype = torch.bfloat16
    assert model_slim_bytes(config, packed(config)) == written(tmp_path, config, "W8A8_DYNAMIC")
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(config).num_parameters()
    assert model_slim_bytes(config, {}) == 2 * whole, "what is not named stays as it is"


def test_experts_are_named_one_by_one(tmp_path):
    config = FAMILIES["qwen3-moe"]()
    config.dtype = torch.bfloat16
    one = {"model.layers.0.mlp.experts.3.up_proj.weight": "W8A8_DYNAMIC"}
    saved = 64 * 16 * (2 - 1) - 2 * 4 * 16
    assert model_slim_bytes(config, {}) - model_slim_bytes(config, one) == saved


def test_scales_of_an_older_file_and_biases_of_smoothed_norms_are_counted():
    config = FAMILIES["llama"]()
    config.dtype = torch.bfloat16
    plain = packed(config, "W8A8")
    q_proj, norm = "model.layers.0.self_attn.q_proj", "model.layers.0.input_layernorm"
    more = {f"{q_proj}.weight_scale": "W8A8", f"{q_proj}.weight_offset": "W8A8", f"{norm}.bias": "FLOAT"}
    assert (
        model_slim_bytes(config, {**plain, **more}) - model_slim_bytes(config, plain) == 2 * 4 * 64 + 2 * 64
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"model.layers.0.self_attn.q_proj.weight": "W4A4_DYNAMIC"}, r"as 'W4A4_DYNAMIC' \(model.layers.0.self_attn.q_proj\)"),
        ({"model.layers.0.self_attn.q_proj.weight": ["W8A8"]}, r"as \"\['W8A8'\]\""),
        ({"model.embed_tokens.weight": "W8A8"}, r"as 'W8A8' \(model.embed_tokens\)"),
        ({"model.layers.0.self_attn.k_proj.kv_cache_scale": "W8A8"}, r"layers\.0\.self_attn\.k_proj\.kv_cache_scale is not known"),
        ({"model.layers.9.self_attn.q_proj.weight": "W8A8"}, "model.layers.9.self_attn.q_proj.weight is not one of this model"),
        ({"group_size": "many"}, "its group_size is 'many', no number"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_named(more, words):
    config = FAMILIES["llama"]()
    with pytest.raises(UnknownScheme, match=words) as refusal:
        model_slim_bytes(config, {**packed(config), **more})
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("text", "words"), [("[1]", "no description of quantised tensors"), ("{", "cannot be read"), (None, "cannot be read")]
)  # fmt: skip
def test_a_file_that_is_no_description_is_named(tmp_path, text, words):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UnknownScheme, match=rf"^x\.json .*{words}|^x\.json is {words}"):
        model_slim_bytes(FAMILIES["llama"](), path)
