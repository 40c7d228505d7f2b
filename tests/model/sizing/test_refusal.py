"""One sentence of the course for whatever `transformers` raises: the cause, or the fields that were being read."""

import pytest
from transformers import AutoConfig, LlamaConfig
from transformers.utils import logging

from helpers.model import ModelShape, UnreadableConfig, config_from_dict
from helpers.model.sizing import brief, refusal, refusing
from tests.families import family


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("Tensor.item() cannot be called on meta tensors", "its code reads the values of tensors"),
        ("Cannot copy out of meta tensor; no data!", "its code reads the values of tensors"),
        ("The register_meta function for torch.nonzero() raises unimplemented", "its code reads the values"),
        ("X requires the timm library but it was not found", "needs the Python package timm, which is not"),
        (
            "Model type should be one of GPT2Config, AConfig",
            r"no model of its text part alone \(field text_c",
        ),
    ],
)
def test_a_known_cause_is_told(words, cause):
    with pytest.raises(UnreadableConfig, match=rf"^model type 'x' is not supported: .*{cause}") as told:
        with refusing("x", "the model"):
            raise RuntimeError(words)
    assert str(told.value.__cause__) == words, "the foreign words stay where a debugger finds them"


def test_a_field_that_is_missing_is_named():
    with pytest.raises(UnreadableConfig, match=r"because the field num_key_value_heads is missing$"):
        ModelShape.from_hf(AutoConfig.for_model("nemotron", num_hidden_layers=1))


def test_a_field_that_does_not_fit_is_named():
    with pytest.raises(UnreadableConfig, match=r"'llama': .* does not accept the field.* hidden_act"):
        ModelShape.from_hf(family("llama", hidden_act="of its own"))


def test_a_field_of_another_kind_is_named():
    with pytest.raises(UnreadableConfig, match=r"does not accept the field attention_dropout as given$"):
        config_from_dict({"model_type": "llama", "attention_dropout": "much"})


def test_nothing_else_is_told_where_no_field_was_read():
    told = refusal("x", "the cache", KeyError(4), LlamaConfig())
    assert (
        told
        == "model type 'x': the cache cannot be built, because transformers does not accept its fields as given"
    )


def test_a_refusal_passes_as_it_is_and_remarks_are_back_afterwards():
    before = logging.get_verbosity()
    with pytest.raises(UnreadableConfig, match=r"^as it is$"):
        with refusing("x", "the model"):
            raise UnreadableConfig("as it is")
    assert logging.get_verbosity() == before


def test_an_attribute_of_what_is_not_there_is_no_field():
    """CLIP's tower is given no picture, and asks for its shape."""
    with pytest.raises(UnreadableConfig, match=r"because transformers does not accept its fields as given$"):
        with refusing("x", "the cache", LlamaConfig()):
            None.shape  # type: ignore[attr-defined] # noqa: B018


def test_an_error_in_brief_is_its_last_line():
    assert brief(ValueError("first\n last  line. \n")) == "last line"
    assert brief(ValueError("")) == "ValueError"
    assert len(brief(ValueError("x" * 500))) == 110
