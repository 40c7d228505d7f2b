"""Tiny quantised checkpoints in every layout that is read, packed number by number; and the numbers behind them."""

import json

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

SIZES = dict(
    vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128,
)  # fmt: skip
GROUP = 32
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def config_of(kind):
    """A config whose q, k and v have biases (Qwen2), or not."""
    return Qwen2Config(**SIZES) if kind == "qwen2" else LlamaConfig(**SIZES)


def words(numbers, bits, order=None):
    """Rows of whole numbers in int32 words, one after the other from the lowest bits."""
    per = 32 // bits
    rows = []
    for row in numbers.tolist():
        packed = []
        for at in range(0, len(row), per):
            part = row[at : at + per]
            part = part if order is None else [part[i] for i in order]
            word = sum(int(v) << (bits * i) for i, v in enumerate(part))
            packed.append(word - (1 << 32) if word >> 31 else word)
        rows.append(packed)
    return torch.tensor(rows, dtype=torch.int32)


def grouped(weight, bits, groups, symmetric=False):
    """Codes from 0, scales and zero points `[rows, groups]`, and the numbers behind the codes."""
    parts = weight.view(len(weight), groups, -1)
    if symmetric:
        scale = (parts.abs().amax(-1) / (2 ** (bits - 1) - 1)).half().float()
        zero = torch.full_like(scale, 2 ** (bits - 1))
    else:
        low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
        scale = ((high - low) / (2**bits - 1)).half().float()
        zero = (-low / scale).round().clamp(1, 2**bits - 1)
    codes = (parts / scale[..., None] + zero[..., None]).round().clamp(0, 2**bits - 1)
    numbers = ((codes - zero[..., None]) * scale[..., None]).view(weight.shape)
    return codes.view(weight.shape).long(), scale, zero.long(), numbers


def awq(weight):
    codes, scale, zero, numbers = grouped(weight, 4, weight.shape[1] // GROUP)
    packed = {
        "qweight": words(codes.t(), 4, AWQ_ORDER), "qzeros": words(zero.t(), 4, AWQ_ORDER), "scales": scale.t().half(),
    }  # fmt: skip
    return packed, numbers


def gptq(weight, bits=4, shuffled=False):
    codes, scale, zero, numbers = grouped(weight, bits, weight.shape[1] // GROUP)
    group = torch.arange(weight.shape[1]) // GROUP
    if shuffled:
        order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(3))
        codes, numbers, group = codes[:, order], numbers[:, order], group[order]
    packed = {
        "qweight": words(codes, bits).t().contiguous(), "qzeros": words((zero - 1).t(), bits),
        "scales": scale.t().half(), "g_idx": group.int(),
    }  # fmt: skip
    return packed, numbers


def fp8(weight):
    rows, columns = weight.shape
    down, across = -(-rows // GROUP), -(-columns // GROUP)
    scale = torch.rand(down, across) + 0.5
    spread = torch.tensor([[scale[i // GROUP, j // GROUP] for j in range(columns)] for i in range(rows)])
    stored = (weight / spread).to(torch.float8_e4m3fn)
    return {"weight": stored, "weight_scale_inv": scale}, stored.float() * spread


def packed4(weight, symmetric=True):
    codes, scale, zero, numbers = grouped(weight, 4, weight.shape[1] // GROUP, symmetric)
    packed = {
        "weight_packed": words(codes, 4), "weight_scale": scale.half(), "weight_shape": torch.tensor(weight.shape),
    }  # fmt: skip
    if not symmetric:
        packed["weight_zero_point"] = words(zero.t(), 4).t().contiguous()
    return packed, numbers


def int8(weight):
    codes, scale, _, numbers = grouped(weight, 8, 1, symmetric=True)
    return {"weight": (codes - 128).to(torch.int8), "weight_scale": scale}, numbers


def float8(weight):
    scale = weight.abs().amax(1, keepdim=True) / 448
    stored = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": stored, "weight_scale": scale}, stored.float() * scale


def slim(weight, offset=0.0):
    packed, numbers = int8(weight)
    scale = packed["weight_scale"]
    packed["weight_offset"] = torch.full_like(scale, offset)
    return packed, numbers - offset * scale


def slim_static(weight, with_bias=True, half=False):
    packed, numbers = int8(weight)
    input_scale, input_offset = 0.04, -7
    combined = (packed["weight_scale"] * input_scale).flatten()
    correction = packed["weight"].long().sum(1) * input_offset
    bias = torch.linspace(-0.5, 0.5, len(weight)) * with_bias
    stored = {
        "weight": packed["weight"], "quant_bias": ((bias / combined).round() - correction).int(),
        "input_scale": torch.tensor([input_scale]), "input_offset": torch.tensor([float(input_offset)]),
        "deq_scale": combined.view(torch.int32).long() if half else combined,
    }  # fmt: skip
    return stored, numbers, (bias / combined).round() * combined


def compressed(form, bits, strategy, inputs=None, kind="int", symmetric=True):
    """compressed-tensors' part of a config."""
    args = {"num_bits": bits, "strategy": strategy, "symmetric": symmetric, "type": kind, "group_size": GROUP}
    group = {"targets": ["Linear"], "weights": args, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }


TOKEN = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
LAYOUTS = {
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True}),
    "gptq 4": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": GROUP}),
    "gptq 8": (lambda w: gptq(w, 8), {"quant_method": "gptq", "bits": 8, "group_size": GROUP}),
    "gptq by activity": (lambda w: gptq(w, shuffled=True), {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": True}),
    "fp8 blocks": (fp8, {"quant_method": "fp8", "weight_block_size": [GROUP, GROUP]}),
    "compressed int4": (packed4, compressed("pack-quantized", 4, "group")),
    "compressed int4, zero points": (lambda w: packed4(w, False), compressed("pack-quantized", 4, "group", symmetric=False)),
    "compressed int8": (int8, compressed("int-quantized", 8, "channel")),
    "compressed w8a8": (int8, compressed("int-quantized", 8, "channel", TOKEN)),
    "compressed fp8": (float8, compressed("float-quantized", 8, "channel", kind="float")),
    "slim W8A16": (lambda w: slim(w, 3.0), None),
    "slim W8A8_DYNAMIC": (slim, None),
    "slim W8A8": (slim_static, None),
    "slim W8A8 in fp16": (lambda w, with_bias: slim_static(w, with_bias, half=True), None),
}  # fmt: skip


def write(folder, layout, seed=0, kept=()):
    """Write a checkpoint; return its config and the numbers behind it, a state for `build`.

    Modules whose names hold a word of `kept` stay plain.
    """
    pack, fields = LAYOUTS[layout]
    static = layout.startswith("slim W8A8") and "DYNAMIC" not in layout
    config = config_of("qwen2" if static else "llama")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    stored, numbers, kinds = {}, {}, {"model_quant_type": layout}
    state = {name: (t + torch.randn_like(t) * 0.1).half().float() for name, t in model.state_dict().items()}
    for name, tensor in state.items():
        module, _, last = name.rpartition(".")
        if not module.endswith("proj") or any(word in module for word in kept):
            stored[name] = numbers[name] = tensor
            kinds[name] = "FLOAT"
        elif last == "weight":
            parts, numbers[name], *bias = pack(tensor, f"{module}.bias" in state) if static else pack(tensor)
            stored |= {f"{module}.{key}": value.contiguous() for key, value in parts.items()}
            kinds |= {f"{module}.{key}": layout.split()[-1 if "fp16" not in layout else 1] for key in parts}
            if bias and f"{module}.bias" in state:  # told by quant_bias alone
                numbers[f"{module}.bias"] = bias[0]
    saved = config.to_dict() | ({"quantization_config": fields} if fields else {})
    (folder / "config.json").write_text(json.dumps(saved))
    save_file(stored, folder / ("model.safetensors" if fields else "quant_model_weights.safetensors"))
    if not fields:
        (folder / "quant_model_description.json").write_text(json.dumps(kinds))
    return config, numbers
