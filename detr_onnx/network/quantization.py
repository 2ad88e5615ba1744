"""Quantization to 8 bits, of activations and of weights.

A weight is `level · scale` with a level in -127..127 and a scale for each output channel. An activation is
`(level - zero_point) · scale` with a level in 0..255 and one scale for the whole tensor. Its range always includes 0,
so that padding and the zeros of ReLU are exact. A product of the two is an integer times both scales, and so is the
bias, in 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WEIGHT_LEVELS = 127  # on either side of 0; -128 is not used, so that 0 is in the middle
MAX_LEVEL = 255  # of an activation
MAX_BIAS_LEVEL = 2**30  # the other half of the 32 bits is for the products that are added to it
LEAST_SCALE = np.float32(1e-30)  # of weights that are not 0; times an activation's scale it is far from underflow


@dataclass(frozen=True)
class QuantParams:
    """The 256 values that an activation is rounded to: (level - zero_point) · scale for levels 0..255."""

    scale: float
    zero_point: int

    @classmethod
    def of_range(cls, low: float, high: float) -> QuantParams:
        """For the range from `low` to `high`, extended to include 0. An empty range has scale 1."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32((high - low) / MAX_LEVEL)) or 1.0
        return cls(scale, min(max(round(-low / scale), 0), MAX_LEVEL))

    def constants(self) -> tuple[Array, Array]:
        """Scale and zero point, as QuantizeLinear takes them."""
        return np.array(self.scale, np.float32), np.array(self.zero_point, np.uint8)

    def range(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return -self.zero_point * self.scale, (MAX_LEVEL - self.zero_point) * self.scale

    def rounded(self, values: Array) -> Array:
        """The values quantized and dequantized, float32."""
        levels = np.clip(np.rint(values / np.float32(self.scale)) + self.zero_point, 0, MAX_LEVEL)
        values = (levels - self.zero_point) * np.float32(self.scale)
        return values.astype(np.float32, copy=False)


@dataclass(frozen=True)
class ConvQuantParams:
    """Of a convolution's input, and of its output after the ReLU if one follows directly."""

    input: QuantParams
    output: QuantParams


def quantized(array: Array, axis: int, least_scale: Array | None = None) -> tuple[Array, Array]:
    """int8 levels, and a float32 scale for each slice along `axis` that broadcasts: levels · scale ≈ array.

    Args:
        array: weights.
        axis: of the output channels.
        least_scale: [out], for what has to be representable beside the weights, as `least_scale_for_bias`.
    """
    others = tuple(i for i in range(array.ndim) if i != axis)
    largest = np.abs(array).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(WEIGHT_LEVELS)
    scale = np.maximum(scale, LEAST_SCALE)
    if least_scale is not None:
        scale = np.maximum(scale, least_scale.reshape(scale.shape))
    exact = array / scale
    levels = np.rint(exact)
    if array.ndim == 4:
        levels = _with_exact_sums(levels, exact)
    return levels.astype(np.int8), scale


def _with_exact_sums(levels: Array, exact: Array) -> Array:
    """[out,in,kh,kw] levels, some rounded the other way, so that the sum over each window is exact to half a level.

    Neighbouring values of a feature map are nearly equal, so an error in the sum of the weights is one in the output.
    """
    error = (levels - exact).reshape(*levels.shape[:2], -1)
    excess = np.rint(error.sum(axis=-1, keepdims=True))
    order = np.argsort(error, axis=-1, kind="stable")  # those rounded down furthest come first
    rank = np.argsort(order, axis=-1, kind="stable")
    step = (rank < -excess).astype(np.float32) - (rank >= error.shape[-1] - excess)
    corrected: Array = np.clip(levels + step.reshape(levels.shape), -WEIGHT_LEVELS, WEIGHT_LEVELS)
    return corrected


def least_scale_for_bias(bias: Array, input_params: QuantParams) -> Array:
    """[out] float32, the least scales of weights with which no level of a bias exceeds `MAX_BIAS_LEVEL`.

    A channel that training has switched off has weights of almost 0. With their own scale, its bias would be cut off.
    """
    return (np.abs(bias) / (MAX_BIAS_LEVEL * input_params.scale)).astype(np.float32)


def bias_levels(bias: Array, weight_scale: Array, input_params: QuantParams) -> tuple[Array, Array]:
    """int32 levels and float32 scales [out] of a bias; its scale is that of the products of weights and input."""
    scale = weight_scale * np.float32(input_params.scale)
    return np.clip(np.rint(bias / scale.astype(np.float64)), -MAX_BIAS_LEVEL, MAX_BIAS_LEVEL).astype(np.int32), scale
