"""Integers are what has `__index__`, but truth values and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detr_onnx.arguments import integer_of, whole_number


class Tensor:
    """A tensor as torch has it: `__index__` exists also for one number in an axis, and for truth values."""

    def __init__(self, value: int, ndim: int = 0, dtype: str = "torch.int64") -> None:
        self._value, self.ndim, self.dtype = value, ndim, dtype

    def __index__(self) -> int:
        return self._value

    def __repr__(self) -> str:
        return f"Tensor({self._value}, ndim={self.ndim}, dtype={self.dtype})"


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), Tensor(3)], ids=repr)
def test_what_has_an_index_is_an_int(value: Any) -> None:
    assert integer_of(value) == whole_number(value) == 3
    assert type(integer_of(value)) is int


@pytest.mark.parametrize(
    "value",
    [True, False, np.True_, np.array(True), Tensor(1, dtype="torch.bool"), Tensor(1, ndim=1), np.array([3]), [3],
     3.0, np.float64(3), "3", b"3", None],
    ids=repr,
)  # fmt: skip
def test_truth_values_arrays_and_other_numbers_are_no_integers(value: Any) -> None:
    assert integer_of(value) is None
    assert whole_number(value) is None


def test_a_whole_number_is_from_1_to_the_largest() -> None:
    assert [whole_number(n, 3) for n in (-1, 0, 1, 3, 4)] == [None, None, 1, 3, None]
    assert whole_number(np.int64(2**62)) == 2**62
