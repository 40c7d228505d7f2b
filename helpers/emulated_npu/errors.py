"""What the emulated NPU refuses: operators it lacks, and calls that an operator's documents do not allow."""

from __future__ import annotations


class NotEmulated(NotImplementedError):
    """Something that a real NPU may do and the emulation does not; the message names it."""


class ContractError(ValueError):
    """A call that the operator's documents do not allow; the message says which rule, and what came."""


def require(allowed: bool, rule: str, came: object) -> None:
    """Raise ContractError unless `allowed`; `rule` is a sentence about what is expected, `came` is what came."""
    if not allowed:
        raise ContractError(f"{rule}; got {came}")


def emulated(present: bool, what: str) -> None:
    """Raise NotEmulated for `what` unless it is present."""
    if not present:
        raise NotEmulated(what)
