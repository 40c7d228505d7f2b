"""A folder with a quantised checkpoint, loaded as a model that the whole course can use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from helpers.compression.coded_product import product_of, whole_product_of
from helpers.compression.editing import replaced
from helpers.compression.layers import QuantisedLinear
from helpers.compression.products import Product
from helpers.compression.stored import layouts
from helpers.compression.stored.matrix import StoredMatrix, stacked
from helpers.estimates.quantisation.config_fields import format_of, group_number, groups, quantisation_fields
from helpers.model.checkpoint_files import read_tensors
from helpers.model.config import DecoderConfig
from helpers.model.decoder import DecoderLM, Linear
from helpers.model.meta_model import checked, config_from_file
from helpers.model.native_passes.native_passes import NativePasses
from helpers.model.weights import build, sources

DESCRIPTION = "quant_model_description.json"
_MARKS = ("qweight", "weight_packed", "weight_scale", "weight_scale_inv", "deq_scale")
"""Last names of tensors that only a quantised matrix has."""


def load_quantised(
    folder: Path | str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    packed: bool = True,
) -> DecoderLM:
    """Return the model of a folder in AWQ, GPTQ, FP8, compressed-tensors or ModelSlim layout, in `dtype`.

    Codes stay packed where the device has a product for them, and int8 activations are used where the
    checkpoint asks for them; each token then has a scale of its own, also where the checkpoint stores a fixed
    one. `packed=False` multiplies by the numbers behind the codes instead. Raises ValueError, naming module or
    field, for a layout that is not read and for tensors that are missing. Code in the folder never runs.
    """
    folder = Path(folder)
    config = config_from_file(folder)
    checked(config)
    tensors, decode_of = _opened(folder, config)
    matrices, plain = _decoded(tensors, decode_of)
    if hasattr(config, "quantization_config"):  # what is left is plain, and `build` asks for such
        del config.quantization_config
    cfg = DecoderConfig.from_hf(config)
    plain |= {f"{name}.weight": matrix.numbers for name, matrix in matrices.items()}
    model = build(config, plain | _biases(matrices, cfg, plain), dtype).to(device)
    return _packed(model, matrices, cfg) if packed else model


_DAMAGE = (KeyError, RuntimeError, IndexError, ValueError, TypeError, AttributeError)
"""What tensors and fields of another kind than a layout's raise."""


def _opened(folder: Path, config: Any) -> tuple[dict[str, Tensor], Callable[[str], layouts.Decode]]:
    """Return a folder's tensors, and the function that gives the reader of a module's matrix."""
    if (folder / DESCRIPTION).exists():
        kinds = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return _slim_tensors(folder), lambda name: layouts.model_slim(str(kinds.get(f"{name}.weight")))
    if not hasattr(config, "quantization_config"):
        raise ValueError(f"{folder} holds no quantised checkpoint: no quantization_config, no {DESCRIPTION}")
    fields = quantisation_fields(config)
    method = str(fields.get("quant_method"))
    makers = {"awq": layouts.awq, "gptq": layouts.gptq, "fp8": layouts.fp8}
    if method in makers:
        decode = makers[method](fields)
        return read_tensors(folder), lambda name: decode
    if method != "compressed-tensors":
        raise ValueError(f"quantised as {method[:40]!r}, which is not read; {', '.join(makers)} and "
                         "compressed-tensors are")  # fmt: skip
    return read_tensors(folder), lambda name: _compressed_of(name, fields)


def _compressed_of(name: str, fields: Mapping[str, Any]) -> layouts.Decode:
    """Return the reader of the group of compressed-tensors that names a module."""
    own = group_number(name, fields)
    if own is None:
        raise ValueError(f"no group of quantization_config names {name!r}")
    group = groups(fields)[own]
    return layouts.compressed(group, format_of(group, fields))


def _slim_tensors(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a ModelSlim folder, in one file or several."""
    files = sorted(folder.glob("quant_model_weight*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no quant_model_weights.safetensors beside {DESCRIPTION}")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is damaged ({error}); fetch the checkpoint again") from error
    return tensors


def _decoded(
    tensors: Mapping[str, Tensor], decode_of: Callable[[str], layouts.Decode]
) -> tuple[dict[str, StoredMatrix], dict[str, Tensor]]:
    """Return the quantised matrices by module name, and the tensors that are plain."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, last = name.rpartition(".")
        parts.setdefault(module, {})[last] = tensor
    matrices = {}
    plain: dict[str, Tensor] = {}
    for module, own in parts.items():
        if not any(mark in own for mark in _MARKS):
            plain |= {f"{module}.{last}" if module else last: tensor for last, tensor in own.items()}
            continue
        try:
            matrices[module] = decode_of(module)(own)
        except _DAMAGE as error:
            raise ValueError(
                f"{module} is quantised in another way than its config says: {error}"[:190]
            ) from error
        if "bias" in own:
            plain[f"{module}.bias"] = own["bias"]
    return matrices, plain


def _biases(
    matrices: Mapping[str, StoredMatrix], cfg: DecoderConfig, plain: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the biases that only codes' tensors tell, where the model has biases there."""
    wanted = {name for parts in sources(cfg).values() for name in parts if name.endswith(".bias")}
    found = {
        f"{name}.bias": matrix.bias
        for name, matrix in matrices.items()
        if matrix.bias is not None and f"{name}.bias" not in plain
    }
    lost = [name for name, bias in found.items() if name not in wanted and bias.any()]
    if lost:
        raise ValueError(f"the checkpoint's codes tell a bias {lost[0]!r}, which this model does not have")
    return {name: bias for name, bias in found.items() if name in wanted}


@torch.no_grad()
def _packed(model: DecoderLM, matrices: Mapping[str, StoredMatrix], cfg: DecoderConfig) -> DecoderLM:
    """Return the model with packed codes in place of the matrices that a product takes packed."""
    parts_of, like = sources(cfg), model.norm.new_empty(0)

    def replace(name: str, linear: Linear) -> nn.Module:
        names = [part.removesuffix(".weight") for part in parts_of[f"{name}.weight"]]
        parts = [matrices[part] for part in names if part in matrices]
        quantised = stacked(parts) if len(parts) == len(names) else None
        if quantised is None:
            return linear
        asks = all(part.activations for part in parts)
        product: Product = (whole_product_of if asks else product_of)(quantised, like)
        return QuantisedLinear(product.to(like.device), None if linear.bias is None else linear.bias.data)

    twin = replaced(model, replace)
    twin.native_passes = NativePasses.of(twin)
    return twin
