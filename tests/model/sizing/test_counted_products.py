"""The count of products by layers, beside torch's own count of operations."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from helpers.model import on_meta
from helpers.model.sizing import OUTSIDE, Products, counted_products
from tests.families import FAMILIES


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "mimo-v2"])
@pytest.mark.parametrize("tokens", [1, 6])
def test_layers_and_the_rest_are_all_that_torch_counts(name, tokens):
    text = on_meta(FAMILIES[name]()).text
    layers = {f"model.layers.{i}": i for i in range(4)}
    given = {"input_ids": torch.zeros(1, tokens, dtype=torch.long, device="meta")}
    with counted_products(text, layers) as counter:
        found, out = counter.of(lambda: text(**given))
    with FlopCounterMode(display=False) as torchs:
        text(**given)
    experts = sum(
        sum(flops.values()) for name, flops in torchs.get_flop_counts().items() if name.endswith(".experts")
    )
    assert set(found) == {OUTSIDE, 0, 1, 2, 3}
    total = sum(each.matrices + each.batched for each in found.values())
    assert 2 * total == torchs.get_total_flops() - experts > 0
    assert found[OUTSIDE] == Products(matrices=out.logits.shape[-1] * text.config.hidden_size * tokens)
