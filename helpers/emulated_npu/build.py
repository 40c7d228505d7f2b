"""The stand-in for CANN's shared libraries: compiled once for an installed torch_npu and kept in the cache folder."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

from helpers.storage.compiled import compile_into, compiler, kept
from helpers.storage.files import cache_folder

_SOURCES = Path(__file__).with_name("cann")
# torch_npu's NEEDED entries are matched by SONAME, so each name needs its own file. The first holds the code; the
# others are empty and depend on it, so that a symbol looked up in any of them is found.
_LIBRARIES = (
    "libascendcl.so",
    "libhccl.so",
    "libhcomm.so",
    "libacl_op_compiler.so",
    "libge_runner.so",
    "libgraph.so",
    "libacl_tdt_channel.so",
    "libopapi.so",
    "libnnopbase.so",
)
_NAMES = "queries.txt"
_CANN_FOLDERS = ("runtime", "compiler", "opp", "lib64")
_JUMP = {
    "x86_64": "jmp *emu_slots+8*{slot}(%rip)",
    "aarch64": "adrp x16, emu_slots+8*{slot}\n ldr x16, [x16, :lo12:emu_slots+8*{slot}]\n br x16",
}
_ADDRESS = {
    "x86_64": "lea emu_slots(%rip), %rax\n ret",
    "aarch64": "adrp x0, emu_slots\n add x0, x0, :lo12:emu_slots\n ret",
}
_SIZE_SUFFIX = re.compile(rb"\0(aclnn[A-Z]\w*?Get(?:Max)?WorkspaceSize)(?=\0)")


class Libraries(NamedTuple):
    """A built stand-in: `paths` in the order of loading, and `queries`, the C functions whose jump slots are free.

    `queries[i]` (`aclnnXxxGetWorkspaceSize` or `...GetMaxWorkspaceSize`) jumps through slot `i`; every second
    phase (`aclnnXxx`) jumps through the slot after the last. `cann_home` is an empty tree in the shape of a
    CANN.
    """

    paths: list[Path]
    queries: list[str]
    cann_home: Path


def libraries() -> Libraries:
    """Return the stand-in for the torch_npu that is installed here, built when it is not in the cache yet.

    Raises RuntimeError when torch_npu, a C compiler or the platform is missing; the message says which.
    """
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in _JUMP:
        raise RuntimeError(
            f"the emulated NPU runs on Linux on {' or '.join(_JUMP)}, not on {platform.system()} {machine}"
        )
    torch_npu = _torch_npu_library()
    folder = kept(
        cache_folder() / "emulated_npu" / _key(torch_npu),
        lambda made: _compile(made, _queries(torch_npu), machine),
    )
    queries = (folder / _NAMES).read_text().split()
    return Libraries([folder / name for name in _LIBRARIES], queries, folder / "cann")


def _torch_npu_library() -> Path:
    """Return the installed libtorch_npu.so; torch_npu itself is not imported."""
    spec = importlib.util.find_spec("torch_npu")
    library = Path(spec.origin).parent / "lib" / "libtorch_npu.so" if spec and spec.origin else None
    if library is None or not library.exists():
        raise RuntimeError(
            "the emulated NPU runs the real torch_npu, which is not installed; try pip install -e '.[npu]'"
        )
    return library


def _queries(torch_npu: Path) -> list[str]:
    """Return the names of all aclnn functions that this torch_npu may look up to ask for a workspace's size."""
    return sorted({name.decode() for name in _SIZE_SUFFIX.findall(torch_npu.read_bytes())})


def _key(torch_npu: Path) -> str:
    """Return a name that changes with what a build depends on: these sources and the installed torch_npu."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in sorted(_SOURCES.iterdir()):
        digest.update(source.read_bytes())
    status = torch_npu.stat()
    digest.update(f"{torch_npu} {status.st_size} {status.st_mtime_ns} {platform.machine()}".encode())
    return digest.hexdigest()[:16]


def _compile(made: Path, queries: list[str], machine: str) -> None:
    """Fill `made` with the libraries, the names of the queries and the empty CANN tree."""
    (made / _NAMES).write_text("\n".join(queries))
    jumps = made / "jumps.S"
    jumps.write_text(_jump_table(queries, machine))
    code, *empty = _LIBRARIES
    _link(made / code, [*sorted(_SOURCES.glob("*.c")), jumps])
    for name in empty:
        _link(made / name, ["-xc", os.devnull, "-xnone", "-Wl,--no-as-needed", made / code])
    for name in _CANN_FOLDERS:
        (made / "cann" / name).mkdir(parents=True)


def _jump_table(queries: list[str], machine: str) -> str:
    """Return assembly: each query jumps through its own slot, each operator through the last slot."""
    jump = _JUMP[machine]
    lines = [".bss", ".align 8", ".local emu_slots", f".comm emu_slots, {8 * (len(queries) + 1)}, 8", ".text"]
    lines += [".globl emu_slot_table", "emu_slot_table:", _ADDRESS[machine]]
    lines += ["emu_second_phase:", jump.format(slot=len(queries))]
    for slot, name in enumerate(queries):
        lines += [f".globl {name}", f".type {name}, %function", f"{name}:", jump.format(slot=slot)]
    for name in sorted({operator_of(query) for query in queries}):
        lines += [f".globl {name}", f".type {name}, %function", f".set {name}, emu_second_phase"]
    return "\n".join(lines) + '\n.section .note.GNU-stack,"",%progbits\n'


def operator_of(query: str) -> str:
    """Return the aclnn operator that a query belongs to: `aclnnAdd` of `aclnnAddGetWorkspaceSize`."""
    return re.sub(r"Get(Max)?WorkspaceSize$", "", query)


def _link(library: Path, inputs: list[Path | str]) -> None:
    """Compile and link one shared library."""
    words = ["-O1", "-w", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", *inputs]
    compile_into(library, [compiler("CC", ("cc", "gcc"), "the emulated NPU needs"), *words])
