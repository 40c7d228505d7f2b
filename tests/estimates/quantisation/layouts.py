"""Shared by the tests of quantisation: matrices to pack, tensors of a layout's own shapes, configs by form."""

import torch

from helpers.estimates import WeightShape

ROWS, COLUMNS = 96, 256
LINEAR = WeightShape("model.layers.3.mlp.down_proj", ROWS, COLUMNS, "linear", True)
EXPERT = WeightShape("model.layers.3.mlp.experts.7.up_proj", ROWS, COLUMNS, "expert", True)
HEAD = WeightShape("lm_head", ROWS, COLUMNS, "head", False)
NORM = WeightShape("model.norm", 1, COLUMNS, "other", False)
TOWER = WeightShape("model.visual.blocks.0.mlp.fc1", ROWS, COLUMNS, "linear", False)


def size(*tensors):
    """Bytes of tensors given as (type, sides ...)."""
    return sum(torch.empty(*sides, dtype=dtype, device="meta").nbytes for dtype, *sides in tensors)


def compressed(form, weights, **group):
    """A quantization_config as compressed-tensors writes it."""
    groups = {"group_0": {"targets": ["Linear"], "weights": {"type": "int", **weights}, **group}}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "ignore": ["lm_head"],
        "config_groups": groups,
    }


I32, F16, F32, I8, U8, F8, I64 = (torch.int32, torch.float16, torch.float32, torch.int8, torch.uint8, torch.float8_e4m3fn,
                                 torch.int64)  # fmt: skip
