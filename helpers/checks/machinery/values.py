"""Values as a check compares them: numbers of any library, lists or tuples, tensors; copies, and whether two are alike."""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Refused:
    """What stands for an answer that raised ValueError where that is allowed."""

    def __repr__(self) -> str:
        return "ValueError"

    def __deepcopy__(self, memo: object) -> Refused:
        return self


REFUSED = Refused()


def plain(value: Any) -> Any:
    """Return numbers of numpy and torch as Python's, inside lists, tuples and dictionaries too; other things as they are."""
    if isinstance(value, np.generic | np.ndarray) or (isinstance(value, Tensor) and not value.ndim):
        return value.tolist() if isinstance(value, np.ndarray) else value.item()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if type(value) is tuple:
        return tuple(plain(item) for item in value)
    if isinstance(value, range):
        return list(value)
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    return value


def is_number(value: Any) -> bool:
    """Return whether that is a real number and no truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Return whether that is a whole number of type int and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_float(number: Any) -> float:
    """Return the number as a float; one too large for that counts as infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def equal(one: Any, other: Any, rel: float = 1e-9) -> bool:
    """Return whether two values are the same: numbers to `rel`, lists and tuples item by item, the rest by `==`."""
    if is_number(one) and is_number(other):
        a, b = as_float(one), as_float(other)
        return a == b or math.isclose(a, b, rel_tol=rel, abs_tol=1e-12)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(equal(a, b, rel) for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key], rel) for key in one)
    return type(one) is type(other) and bool(one == other)


def close(one: Any, other: Any, rel: float = 2e-5) -> bool:
    """Return whether two tensors hold the same numbers, to some hundred times fp32's precision, NaN and infinity included."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.allclose(one.double(), other.double(), rtol=rel, atol=1e-6, equal_nan=True)


def unchanged(one: Any, other: Any) -> bool:
    """Return whether an argument is still what it was, down to each number of a tensor."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype
        return alike and bool(((one == other) | (one.isnan() & other.isnan())).all())
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(unchanged(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return list(one) == list(other) and all(unchanged(one[key], other[key]) for key in one)
    return bool(one is other or one == other or repr(one) == repr(other))


def copied(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments that a call may change without any harm to the caller's."""
    simple = (int, float, str, bool, type(None))
    return {
        name: value if isinstance(value, simple) else copy.deepcopy(value)
        for name, value in arguments.items()
    }
