"""A checkpoint's tensors, of which a rank reads only its slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from helpers.model.checkpoint_files import files_of, with_base


class SlicedTensors(Mapping[str, Tensor]):
    """The tensors of a folder by their Hugging Face names, read when asked for."""

    def __init__(self, folder: Path | str):
        """Open the folder's files. Raises ValueError, naming the file, for one that is missing or damaged."""
        self.bytes_read = 0
        """Bytes of all slices so far."""
        self._files: dict[str, tuple[str, Any]] = {}  # name here: name in the file, and the file
        for path in files_of(Path(folder)):
            try:
                file: Any = safe_open(path, "pt")
                names = list(file.keys())
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{path} is damaged ({error}); fetch the checkpoint again") from error
            self._files |= {name: (name, file) for name in names}
        self._files = with_base(self._files)

    def __getitem__(self, name: str) -> Tensor:
        return self.slice(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def slice(self, name: str, cut: tuple[int, range] | None) -> Tensor:
        """Return a tensor's part: a range along dimension 0 or 1, in memory of its own, or all of it.

        Raises ValueError, naming it, for a tensor that is not there.
        """
        if name not in self._files:
            raise ValueError(f"the checkpoint has no tensor {name!r}")
        stored, file = self._files[name]
        if cut is None:
            part: Tensor = file.get_tensor(stored)
        else:
            dim, wanted = cut
            whole = file.get_slice(stored)
            rows = slice(wanted.start, wanted.stop)
            part = (whole[rows] if dim == 0 else whole[:, rows]).contiguous()
        self.bytes_read += part.nbytes
        return part
