"""Who takes part: the course, transformers, and the rivals, with formats and environments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.rivals.environments import folder, python_of
from benchmarks.rivals.models import located
from benchmarks.rivals.process import Rival, RivalFailed

FORMATS = ("fp32", "bf16", "int8", "int4")


@dataclass(frozen=True)
class Contender:
    """One engine: its title in the table, its adapter, and which model it reads in which format."""

    title: str
    adapter: str
    models: dict[str, str]
    environment: str | None = None
    """Name of a file of pins; None for the environment that runs the benchmark."""


SAFE = "safetensors"
OPENVINO = {
    "fp32": "openvino-fp32",
    "bf16": "openvino-fp32",
    "int8": "openvino-int8",
    "int4": "openvino-int4",
}
GGUF = {"fp32": "f32.gguf", "bf16": "f16.gguf", "int8": "q8_0.gguf", "int4": "q4_1.gguf"}
CONTENDERS = {
    "transformers": Contender("transformers", "transformers", {"fp32": SAFE, "bf16": SAFE}),
    "ours": Contender("the course", "ours", dict.fromkeys(FORMATS, SAFE)),
    "vllm-cpu": Contender("vLLM, CPU backend", "vllm", {"fp32": SAFE, "bf16": SAFE}, "vllm"),
    "openvino-genai": Contender("OpenVINO GenAI", "openvino", OPENVINO, "openvino"),
    "ctranslate2": Contender(
        "CTranslate2", "ctranslate2", dict.fromkeys(("fp32", "bf16", "int8"), "ctranslate2"), "ctranslate2"
    ),
    "onnxruntime-genai": Contender(
        "onnxruntime-genai", "onnxruntime", {"fp32": "onnx-fp32", "int4": "onnx-int4"}, "onnxruntime"
    ),
    "llama.cpp": Contender("llama.cpp", "llama_cpp", GGUF, "llama"),
}
"""In the order in which they take turns; transformers first: others are compared with its answers."""


SERVERS = ("ours", "vllm-cpu", "llama.cpp")
"""Contenders that have an HTTP server of their own."""


def start(
    name: str, format: str, threads: int, left: Callable[[], float | None] = lambda: None
) -> tuple[Rival, dict[str, str]]:
    """Return a contender's process, loaded and warm, and the versions that compute there.

    Raise RivalFailed, with the reason, where it cannot be installed, converted, loaded or run in this format,
    OutOfTime when loading takes more than the seconds that are `left`.
    """
    rival, versions = _begun(name, format, threads, "load", left)
    try:
        rival.ask("warm_up", left())
    except BaseException:
        rival.close()
        raise
    return rival, versions


def start_server(
    name: str, format: str, threads: int, left: Callable[[], float | None] = lambda: None
) -> tuple[Rival, dict[str, str], str]:
    """Return a contender's process, the versions that compute there, and its server's address.

    Raise as `start` does.
    """
    rival, url = _begun(name, format, threads, "listen", left)
    try:
        return rival, rival.ask("versions", left()), url
    except BaseException:
        rival.close()
        raise


def _begun(
    name: str, format: str, threads: int, call: str, left: Callable[[], float | None]
) -> tuple[Rival, Any]:
    """Return a contender's process that has loaded the model by this call, and what the call returned."""
    contender = CONTENDERS[name]
    if format not in contender.models:
        raise RivalFailed("has no such format")
    python = python_of(contender.environment) if contender.environment else sys.executable
    model = str(located(contender.models[format]))
    command = [python, "-m", f"benchmarks.rivals.adapters.{contender.adapter}"]
    rival = Rival(command, folder() / "logs" / f"{name}-{format}-{call}.txt", threads)
    try:
        return rival, rival.ask(call, left(), model=model, format=format, threads=threads)
    except BaseException:
        rival.close()
        raise
