"""Checks of numbers that callers give, of Python, numpy or another library."""

from __future__ import annotations

import math
import operator
from typing import Any

from detr_onnx.errors import UsageError


def integer_of(value: Any) -> int | None:
    """The value as an int if it is an integer, which is what has `__index__`; None for all else, also True and False.

    An array is an integer if it has no axes: torch gives `__index__` to every tensor of one number.
    """
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool") or getattr(value, "ndim", 0) != 0:
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def whole_number(value: Any, largest: float = math.inf) -> int | None:
    """The value as an int if it is an integer from 1 to `largest`; otherwise None."""
    number = integer_of(value)
    return number if number is not None and 1 <= number <= largest else None


def check_threshold(*thresholds: float) -> None:
    """Raises UsageError unless each threshold is a number in 0..1."""
    for threshold in thresholds:
        try:
            is_in_range = bool(0 <= threshold <= 1)
        except (TypeError, ValueError):  # no number, or an array of several
            is_in_range = False
        if not is_in_range:
            found = repr(threshold)[:60]
            raise UsageError("the threshold is out of range", found=found, expected="a number from 0 to 1")


def checked_number(name: str, value: object, expected: str, largest: float = math.inf) -> int:
    """The value as an int, if it is an integer from 1 to `largest`; otherwise raises UsageError."""
    number = whole_number(value, largest)
    if number is None:
        raise UsageError(f"{name} is wrong", found=repr(value)[:60], expected=expected)
    return number
