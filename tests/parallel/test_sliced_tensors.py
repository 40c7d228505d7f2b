"""Sliced tensors: names, slices, and bytes read."""

import pytest
import torch
from safetensors.torch import save_file

from helpers.parallel import SlicedTensors


def test_slices_along_rows_and_columns_and_the_names_of_a_base_model(tmp_path):
    matrix = torch.arange(12.0).reshape(3, 4)
    save_file({"embed_tokens.weight": matrix, "lm_head.weight": matrix + 1}, tmp_path / "model.safetensors")
    tensors = SlicedTensors(tmp_path)
    assert sorted(tensors) == ["lm_head.weight", "model.embed_tokens.weight"]
    assert len(tensors) == 2
    assert torch.equal(tensors.slice("model.embed_tokens.weight", (0, range(1, 3))), matrix[1:3])
    part = tensors.slice("lm_head.weight", (1, range(1, 2)))
    assert torch.equal(part, matrix[:, 1:2] + 1)
    assert part.is_contiguous()
    assert tensors.bytes_read == 4 * (8 + 3)
    with pytest.raises(ValueError, match="no tensor 'other'"):
        tensors["other"]
