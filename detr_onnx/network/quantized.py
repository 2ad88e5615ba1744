"""Numbers in 8 bits: grids for what flows through the network, levels for its weights.

A weight is `level · scale` with a level in -127..127 and a scale for each output channel. What flows is
`(level - zero_point) · scale` with a level in 0..255 and one scale for all; its range always holds 0, so that padding
and what ReLU cuts off are exact. A product of the two is a whole number times both scales, and so is the bias, in 32
bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WEIGHT_LEVELS = 127  # on either side of 0; -128 is left out, so that 0 stays in the middle
GRID_LEVELS = 255  # above the lowest
SUM_LEVELS = 2**31 - 1


@dataclass(frozen=True)
class QuantParams:
    """The 256 values that a float is rounded to: (level - zero_point) · scale for levels 0..255."""

    scale: float
    zero_point: int

    @classmethod
    def of_range(cls, low: float, high: float) -> QuantParams:
        """The grid from `low`, or 0, to `high`, or 0; one of steps of 1 where there is nothing but 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32((high - low) / GRID_LEVELS)) or 1.0
        return cls(scale, min(max(round(-low / scale), 0), GRID_LEVELS))

    def constants(self) -> tuple[Array, Array]:
        """Scale and zero point as QuantizeLinear takes them."""
        return np.array(self.scale, np.float32), np.array(self.zero_point, np.uint8)

    def ends(self) -> tuple[float, float]:
        """The lowest value and the highest."""
        return -self.zero_point * self.scale, (GRID_LEVELS - self.zero_point) * self.scale

    def rounded(self, values: Array) -> Array:
        """The values as they come out of the grid, float32."""
        levels = np.clip(np.rint(values / np.float32(self.scale)) + self.zero_point, 0, GRID_LEVELS)
        back: Array = (levels - self.zero_point) * np.float32(self.scale)
        return back.astype(np.float32, copy=False)


@dataclass(frozen=True)
class ConvQuantParams:
    """What a convolution's input and output, after its ReLU where one follows at once, are rounded to."""

    input: QuantParams
    output: QuantParams


def quantized(array: Array, axis: int) -> tuple[Array, Array]:
    """int8 levels and a float32 scale for each slice along `axis`, shaped to be broadcast: levels · scale ≈ array."""
    others = tuple(i for i in range(array.ndim) if i != axis)
    largest = np.abs(array).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(WEIGHT_LEVELS)
    exact = array / scale
    levels = np.rint(exact)
    if array.ndim == 4:
        levels = _with_right_sums(levels, exact)
    return levels.astype(np.int8), scale


def _with_right_sums(levels: Array, exact: Array) -> Array:
    """[out,in,kh,kw] levels, some of them rounded the other way, so that each window's sum is right to half a level.

    Images are smooth: neighbours are nearly equal, and what a sum of weights is off by is what the answer is off by.
    """
    off = (levels - exact).reshape(*levels.shape[:2], -1)
    too_much = np.rint(off.sum(axis=-1, keepdims=True))
    order = np.argsort(off, axis=-1, kind="stable")  # those that were rounded down furthest first
    rank = np.argsort(order, axis=-1, kind="stable")
    step = (rank < -too_much).astype(np.float32) - (rank >= off.shape[-1] - too_much)
    right: Array = np.clip(levels + step.reshape(levels.shape), -WEIGHT_LEVELS, WEIGHT_LEVELS)
    return right


def bias_levels(bias: Array, weight_scale: Array, grid: QuantParams) -> tuple[Array, Array]:
    """int32 levels and float32 scales [out] of a bias, in the unit that the products of weights and input have."""
    scale = weight_scale * np.float32(grid.scale)
    return np.clip(np.rint(bias / scale.astype(np.float64)), -SUM_LEVELS, SUM_LEVELS).astype(np.int32), scale
