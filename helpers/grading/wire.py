"""What two processes say to each other: the judge, and the process of the submitted code, whose messages the judge does not trust.

To the judge only plain values travel, rebuilt from their parts: no class of the other side, and so no `__eq__` of it, comes
along. What is not plain stays where it is and is spoken of by a number.
"""

from __future__ import annotations

import io
import pickle
import select
import socket
import struct
import time
from typing import Any

import numpy as np
import torch

MOST_BYTES = 1 << 28
"""The longest message."""
_LENGTH = struct.Struct(">Q")
_DEEPEST = 12


class Gone(ConnectionError):
    """The other process has ended, or says what cannot be understood."""


class Slow(TimeoutError):
    """The other process does not answer in time."""


class Line:
    """One end of a connection."""

    def __init__(self, end: socket.socket):
        """Keep the socket."""
        self._end = end

    def send(self, message: bytes) -> None:
        """Send a message. Raises Gone when the other process has ended."""
        try:
            self._end.sendall(_LENGTH.pack(len(message)) + message)
        except OSError as error:
            raise Gone("the process has ended") from error

    def receive(self, limit: float | None = None) -> bytes:
        """Return the next message. Raises Slow after `limit` seconds, and Gone at the end of the connection."""
        end = None if limit is None else time.monotonic() + limit
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size, end))
        if length > MOST_BYTES:
            raise Gone("a message is far too long")
        return self._exactly(length, end)

    def _exactly(self, count: int, end: float | None) -> bytes:
        """Return so many bytes."""
        parts = bytearray()
        while len(parts) < count:
            left = None if end is None else end - time.monotonic()
            if left is not None and (left <= 0 or not select.select([self._end], [], [], left)[0]):
                raise Slow("no answer in time")
            try:
                part = self._end.recv(min(1 << 20, count - len(parts)))
            except OSError as error:
                raise Gone("the process has ended") from error
            if not part:
                raise Gone("the process has ended")
            parts += part
        return bytes(parts)


class _Plain(pickle.Unpickler):
    """Reads numbers, texts and containers, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")


def read_plain(message: bytes) -> Any:
    """Return what a message holds: numbers, texts, containers. Raises Gone for anything else."""
    try:
        return _Plain(io.BytesIO(message)).load()
    except Exception as error:  # whatever a forged message can do to the reader
        raise Gone("a message cannot be understood") from error


def parts_of(value: Any, keep: Any, depth: int = 0) -> tuple[Any, ...]:
    """Return a value as tagged plain parts; `keep` is given what is not plain, and returns what stands for it."""
    if depth > _DEEPEST:
        return ("plain", None)
    for kind, base in _SIMPLE.items():
        if isinstance(value, kind):
            return ("plain", base(value))
    if value is None or value is Ellipsis:
        return ("dots",) if value is Ellipsis else ("plain", None)
    if isinstance(value, np.generic):
        return parts_of(value.item(), keep, depth + 1)
    if isinstance(value, np.ndarray):
        return parts_of(value.tolist(), keep, depth + 1)
    if isinstance(value, torch.Tensor):
        return tensor_parts(value)
    if isinstance(value, dict):
        pairs = [(parts_of(k, keep, depth + 1), parts_of(v, keep, depth + 1)) for k, v in dict.items(value)]
        return ("dict", pairs)
    for kind, name in _NAMES.items():
        if isinstance(value, kind):
            return (name, [parts_of(item, keep, depth + 1) for item in kind.__iter__(value)])
    return tuple(keep(value))


def whole(parts: Any, kept: Any) -> Any:
    """Return the value that tagged parts stand for; `kept` is given what is not plain. Raises Gone for a forgery."""
    try:
        tag, *rest = parts
        if tag == "plain" and type(rest[0]) in (bool, int, float, str, bytes, type(None)):
            return rest[0]
        if tag == "dots":
            return Ellipsis
        if tag == "tensor":
            return _untensored(*rest)
        if tag == "dict":
            return {whole(k, kept): whole(v, kept) for k, v in rest[0]}
        if tag in _CONTAINERS:
            return _CONTAINERS[tag](whole(item, kept) for item in rest[0])
        return kept(tag, *rest)
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        raise Gone("a value cannot be understood") from error


# How a value of a subclass becomes one of the class itself, without asking the subclass. A bool has no subclass.
_SIMPLE: dict[type, Any] = {
    bool: bool, int: int.__pos__, float: float.__pos__,
    str: lambda text: str.__getitem__(text, slice(None)), bytes: lambda text: bytes.__getitem__(text, slice(None)),
}  # fmt: skip
_NAMES: dict[Any, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset", range: "list"}
_CONTAINERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_DTYPES = {str(d): d for d in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool)}
_DTYPES |= {str(d): d for d in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)}


def tensor_parts(value: torch.Tensor) -> tuple[Any, ...]:
    """Return a tensor's type, shape and bytes."""
    with torch.no_grad():
        flat = value.detach().cpu().contiguous().reshape(-1)
    return ("tensor", str(flat.dtype), tuple(value.shape), flat.view(torch.uint8).numpy().tobytes())


def _untensored(dtype: str, shape: Any, content: bytes) -> torch.Tensor:
    """Return the tensor."""
    kind = _DTYPES[dtype]
    flat = torch.frombuffer(bytearray(content), dtype=kind) if content else torch.empty(0, dtype=kind)
    return flat.reshape([int(n) for n in shape])
