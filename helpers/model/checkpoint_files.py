"""A checkpoint folder's tensors: which files hold them, whether all are there and whole, and under which
names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PLAIN, _BASE = "embed_tokens.weight", "model."

T = TypeVar("T")


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a checkpoint folder by their Hugging Face names.

    A folder with one file and an index gives the one file, as in `transformers`. Raises ValueError, naming
    the file, for a file that is missing or damaged. Raises ValueError, naming the tensor, for a tensor that
    the index promises and no file holds.
    """
    promised = _promised(folder)
    files = sorted(set(promised.values())) or [_SINGLE]
    _require(folder, files, indexed=bool(promised))
    tensors: dict[str, torch.Tensor] = {}
    for name in files:
        try:
            tensors |= load_file(folder / name)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{folder / name} is damaged ({error}); fetch the checkpoint again") from error
    gone = [name for name in promised if name not in tensors]
    if gone:
        raise ValueError(
            f"{promised[gone[0]]} lacks the tensor {gone[0]!r}, which {_INDEX} promises; {len(gone)} in all"
        )
    return with_base(tensors)


def stored_bytes(folder: Path | str) -> int:
    """Return the bytes of all tensors of a checkpoint folder, whatever their type, from the heads of its files.

    Nothing is loaded. Errors as in `read_tensors`, but for tensors that an index promises.
    """
    return sum(_data_bytes(path) for path in files_of(Path(folder)))


def files_of(folder: Path) -> list[Path]:
    """Return the files that hold a checkpoint folder's tensors; raise ValueError, naming it, for a missing one."""
    promised = _promised(folder)
    files = sorted(set(promised.values())) or [_SINGLE]
    _require(folder, files, indexed=bool(promised))
    return [folder / name for name in files]


def _data_bytes(path: Path) -> int:
    """Return the bytes of one file's tensors: all after eight bytes of length and a head of that length."""
    with path.open("rb") as file:
        head = int.from_bytes(file.read(8), "little")
    size = path.stat().st_size - 8 - head
    if size < 0:
        raise ValueError(f"{path} is damaged (shorter than its head says); fetch the checkpoint again")
    return size


def with_base(tensors: Mapping[str, T]) -> dict[str, T]:
    """Return tensors, or what stands for them, under the names of a causal model.

    A checkpoint saved from the base class leaves out `model.`.
    """
    if _PLAIN not in tensors or _BASE + _PLAIN in tensors:
        return dict(tensors)
    return {name if name.startswith("lm_head.") else _BASE + name: tensor for name, tensor in tensors.items()}


def _promised(folder: Path) -> dict[str, str]:
    """Return the index: for each tensor, its file.

    Empty where one file has the usual name, or there is no index.
    """
    path = folder / _INDEX
    if (folder / _SINGLE).exists() or not path.exists():
        return {}
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); fetch the checkpoint again") from error
    if not isinstance(files, dict) or not files:
        raise ValueError(f"{path} is damaged: its weight_map names no file")
    strange = [name for name in files.values() if not isinstance(name, str) or Path(name).name != name]
    if strange:
        raise ValueError(f"{path} names {str(strange[0])[:80]!r}, which is no file of that folder")
    return files


def _require(folder: Path, files: list[str], indexed: bool) -> None:
    """Raise ValueError, naming them, for files that are not in the folder."""
    missing = [name for name in files if not (folder / name).is_file()]
    if not missing:
        return
    if not indexed:
        raise ValueError(f"{folder} holds no {missing[0]}; the course reads checkpoints in safetensors only")
    more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
    raise ValueError(
        f"{folder} lacks {', '.join(missing[:4])}{more}, of the {len(files)} files "
        f"that {_INDEX} names; fetch them again"
    )
