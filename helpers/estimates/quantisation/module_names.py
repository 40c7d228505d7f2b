"""Whether a list in a quantised config names a module: by the rules of `transformers` and of
compressed-tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def spellings(name: str) -> Iterable[str]:
    """Yield a module's name as this and as earlier releases spell it in a checkpoint."""
    yield name
    yield name.removeprefix("model.")
    yield name.replace("model.language_model.", "language_model.model.")
    yield name.replace("model.language_model.", "model.")


def left_out(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a list of modules that are not converted names this one: by beginning, as an expression,
    or by its end.
    """
    return any(
        re.match(rf"(?:{pattern})(?:(?<=\.)|(?=\.|$))", spelled) or spelled.endswith(pattern)
        for spelled in spellings(name)
        for pattern in patterns
    )


def named(name: str, targets: Iterable[str]) -> bool:
    """Return whether compressed-tensors' targets name a module: exactly, or by an expression after `re:`."""
    return any(
        re.match(target[3:], spelled) is not None if target.startswith("re:") else target == spelled
        for spelled in spellings(name)
        for target in targets
    )
