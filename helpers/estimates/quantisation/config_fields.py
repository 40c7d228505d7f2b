"""The fields of a quantised config, as the formula for its bytes and the reader of its tensors both need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.estimates.quantisation.compressed_tensors import UnknownScheme, number
from helpers.estimates.quantisation.module_names import named

Fields = Mapping[str, Any]


def stated_quantisation(config: Any) -> Any:
    """Return the `quantization_config` of a config, or of its text part (Kimi-K2.5); None where neither has one."""
    own = getattr(config, "quantization_config", None)
    text = getattr(config, "get_text_config", lambda: config)()
    return own if own is not None else getattr(text, "quantization_config", None)


def quantisation_fields(config: Any) -> Fields:
    """Return a config's `quantization_config` as a table.

    Raises UnknownScheme where there is none, or one of another kind.
    """
    found: Any = stated_quantisation(config)
    found = found.to_dict() if hasattr(found, "to_dict") else found
    if not isinstance(found, Mapping):
        raise UnknownScheme(
            f"quantised, but quantization_config is no table of fields, got {str(found)[:40]!r}"
        )
    return found


def bits_of(fields: Fields) -> int:
    """Return the bits of AWQ's and GPTQ's numbers; AWQ's first files call them `w_bit`.

    Raises UnknownScheme for no number.
    """
    return number(fields, "bits" if "bits" in fields or "w_bit" not in fields else "w_bit")


def group_number(name: str, fields: Fields) -> int | None:
    """Return which group of compressed-tensors' `config_groups` has a module, counted from 0.

    None stands for a module that no group's targets name.
    """
    for i, group in enumerate(groups(fields)):
        targets = tuple(group["targets"])
        if "Linear" in targets or named(name, targets):
            return i
    return None


def groups(fields: Fields) -> list[Fields]:
    """Return compressed-tensors' groups in order."""
    return list(fields["config_groups"].values())


def format_of(group: Fields, fields: Fields) -> str:
    """Return how a group of compressed-tensors is stored: its own format, or that of all."""
    return str(group.get("format") or fields.get("format"))
