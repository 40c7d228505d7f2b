"""The bytes of the weights of a quantised config, by its own scheme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.estimates.quantisation.compressed_tensors import UnknownScheme
from helpers.estimates.quantisation.schemes import scheme_of
from helpers.estimates.quantisation.weight_table import weight_table


def quantised_bytes(config: Any) -> int:
    """Return the bytes of all weights of a config with a `quantization_config`, scales and zero points
    included.

    What the scheme leaves out (embedding, output matrix, norms, routers) has the config's own type. Raises
    UnknownScheme, a ValueError, for a scheme that is not known.
    """
    size = _element_bytes(config)
    scheme = scheme_of(_fields(config), size)
    return scheme.total(weight_table(config), size)


def _fields(config: Any) -> Mapping[str, Any]:
    """Return a config's `quantization_config` as a dict; UnknownScheme where there is none."""
    found: Any = getattr(config, "quantization_config", None)
    found = found.to_dict() if hasattr(found, "to_dict") else found
    if not isinstance(found, Mapping):
        raise UnknownScheme(
            f"quantised, but quantization_config is no table of fields, got {str(found)[:40]!r}"
        )
    return found


def _element_bytes(config: Any) -> int:
    """Return the bytes of a number that stays unquantised: 4 in fp32, else 2."""
    text = config.get_text_config()
    dtype = getattr(config, "dtype", None) or getattr(text, "dtype", None)
    return 4 if str(dtype).endswith("float32") else 2
