"""Quantization: ranges include 0, weights keep their sums, and each method finds the range it should."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.exporter.ranges import BINS, METHODS, Histogram
from detr_onnx.network.quantization import (
    MAX_BIAS_LEVEL,
    MAX_LEVEL,
    QuantParams,
    bias_levels,
    least_scale_for_bias,
    quantized,
)

RANGES = [(0.0, 6.0), (-2.0, 2.6), (-3.0, 0.0), (0.0, 1e-6), (-1e-3, 900.0)]
HALF_A_LEVEL = 0.5 + 1e-3  # float32 rounds on its own


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part.astype(np.float32))
    return histogram


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_0_is_exact_and_every_value_in_the_range_is_rounded_by_half_a_level(low, high):
    params = QuantParams.of_range(low, high)
    assert params.rounded(np.zeros(1, np.float32)) == 0
    assert 0 <= params.zero_point <= MAX_LEVEL
    values = np.linspace(low, high, 1000, dtype=np.float32)
    assert np.abs(params.rounded(values) - values).max() <= 2 * HALF_A_LEVEL * params.scale  # 0 itself moves both ends
    first, last = params.range()
    assert params.rounded(np.array([-1e9, 1e9], np.float32)) == pytest.approx([first, last], rel=1e-5)


def test_a_range_without_0_is_extended_to_it_and_an_empty_range_has_scale_1():
    assert QuantParams.of_range(2, 5) == QuantParams.of_range(0, 5)
    assert QuantParams.of_range(-5, -2) == QuantParams.of_range(-5, 0)
    assert QuantParams.of_range(0, 0) == QuantParams(1.0, 0)


def test_each_window_of_a_kernel_keeps_its_sum():
    kernel = np.random.default_rng(1).normal(size=(8, 5, 7, 7)).astype(np.float32)
    levels, scale = quantized(kernel, 0)
    exact = kernel / scale
    assert np.abs((levels - exact).sum(axis=(2, 3))).max() <= HALF_A_LEVEL
    assert np.abs(levels - exact).max() <= 1
    assert np.abs(np.rint(exact).sum(axis=(2, 3)) - exact.sum(axis=(2, 3))).max() > 1  # plain rounding does not


def test_a_matrix_is_rounded_to_the_nearest():
    matrix = np.random.default_rng(1).normal(size=(64, 32)).astype(np.float32)
    levels, scale = quantized(matrix, 1)
    np.testing.assert_array_equal(levels, np.rint(matrix / scale))


def test_a_channel_of_zeros_stays_zero():
    array = np.array([[0, 0], [0.5, -1]], np.float32)
    levels, scale = quantized(array, 0)
    np.testing.assert_array_equal(levels, [[0, 0], [64, -127]])
    np.testing.assert_allclose(levels * scale, array, atol=0.5 / 127)


def test_a_bias_has_the_scale_of_the_products_and_does_not_overflow():
    levels, scale = bias_levels(
        np.array([1.0, -2.0, 1e30]), np.array([0.01, 0.02, 1e-9], np.float32), QuantParams(0.5, 0)
    )
    np.testing.assert_allclose(scale, [0.005, 0.01, 5e-10], rtol=1e-6)
    assert levels.dtype == np.int32
    assert levels.tolist() == [200, -200, MAX_BIAS_LEVEL]


def test_a_bias_beside_weights_of_almost_0_is_kept():
    bias, params = np.array([0.7, -3.0, 0.0, 0.2], np.float32), QuantParams(0.01, 128)
    kernel = np.random.default_rng(1).normal(size=(4, 6, 3, 3)).astype(np.float32)
    kernel *= np.array([1e-12, 1e-38, 1e-42, 1.0], np.float32).reshape(4, 1, 1, 1)
    levels, scale = quantized(kernel, 0, least_scale_for_bias(bias, params))
    sums, sums_scale = bias_levels(bias, scale.reshape(-1), params)
    np.testing.assert_allclose(sums * sums_scale, bias, rtol=1e-2)
    np.testing.assert_allclose(levels * scale, kernel, rtol=0, atol=scale.max())
    np.testing.assert_array_equal(levels[3], quantized(kernel, 0)[0][3])


# Ranges


def test_a_histogram_counts_every_value_however_often_it_widens():
    values = np.random.default_rng(1).normal(size=1000)
    histogram = histogram_of(values, 1e4 * values, np.zeros(5))
    assert histogram.counts.sum() == 2005
    assert (histogram.low, histogram.high) == (np.float32(1e4 * values.min()), np.float32(1e4 * values.max()))
    assert histogram.limit >= 1e4 * np.abs(values).max()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_histogram_keeps_every_value_to_a_bin(sign):
    values = sign * np.array([-0.3, 0.01, 2.0, 9.0])
    histogram = histogram_of(values)
    counted = np.repeat(histogram.centres(), histogram.counts)
    assert np.abs(counted - np.sort(values)).max() <= histogram.limit / BINS * HALF_A_LEVEL * 2


def test_entropy_clips_nothing_where_levels_tell_all_values_apart():
    dense, sparse = np.linspace(0.001, 1, 1 << 15), np.repeat(np.linspace(1.1, 1.9, 9), 400)
    assert METHODS["entropy"](histogram_of(dense, sparse)) == pytest.approx((0, 1.9))


def test_the_order_of_the_values_does_not_matter():
    small, large = np.linspace(-1, 1, 999), np.linspace(0, 100, 999)
    first, second = histogram_of(small, large), histogram_of(large, small)
    assert first.limit == second.limit
    assert np.abs(first.counts.cumsum() - second.counts.cumsum()).max() <= 2  # values at the edge of a bin


def test_minmax_covers_all_values_and_no_method_covers_more():
    values = np.random.default_rng(1).normal(size=100_000)
    histogram = histogram_of(values)
    low, high = METHODS["minmax"](histogram)
    assert (low, high) == (np.float32(values.min()), np.float32(values.max()))
    for find in METHODS.values():
        found = find(histogram)
        assert low <= found[0] < 0 < found[1] <= high


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_a_single_outlier_is_clipped(method):
    values = np.abs(np.random.default_rng(1).normal(size=200_000))
    low, high = METHODS[method](histogram_of(values, np.array([values.max() * 4])))
    assert low == 0
    assert high < values.max() * 2


@pytest.mark.parametrize("method", METHODS)
def test_the_range_of_zeros_is_empty(method):
    assert METHODS[method](histogram_of(np.zeros(10))) == (0, 0)


def test_mse_has_the_smallest_error_when_there_are_outliers():
    values = np.random.default_rng(1).standard_t(3, 100_000).astype(np.float32)
    histogram = histogram_of(values)
    errors = {
        name: np.mean((QuantParams.of_range(*METHODS[name](histogram)).rounded(values) - values) ** 2)
        for name in METHODS
    }
    assert errors["mse"] == min(errors.values()) < errors["minmax"]
