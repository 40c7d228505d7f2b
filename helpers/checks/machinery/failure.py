"""What a check raises: a message that names what broke, on which input, and the likely mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class CheckFailed(AssertionError):
    """An answer that does not hold: which property broke, on which input, expected and got, and a question to think about."""

    def __init__(
        self,
        broken: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        expected: object = None,
        got: object = None,
        hint: str = "",
        error: BaseException | None = None,
    ):
        """Keep the parts of the message; `error` is what the answer raised, if it raised something."""
        self.broken, self.hint, self.error = broken, hint, error
        lines = [broken]
        lines += [f"  for:      {listed(arguments)}"] if arguments else []
        lines += [f"  expected: {expected}"] if expected is not None else []
        lines += [f"  got:      {got}"] if got is not None else []
        lines += [f"  {hint}"] if hint else []
        super().__init__("\n".join(lines))

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the message alone, because the frames belong to the check, not to the
        learner.

        Without a colour: JupyterLab shows errors on red, where red words are hard to read.
        """
        return [str(self)]


def listed(arguments: Mapping[str, Any]) -> str:
    """Return arguments in one line, each as `name=value`."""
    return ", ".join(f"{name}={describe(value)}" for name, value in arguments.items())


def describe(value: object) -> str:
    """Return a value in about 80 characters: numbers with separators, tensors and models by kind and size.

    `Words` are whole, since the check itself has chosen them.
    """
    if isinstance(value, Words):
        return repr(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number beyond 1e30" if 1e30 <= abs(value) != float("inf") else f"{value:,}"
    if hasattr(value, "shape") and hasattr(value, "dtype") and value.shape != ():
        return f"a tensor of shape {tuple(value.shape)}, {value.dtype}"
    if isinstance(value, tuple | list) and any(isinstance(item, Tensor) for item in value):
        more = [f"and {len(value) - 3} more"] if len(value) > 3 else []
        return f"{type(value).__name__} of " + "; ".join([*map(describe, value[:3]), *more])
    name = getattr(value, "name", None)
    text = name if isinstance(name, str) else _repr(value)
    most = 200 if isinstance(value, list | dict) else 80
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _repr(value: object) -> str:
    """Return the value's repr, also when that is broken."""
    try:
        return repr(value)
    except Exception:  # a learner's class may do anything
        return f"a {type(value).__name__} that cannot be shown"


class Words:
    """Words that stand in a message without quotes."""

    def __init__(self, text: object):
        """Keep the text."""
        self._text = str(text)

    def __repr__(self) -> str:
        return self._text
