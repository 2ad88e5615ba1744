"""The search for wrong shapes: which sizes it runs, and what it calls wrong."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.shapes import FP32, Contender, Subject, difference, examine, pixels_of, sides

LOGITS, BOXES = np.float32([[[1, 2, 3]]]), np.float32([[[0.1, 0.2, 0.3, 0.4]]])
CONTENDER = Contender("key", Subject("name", 32, lambda pixels, mask: (LOGITS, BOXES)), lambda: None, FP32)


def test_the_smallest_and_the_largest_sides_are_always_run():
    assert sides(64, 30) == [1, 2, 3, 4, 31, 61, 64]
    assert sides(3, 1) == [1, 2, 3]


@pytest.mark.parametrize("cells_hw", [(1, 1), (2, 5), (64, 31)])
def test_an_image_has_the_cells_it_is_for(cells_hw):
    assert tuple(-(-side // 32) for side in pixels_of(cells_hw, 32).shape[2:]) == cells_hw


def test_a_difference_that_is_not_a_number_is_not_forgotten():
    """Neither beside that of the other output, nor after the next size."""
    assert all(np.isnan(value) for value in difference((LOGITS, BOXES), (LOGITS, BOXES * np.float32(np.nan))).values())
    outputs = iter([*[(LOGITS, BOXES * np.float32(np.nan))] * 2, *[(LOGITS, BOXES)] * 2])
    assert examine(CONTENDER, lambda pixels, mask: next(outputs), [(1, 2), (2, 2)])["worst"] == {
        "largest": None,
        "mean": None,
    }


@pytest.mark.parametrize(("outputs", "problem"), [
    ([(LOGITS, BOXES)] * 2, None),
    ([(LOGITS + 1e-5, BOXES)] * 2, None),
    ([(LOGITS * np.float32(np.nan), BOXES)] * 2, "not finite"),
    ([(LOGITS, BOXES), (LOGITS, BOXES + 1e-6)], "differs between two runs"),
    ([(LOGITS, BOXES + 0.01)] * 2, "differs from the reference"),
])  # fmt: skip
def test_what_is_wrong_is_listed(outputs, problem):
    results = iter(outputs)
    row = examine(CONTENDER, lambda pixels, mask: next(results), [(1, 2)])
    assert row["sizes"] == 1
    assert [failure["problem"] for failure in row["failures"]] == ([problem] if problem else [])
    assert [failure["cells_hw"] for failure in row["failures"]] == ([[1, 2]] if problem else [])
