"""Each piece's two forms are equal, the fused one launches and moves less; operators are swapped for a block alone."""

import pytest
import torch

from helpers.graphs import PIECES, PLAIN, by_operators, swapped
from helpers.ops import by_device
from tests.tiny import reference, twin

# launches written out and fused, of one layer and any number of tokens
LAUNCHES = {
    "add + RMSNorm": (7, 2), "rotary of q and k": (10, 3), "SwiGLU": (3, 2), "Q, K and V in one product": (3, 1),
    "gate and up in one product": (2, 1), "rotary and cache write": (12, 5),
}  # fmt: skip


def results(form, given):
    """What a form returns, and the tensors that it was given, which it may have changed."""
    out = form(*given)
    return [*(out if isinstance(out, tuple) else (out,))]


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.name)
@pytest.mark.parametrize("name", ["llama", "qwen3"])
@pytest.mark.parametrize("tokens", [1, 5])
def test_both_forms_are_equal_and_the_fused_one_is_smaller(piece, name, tokens):
    cfg = twin(reference(name)).cfg
    given = [piece.inputs(cfg, tokens) for _ in "ab"]
    for a, b in zip(
        *(results(f, g) for f, g in zip((piece.written, piece.fused), given, strict=True)), strict=True
    ):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-5)
    if piece.name == "rotary and cache write":
        for i in (-3, -2):
            torch.testing.assert_close(given[0][i], given[1][i], atol=2e-6, rtol=1e-5)
            assert float(given[1][i][:tokens].abs().sum()) > 0
            assert float(given[1][i][tokens:].abs().sum()) == 0, "only the slots are written"
    before, after = piece.counts(cfg, tokens)
    assert (before.num_launches, after.num_launches) == LAUNCHES[piece.name]
    assert after.nbytes < before.nbytes


def test_every_piece_is_here():
    assert [piece.name for piece in PIECES] == list(LAUNCHES)


def test_operators_come_back_after_a_block_even_when_it_fails():
    own = by_device.rotary

    def fail():
        with swapped(rotary=lambda x, cos, sin: x):
            assert by_device.rotary is not own
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert by_device.rotary is own


def test_a_model_by_operators_shares_its_weights_and_leaves_the_other_as_it_is():
    model = twin(reference("llama"))
    vars(model)["native_passes"] = "one native call"
    alike = by_operators(model)
    assert vars(model)["native_passes"] == "one native call"
    assert vars(alike)["native_passes"] is None
    assert alike.norm is model.norm
    assert [a is b for a, b in zip(alike.parameters(), model.parameters(), strict=True)].count(False) == 0


def test_plain_versions_are_those_of_every_operator_that_has_others():
    assert set(PLAIN) == {name for name, each in vars(by_device).items() if hasattr(each, "__wrapped__")}
    assert all(
        not function.__module__.startswith(("helpers.ops.npu_", "helpers.ops.by_device"))
        for function in PLAIN.values()
    )
    with swapped(**PLAIN):
        assert by_device.attention_rows is PLAIN["attention_rows"]


def test_an_unknown_operator_is_refused_before_anything_is_swapped():
    own = by_device.rotary
    with pytest.raises(ValueError, match="no operator 'norm'"), swapped(rotary=len, norm=len):
        pass
    assert by_device.rotary is own
