"""The course's model in each rival's own format, converted once and kept in the cache folder.

All come from the same weights: the fp32 safetensors that the course itself loads, an expanded Q4_1. So Q4_1 loses
nothing, and where a rival's tokens differ in fp32, that is because of how it computes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, dequantize, quantize

from benchmarks.rivals.environments import folder, python_of
from benchmarks.rivals.process import RivalFailed
from helpers.model import checkpoint
from helpers.storage import smollm2

FILE_TYPES = {
    GGMLQuantizationType.F32: 0,
    GGMLQuantizationType.F16: 1,
    GGMLQuantizationType.Q8_0: 7,
}
"""What a GGUF file says of itself, by the type of its matrices."""


def located(kind: str) -> Path:
    """Return the model as this kind of file, converted if need be; RivalFailed where that fails."""
    if kind == "safetensors":
        return checkpoint.locate()
    if kind == "q4_1.gguf":
        return checkpoint.locate() / Path(smollm2.MEMBER).name
    target = folder() / "models" / kind
    if not target.exists():
        print(f"converting the model to {kind} (once) ...", flush=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{kind}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        CONVERSIONS[kind](unfinished)
        os.replace(unfinished, target)
    return target


def to_openvino(weights: str) -> Callable[[Path], None]:
    """Return what writes OpenVINO's own format; int4 in groups of 64, the largest that divide 576."""
    groups = ["--group-size", "64", "--ratio", "1.0"] if weights == "int4" else []

    def convert(target: Path) -> None:
        task = ["--task", "text-generation-with-past", "--weight-format", weights, *groups]
        _by_tool("optimum-cli", "export", "openvino", "--model", str(checkpoint.locate()), *task, str(target))

    return convert


def to_onnx(weights: str) -> Callable[[Path], None]:
    """Return what writes onnxruntime-genai's own format; int4 as the course has it: groups of 32, an int8 head."""
    options = [
        "block_size=32",
        "is_symmetric=false",
        "algo_config=rtn",
        "matmul_mixed_precision=last_matmul:int8",
    ]
    few = ["--extra_options", *options] if weights == "int4" else []

    def convert(target: Path) -> None:
        builder = [python_of("onnxruntime"), "-m", "onnxruntime_genai.models.builder"]
        paths = {"-i": checkpoint.locate(), "-o": target, "-c": folder() / "models" / ".onnx"}
        places = [str(word) for pair in paths.items() for word in pair]
        _run([*builder, *places, "-e", "cpu", "-p", weights, *few])

    return convert


def to_ctranslate2(target: Path) -> None:
    """Write CTranslate2's own format; it rounds to other types while loading."""
    _by_tool("ct2-transformers-converter", "--model", str(checkpoint.locate()), "--output_dir", str(target))


def to_gguf(matrices: GGMLQuantizationType) -> Callable[[Path], None]:
    """Return what writes the default model's GGUF file again, with its matrices in another type."""
    return lambda target: write_gguf(located("q4_1.gguf"), target, matrices)


def write_gguf(source: Path, target: Path, matrices: GGMLQuantizationType) -> None:
    """Write the GGUF file `source` again with other types: vectors stay fp32."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = FILE_TYPES[matrices] if name == "general.file_type" else field.contents()
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        wanted = tensor.tensor_type if tensor.tensor_type == GGMLQuantizationType.F32 else matrices
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(tensor.shape[::-1])
        writer.add_tensor(tensor.name, quantize(values, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


CONVERSIONS: dict[str, Callable[[Path], None]] = {
    "openvino-fp32": to_openvino("fp32"),
    "openvino-int8": to_openvino("int8"),
    "openvino-int4": to_openvino("int4"),
    "onnx-fp32": to_onnx("fp32"),
    "onnx-int4": to_onnx("int4"),
    "ctranslate2": to_ctranslate2,
    "f32.gguf": to_gguf(GGMLQuantizationType.F32),
    "f16.gguf": to_gguf(GGMLQuantizationType.F16),
    "q8_0.gguf": to_gguf(GGMLQuantizationType.Q8_0),
}


def _by_tool(tool: str, *words: str) -> None:
    """Run a tool of the environment `converters`; RivalFailed with its last words."""
    _run([str(Path(python_of("converters")).parent / tool), *words])


def _run(command: list[str]) -> None:
    """Run a command; RivalFailed with its last words."""
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        tool = command[2] if command[1] == "-m" else Path(command[0]).name
        raise RivalFailed(f"not converted: {tool} said: {said[-1][:200]}")
