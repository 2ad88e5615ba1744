"""Numbers in 8 bits: grids hold 0 and their ends, weights keep their sums, ranges are what each method says."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.exporter.ranges import METHODS, Histogram
from detr_onnx.network.quantized import GRID_LEVELS, QuantParams, bias_levels, quantized

RANGES = [(0.0, 6.0), (-2.0, 2.6), (-3.0, 0.0), (0.0, 1e-6), (-1e-3, 900.0)]
HALF_A_LEVEL = 0.5 + 1e-3  # float32 rounds on its own


def seen(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part.astype(np.float32))
    return histogram


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_a_grid_has_0_exactly_and_everything_in_its_range_to_half_a_level(low, high):
    grid = QuantParams.of_range(low, high)
    assert grid.rounded(np.zeros(1, np.float32)) == 0
    assert 0 <= grid.zero_point <= GRID_LEVELS
    values = np.linspace(low, high, 1000, dtype=np.float32)
    assert np.abs(grid.rounded(values) - values).max() <= 2 * HALF_A_LEVEL * grid.scale  # 0 itself moves both ends
    first, last = grid.ends()
    assert grid.rounded(np.array([-1e9, 1e9], np.float32)) == pytest.approx([first, last], rel=1e-5)


def test_a_range_without_0_is_widened_to_it_and_one_of_nothing_has_a_grid():
    assert QuantParams.of_range(2, 5) == QuantParams.of_range(0, 5)
    assert QuantParams.of_range(-5, -2) == QuantParams.of_range(-5, 0)
    assert QuantParams.of_range(0, 0) == QuantParams(1.0, 0)


def test_a_kernel_s_windows_keep_their_sums():
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


def test_a_bias_is_in_the_unit_of_the_products_and_never_overflows():
    levels, scale = bias_levels(
        np.array([1.0, -2.0, 1e30]), np.array([0.01, 0.02, 1e-9], np.float32), QuantParams(0.5, 0)
    )
    np.testing.assert_allclose(scale, [0.005, 0.01, 5e-10], rtol=1e-6)
    assert levels.dtype == np.int32
    assert levels.tolist() == [200, -200, 2**31 - 1]


# What was seen


def test_a_histogram_counts_everything_however_far_it_has_to_widen():
    values = np.random.default_rng(1).normal(size=1000)
    histogram = seen(values, 1e4 * values, np.zeros(5))
    assert histogram.counts.sum() == 2005
    assert (histogram.low, histogram.high) == (np.float32(1e4 * values.min()), np.float32(1e4 * values.max()))
    assert histogram.limit >= 1e4 * np.abs(values).max()


def test_the_order_of_what_is_seen_does_not_matter():
    small, large = np.linspace(-1, 1, 999), np.linspace(0, 100, 999)
    one, other = seen(small, large), seen(large, small)
    assert one.limit == other.limit
    assert np.abs(one.counts.cumsum() - other.counts.cumsum()).max() <= 2  # of those that lie on the edge of a bin


def test_minmax_takes_all_and_the_others_no_more():
    values = np.random.default_rng(1).normal(size=100_000)
    histogram = seen(values)
    low, high = METHODS["minmax"](histogram)
    assert (low, high) == (np.float32(values.min()), np.float32(values.max()))
    for find in METHODS.values():
        found = find(histogram)
        assert low <= found[0] < 0 < found[1] <= high


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_one_outlier_among_many_is_cut_off(method):
    values = np.abs(np.random.default_rng(1).normal(size=200_000))
    low, high = METHODS[method](seen(values, np.array([values.max() * 4])))
    assert low == 0
    assert high < values.max() * 2


@pytest.mark.parametrize("method", METHODS)
def test_values_that_are_all_0_have_a_range(method):
    assert METHODS[method](seen(np.zeros(10))) == (0, 0)


def test_squares_errs_less_than_minmax_where_there_are_outliers():
    values = np.random.default_rng(1).standard_t(3, 100_000).astype(np.float32)
    histogram = seen(values)
    errors = {
        name: np.mean((QuantParams.of_range(*METHODS[name](histogram)).rounded(values) - values) ** 2)
        for name in METHODS
    }
    assert errors["mse"] == min(errors.values()) < errors["minmax"]
