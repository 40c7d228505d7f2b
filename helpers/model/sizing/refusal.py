"""One refusal for all configs that cannot be sized, in words of the course."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_IN_WORDS = re.compile(r"(?:field |attribute )['\"`](\w+)['\"`]", re.IGNORECASE)
_IN_CODE = re.compile(r"\b(?:config|self)\.([a-z]\w*)")
_KNOWN = (
    (r"meta tensor|register_meta|\.item\(\)", "its code reads the values of tensors, and sizes are read here off tensors without values"),
    (r"LinearAttention", "no layer has attention that keeps keys and values"),
    (r"Model type should be one of|Unrecognized configuration class", "transformers has no model of its text part alone (field text_config)"),
    (r"[Mm]ultiple valid text configs", "it has several text parts (field text_config), and one is sized here"),
    (r"requires the (\w+) library", "a part of it needs the Python package {0}, which is not installed"),
    (r"is_decoder=True", "it is no decoder (field is_decoder)"),
)  # fmt: skip
"""Words of `transformers` and torch whose cause is known, and the cause; `{0}` is what the pattern found."""


class UnreadableConfig(ValueError):
    """A config whose model cannot be sized.

    The message names the model type and the field, in one sentence.
    """


@contextmanager
def refusing(kind: str, what: str, config: Any = None) -> Iterator[None]:
    """Turn whatever `transformers` raises over a config into UnreadableConfig, and keep its remarks off the
    screen.

    The sentence names a known cause, or the fields of `config` that were being read. The words of `transformers`
    stay in the chained error.
    """
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableConfig:
        raise
    except Exception as error:  # transformers raises whatever its arithmetic on the fields happens to raise
        raise UnreadableConfig(refusal(kind, what, error, config)) from error
    finally:
        logging.set_verbosity(level)


def refusal(kind: str, what: str, error: Exception, config: Any = None) -> str:
    """Return one sentence that says why nothing was built: a known cause, or the fields that were being read."""
    for words, cause in _KNOWN:
        if found := re.search(words, str(error)):
            return f"model type {kind!r} is not supported: {cause.format(*found.groups())}"
    names = _fields_read(error, config)
    missing = [name for name in names if config is not None and _value(config, name) is None]
    if missing:
        reason = f"{_fields(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    elif names:
        reason = f"transformers does not accept {_fields(names)} as given"
    else:
        reason = "transformers does not accept its fields as given"
    return f"model type {kind!r}: {what} cannot be built, because {reason}"


def _fields(names: list[str]) -> str:
    """Return names of fields as a part of a sentence."""
    return f"the field{'s' * (len(names) > 1)} {' and '.join(names)}"


def _fields_read(error: Exception, config: Any, most: int = 3) -> list[str]:
    """Return the config's fields that an error names, or that the innermost line of code with one was reading."""
    absent = isinstance(error, AttributeError) and error.name and error.obj is None
    named = [str(error.name)] if isinstance(error, AttributeError) and error.name else []
    named += _IN_WORDS.findall(str(error))
    named = [] if absent else named  # an attribute of None is no field: what should be there is missing
    if named:
        return list(dict.fromkeys(named))[:most]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        found = [
            name for name in _IN_CODE.findall(frame.line or "") if _is_field(name, frame.filename, config)
        ]
        if found:
            return list(dict.fromkeys(found))[:most]
    return []


def _is_field(name: str, filename: str, config: Any) -> bool:
    """Return whether a name in a line of code is a field; the number of layers is read around every other error."""
    if config is None:
        return "configuration_" in filename
    own = name in vars(config) or name in getattr(config, "attribute_map", {})
    return own and name not in ("num_hidden_layers", "training", "config", "dtype")


def _value(config: Any, name: str) -> Any:
    """Return a field's value, or None where there is none, or where reading it fails."""
    try:
        return getattr(config, name, None)
    except Exception:  # a property of `transformers` computes, and may raise anything
        return None


def brief(error: Exception, most: int = 110) -> str:
    """Return an error's last line without line breaks, cut to `most` characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = " ".join(lines[-1].split()).rstrip(".") if lines else type(error).__name__
    return words if len(words) <= most else words[: most - 3] + "..."
