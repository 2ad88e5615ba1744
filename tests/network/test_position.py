"""A cell's position is encoded by sines and cosines of where it is among the valid cells of its image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detr_onnx.network.numpy_ops import NumpyOps
from detr_onnx.network.position import angle, sine_position, waves

OPS = NumpyOps({})
EXACT = 1e-6  # a few roundings of float32, of numbers up to 2π
FULL_CIRCLE = 2 * math.pi


def by_definition(valid: np.ndarray, width: int) -> np.ndarray:
    """[B,N,D] from the formula in the paper's appendix, one value at a time, in float64."""
    B, h, w = valid.shape
    out = np.zeros((B, h * w, width))
    features = width // 2
    for b, y, x in np.ndindex(B, h, w):
        axes = (
            (valid[b, : y + 1, x].sum(), valid[b, :, x].sum()),
            (valid[b, y, : x + 1].sum(), valid[b, y].sum()),
        )
        for half, (count, total) in enumerate(axes):
            angle = count / (total + 1e-6) * FULL_CIRCLE
            for i in range(features):
                phase = angle / 10000 ** (2 * (i // 2) / features)
                out[b, y * w + x, half * features + i] = math.cos(phase) if i % 2 else math.sin(phase)
    return out


def test_a_single_cell_has_the_angle_of_a_full_circle():
    position = sine_position(OPS, np.ones((1, 1, 1), np.float32), 4)
    np.testing.assert_allclose(position, [[[0, 1, 0, 1]]], atol=1e-5)  # sin and cos of 2π / (1 + 1e-6)


@pytest.mark.parametrize(("h", "w", "width"), [(1, 1, 8), (2, 3, 8), (5, 4, 16), (3, 7, 256)])
def test_positions_follow_the_paper_s_formula(h, w, width):
    valid = np.ones((1, h, w), np.float32)
    np.testing.assert_allclose(sine_position(OPS, valid, width), by_definition(valid, width), atol=EXACT)


def test_padding_is_not_counted():
    valid = np.zeros((2, 4, 6), np.float32)
    valid[0, :3, :4] = valid[1, :4, :2] = 1
    np.testing.assert_allclose(sine_position(OPS, valid, 16)[0], by_definition(valid, 16)[0], atol=EXACT)
    alone = sine_position(OPS, np.ones((1, 3, 4), np.float32), 16).reshape(3, 4, 16)
    padded = sine_position(OPS, valid, 16)[0].reshape(4, 6, 16)[:3, :4]
    assert np.array_equal(padded, alone)


def test_cells_are_numbered_from_one_up_to_a_full_circle():
    rows = angle(OPS, np.ones((1, 4, 2), np.float32), axis=1)[0, :, 0]
    np.testing.assert_allclose(rows, FULL_CIRCLE * np.array([0.25, 0.5, 0.75, 1]), atol=1e-5)


def test_padding_alone_has_angle_0():
    assert np.array_equal(angle(OPS, np.zeros((1, 2, 2), np.float32), axis=1), np.zeros((1, 2, 2)))


def test_the_first_half_encodes_y_and_the_second_x():
    position = sine_position(OPS, np.ones((1, 3, 5), np.float32), 32).reshape(3, 5, 32)
    assert np.array_equal(position[:, 0, :16], position[:, 4, :16])
    assert np.array_equal(position[0, :, 16:], position[2, :, 16:])


def test_waves_interleave_sine_and_cosine():
    found = waves(OPS, np.full((1, 1, 1), np.pi / 2, np.float32), 4)[0, 0]
    np.testing.assert_allclose(found, [1, 0, math.sin(math.pi / 200), math.cos(math.pi / 200)], atol=EXACT)
