"""Winograd's 3x3 convolution agrees with the definition, within a stated rounding error."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from detr_onnx.network import winograd
from detr_onnx.network.numpy_conv import Convolution
from detr_onnx.network.workspace import Workspace

# In standard deviations of the output. The direct sum in float32 is within 4e-6; here values at the points are larger,
# and cancel in the interpolation. Measured: 3e-5 for 512 channels.
TOLERANCE = 6e-5


def exact(x, kernel):
    """[H,W,C] by [3,3,C,K], padded by 1, in float64."""
    padded = np.pad(x.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    H, W, _ = x.shape
    return sum(padded[i : i + H, j : j + W] @ kernel[i, j].astype(np.float64) for i, j in np.ndindex(3, 3))


def convolved(x, kernel, bias=None, residual=None, relu=False):
    out = np.full((*x.shape[:2], kernel.shape[-1]), np.nan, np.float32)
    bias = np.zeros(kernel.shape[-1], np.float32) if bias is None else bias
    winograd.convolve(Convolution(kernel, bias, relu=relu), x, residual, out, Workspace())
    return out


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (4, 4), (5, 3), (8, 13), (21, 6), (50, 67)])
@pytest.mark.parametrize("channels", [(1, 1), (3, 5), (64, 32)])
def test_any_size_agrees_with_the_definition(hw, channels):
    x, kernel = normal(1, *hw, channels[0]), normal(2, 3, 3, *channels)
    truth = exact(x, kernel)
    assert np.abs(convolved(x, kernel) - truth).max() < TOLERANCE * np.sqrt(9 * channels[0])


def test_the_channels_of_the_last_stage_are_within_the_bound():
    x, kernel = np.maximum(normal(1, 12, 16, 512), 0), normal(2, 3, 3, 512, 64)
    truth = exact(x, kernel)
    assert np.abs(convolved(x, kernel) - truth).max() < TOLERANCE * truth.std()


def test_bias_residual_and_relu_are_applied_to_the_sum():
    x, kernel, bias, residual = normal(1, 9, 10, 4), normal(2, 3, 3, 4, 6), normal(3, 6), normal(4, 9, 10, 6)
    truth, kept = exact(x, kernel) + bias + residual, residual.copy()
    np.testing.assert_allclose(convolved(x, kernel, bias, residual), truth, atol=1e-4)
    np.testing.assert_allclose(convolved(x, kernel, bias, residual, relu=True), np.maximum(truth, 0), atol=1e-4)
    np.testing.assert_array_equal(residual, kept)


def test_fewer_tiles_at_a_time_give_the_same(monkeypatch):
    x, kernel = normal(1, 30, 41, 8), normal(2, 3, 3, 8, 8)
    whole = convolved(x, kernel)
    monkeypatch.setattr(winograd, "TILES", 1)
    assert np.abs(convolved(x, kernel) - whole).max() < TOLERANCE * whole.std()


def test_in_exact_arithmetic_the_matrices_give_a_convolution():
    """All 16 x 36 x 9 coefficients of a tile's and a kernel's pixels in the outputs."""
    evaluate_tile, evaluate_kernel, interpolate = (m.astype(np.float64) for m in winograd.matrices())
    coefficients = np.einsum("av,vt,vk->atk", interpolate, evaluate_tile, evaluate_kernel).reshape(4, 4, 6, 6, 3, 3)
    for i, j, row, column, k, m in np.ndindex(coefficients.shape):
        expected = float((row, column) == (i + k, j + m))
        assert abs(coefficients[i, j, row, column, k, m] - expected) < 1e-5


def test_the_points_are_exact_in_float32():
    assert all(Fraction(point).denominator <= 2 for point in winograd.POINTS)
