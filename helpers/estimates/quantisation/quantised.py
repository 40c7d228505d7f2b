"""The bytes of the weights of a quantised config, by its own scheme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from helpers.estimates.quantisation.config_fields import quantisation_fields
from helpers.estimates.quantisation.model_slim import model_slim_bytes
from helpers.estimates.quantisation.schemes import scheme_of
from helpers.estimates.quantisation.weight_table import weight_table


def quantised_bytes(config: Any) -> int:
    """Return the bytes of all weights of a config with a `quantization_config`, scales and zero points
    included.

    What the scheme leaves out (embedding, output matrix, norms, routers) has the config's own type. A folder of
    ModelSlim brings the description of its tensors along (`config_from_file`). Raises
    UnknownScheme, a ValueError, for a scheme that is not known.
    """
    fields, size = quantisation_fields(config), _element_bytes(config)
    if fields.get("quant_method") == "modelslim" and isinstance(fields.get("description"), Mapping):
        return model_slim_bytes(config, fields["description"])
    scheme = scheme_of(fields, size)
    table = weight_table(config)
    if getattr(config, "quantization_config", None) is None:  # the text part speaks of itself alone
        table = [row if row.in_decoder or row.kind == "head" else row._replace(kind="other") for row in table]
    return scheme.total(table, size)


def _element_bytes(config: Any) -> int:
    """Return the bytes of a number that stays unquantised: 4 in fp32, else 2."""
    text = config.get_text_config()
    dtype = getattr(config, "dtype", None) or getattr(text, "dtype", None)
    return 4 if str(dtype).endswith("float32") else 2
