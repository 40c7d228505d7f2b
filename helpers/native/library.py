"""The C++ kernels: compiled by this machine's own compiler at first use, and kept in the cache folder.

`COURSE_NATIVE=0` turns the kernels off. Without a compiler, plain torch computes the same.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from helpers.storage.compiled import compile_into, compiler, kept
from helpers.storage.files import CacheError, cache_folder

_SOURCES = Path(__file__).with_name("sources")
_OPTIMISED = ("-O3", "-march=native")
# No -ffast-math, and no fusing of products and sums but where the source says so: a NaN stays a NaN, and a sum
# has the same bits in each of the loops that a compiler makes of one line.
_FLAGS = ("-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-shared", "-fPIC")


class Kernels(NamedTuple):
    """The compiled kernels, or the reason why there are none."""

    functions: ctypes.CDLL | None
    reason: str
    build: str = ""
    """A name that changes with the sources, the compiler's flags, the processor and torch."""


@functools.cache
def kernels() -> Kernels:
    """Return the kernels, compiled when they are not in the cache folder yet (seconds, once)."""
    if os.environ.get("COURSE_NATIVE", "").strip() == "0":
        return Kernels(None, "off (COURSE_NATIVE=0)")
    try:
        path = built()
        functions = ctypes.CDLL(str(path))
        reason = f"compiled, {functions.vector_width()} numbers in a register"
        return Kernels(functions, reason, path.parent.name)
    except (RuntimeError, CacheError, OSError) as error:
        return Kernels(None, f"none: {str(error).splitlines()[0]}; plain torch computes instead")


def usable() -> ctypes.CDLL | None:
    """Return the kernels, or None where there are none, and while torch's profiler records.

    A profile shows torch's operators, and the kernels are none of these: under the profiler plain torch computes,
    so that a profile is the same on every machine.
    """
    return None if torch._C._autograd._profiler_enabled() else kernels().functions


def built(flags: tuple[str, ...] = _OPTIMISED) -> Path:
    """Return the shared library, made with these flags for this processor if need be.

    Raises RuntimeError when there is no compiler or when the compiler fails, CacheError when the library
    cannot be kept.
    """
    command = [compiler("CXX", ("g++", "clang++", "c++"), "the native kernels need"), *flags, *_FLAGS]
    folder = kept(
        cache_folder() / "native" / _key(command),
        lambda made: compile_into(made / "kernels.so", [*command, _SOURCES / "kernels.cpp", *_openmp()]),
    )
    return folder / "kernels.so"


def _key(command: list[str]) -> str:
    """Return a name that changes with what a build depends on: sources, command, processor, torch."""
    digest = hashlib.sha256()
    for source in sorted(_SOURCES.iterdir()):
        digest.update(source.read_bytes())
    digest.update(" ".join([*command, processor(), torch.__version__, torch.__file__]).encode())
    return digest.hexdigest()[:16]


@functools.cache
def processor() -> str:
    """Return a text that names this processor and its instructions, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    told = {line.split(":")[0].strip(): line for line in lines if line.startswith(wanted)}
    return " ".join([platform.machine(), *told.values()])


def _openmp() -> list[str]:
    """Return the linker's words for torch's own OpenMP: two pools of threads would fight for the cores."""
    folder = Path(torch.__file__).parent / "lib"
    if sys.platform == "darwin":
        return ["-Xclang", "-fopenmp", f"-L{folder}", "-lomp", f"-Wl,-rpath,{folder}"]
    own = next((path for path in sorted(folder.glob("lib*omp*.so*"))), None)
    return ["-fopenmp", *([f"-L{folder}", f"-l:{own.name}", f"-Wl,-rpath,{folder}"] if own else [])]
