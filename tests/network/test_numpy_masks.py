"""Convolutions of resized maps, of one output channel, and group norm, compared with float64."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.network import numpy_masks
from detr_onnx.network.numpy_ops import NumpyOps, nearest
from detr_onnx.network.workspace import Workspace

TOLERANCE = 2e-5  # standard deviations: some thousand products are summed in float32
EPS = 1e-5


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    (H, W, _), padded = x.shape, np.pad(x, ((1, 1), (1, 1), (0, 0))).astype(np.float64)
    return sum(padded[i : i + H, j : j + W] @ kernel[i, j] for i, j in np.ndindex(3, 3))


@pytest.mark.parametrize("target", [(1, 1), (2, 1), (1, 2), (2, 2), (5, 8), (6, 7), (7, 3), (50, 67), (400, 41)])
@pytest.mark.parametrize("channels", [(3, 5), (32, 16)])
def test_a_convolution_of_a_doubled_map_is_that_of_the_resized_map(target, channels, monkeypatch):
    monkeypatch.setattr(numpy_masks, "BLOCK_FLOATS", 1 << 12)  # several blocks
    (H, W), (C, K) = target, channels
    x, kernel, residual = random(-(-H // 2), -(-W // 2), C), random(3, 3, C, K, seed=1), random(H, W, K, seed=2)
    assert numpy_masks.is_doubled(x.shape[:2], target)
    out = np.full((H, W, K), np.nan, np.float32)
    numpy_masks.convolve_doubled(x, kernel, residual, out, Workspace())
    resized = x[nearest(len(x), H)][:, nearest(x.shape[1], W)]
    expected = residual + convolved(resized, kernel)
    assert np.abs(out - expected).max() < TOLERANCE * expected.std()


@pytest.mark.parametrize("target", [(4, 6), (9, 11)], ids=["same", "other"])
def test_a_map_that_is_not_doubled_is_resized(target):
    x, kernel, residual = random(4, 6, 8), random(3, 3, 8, 5, seed=1), random(*target, 5, seed=2)
    assert not numpy_masks.is_doubled(x.shape[:2], target)
    found = NumpyOps({"lay3.weight": kernel}).conv_resized("lay3", x[None], residual[None])[0]
    expected = residual + convolved(x[nearest(4, target[0])][:, nearest(6, target[1])], kernel)
    assert np.abs(found - expected).max() < TOLERANCE * expected.std()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (31, 44)])
def test_a_convolution_to_one_channel_is_a_convolution(size):
    x, kernel = random(*size, 16), random(3, 3, 16, 1, seed=1)
    out = np.full((*size, 1), np.nan, np.float32)
    numpy_masks.convolve_to_plane(x, kernel, np.full(1, 2, np.float32), out, Workspace())
    assert np.abs(out - 2 - convolved(x, kernel)).max() < TOLERANCE * 16


@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (8, 8), (4, 8), (264, 8)])
def test_group_norm_is_exact_even_far_from_zero(offset, channels, groups, monkeypatch):
    monkeypatch.setattr(numpy_masks, "PIECE_FLOATS", 1 << 10)
    x = random(19, 23, channels) * np.linspace(0.5, 3, channels, dtype=np.float32) + np.float32(offset)
    weight, bias = random(channels, seed=1), random(channels, seed=2)
    out = np.full_like(x, np.nan)
    numpy_masks.normalize(x, weight, bias, groups, EPS, out)
    grouped = x.astype(np.float64).reshape(19, 23, min(groups, channels), -1)
    mean, variance = (of(axis=(0, 1, 3), keepdims=True) for of in (grouped.mean, grouped.var))
    expected = np.maximum(((grouped - mean) / np.sqrt(variance + EPS)).reshape(x.shape) * weight + bias, 0)
    assert np.abs(out - expected).max() < TOLERANCE * (1 + offset / 10)  # so far off, float32 itself is coarser
