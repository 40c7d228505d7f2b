"""The loaded stand-in for CANN: its C functions with types."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

RUN_NOW, KEPT = 0, 1  # answers of `launch`; any other is an error
RUN, FORGET = 0, 1  # what the runtime asks Python to do with a kept operator
_OperatorCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_int)


class Runtime:
    """The C half of the emulation.

    torch_npu can be imported because this half was loaded before, with global symbols.
    """

    def __init__(self, paths: Sequence[Path]):
        """Load the libraries in order; the first holds the code."""
        loaded = [ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL) for path in paths]
        self._library = loaded[0]
        self._library.emu_slot_table.restype = ctypes.c_void_p
        self._library.emu_used.restype = ctypes.c_size_t
        self._library.emu_set_capacity.argtypes = [ctypes.c_size_t]
        self._library.emu_record_size.argtypes = [ctypes.c_void_p]
        self._library.emu_record_size.restype = ctypes.c_size_t
        self._library.emu_launch.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        self._library.emu_set_view_shape.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        # ctypes callbacks must outlive the last kernel, which may run as late as at exit
        self._callbacks: list[object] = []

    def fill_slot(self, slot: int, callback: object) -> None:
        """Make a jump slot lead to a ctypes callback."""
        self._callbacks.append(callback)
        pointers = (ctypes.c_void_p * (slot + 1)).from_address(self._library.emu_slot_table())
        pointers[slot] = ctypes.cast(callback, ctypes.c_void_p).value  # type: ignore[arg-type]

    def set_operator_callback(self, function: Callable[[int, int], int]) -> None:
        """Set what runs (request RUN) or drops (FORGET) a kept operator: a function `(key, request) -> code`."""
        callback = _OperatorCallback(function)
        self._callbacks.append(callback)
        self._library.emu_set_operator_callback(callback)

    def launch(self, stream: int | None, key: int) -> int:
        """Return RUN_NOW, or KEPT when a graph or the stream's queue keeps the operator, or an error code."""
        return int(self._library.emu_launch(stream, key))

    def set_blocking(self, blocking: bool) -> None:
        """Say whether a stream that waits for other processes makes its caller wait: the caller gets the errors."""
        self._library.emu_set_blocking(int(blocking))

    def record(self, address: int) -> bytes:
        """Return the record of the live acl object at an address; empty for any other address."""
        return ctypes.string_at(address, self._library.emu_record_size(address))

    def set_error(self, text: str) -> None:
        """Keep the text that torch_npu puts into the exception it raises for an error code."""
        self._library.emu_set_error(text.encode())

    def die(self, text: str) -> None:
        """Make every later synchronization fail with `text`."""
        self._library.emu_die(text.encode())

    def allow_aclop(self, allowed: bool) -> None:
        """Let old-style operators (aclop) pass without an effect, or make them fail."""
        self._library.emu_allow_aclop(int(allowed))

    def set_view_shape(self, address: int, shape: Sequence[int]) -> None:
        """Report the real shape of a result that depends on data; torch_npu shrinks its tensor to it."""
        sizes = (ctypes.c_int64 * max(1, len(shape)))(*shape)
        self._library.emu_set_view_shape(address, sizes, len(shape))

    def set_capacity(self, nbytes: int) -> None:
        """Cap each device's memory."""
        self._library.emu_set_capacity(nbytes)

    def used(self, device: int) -> int:
        """Return the bytes that torch_npu holds on a device."""
        return int(self._library.emu_used(device))
