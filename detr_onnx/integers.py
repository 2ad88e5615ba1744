"""Whole numbers that callers give, of Python, numpy or another library."""

from __future__ import annotations

import math
import operator
from typing import Any


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
