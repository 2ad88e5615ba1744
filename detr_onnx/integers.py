"""Whole numbers that callers give, of Python or numpy."""

from __future__ import annotations

import math
from typing import TypeGuard

import numpy as np


def is_integer(value: object) -> TypeGuard[int]:
    """Whether the value is an integer; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_whole_number(value: object, largest: float = math.inf) -> bool:
    """Whether the value is an integer from 1 to `largest`."""
    return is_integer(value) and bool(1 <= value <= largest)
