"""Every operation agrees with its definition, written here as a simple loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detr_onnx.network import numpy_conv
from detr_onnx.network.numpy_ops import NumpyOps, nearest

# A sum of up to a thousand products in float32 against the same in float64, both of numbers around 1.
SUM_TOLERANCE = 2e-5
WINOGRAD_TOLERANCE = 5e-5  # the same, with larger intermediate values that cancel
ROUNDING = 1e-6


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def convolution(x, kernel, bias, stride, dilation):
    """[B,h,w,in] by [kh,kw,in,out], one output at a time, in float64."""
    kh, kw, _, channels = kernel.shape
    border = dilation * (kh - 1) // 2
    padded = np.pad(x.astype(np.float64), ((0, 0), (border, border), (border, border), (0, 0)))
    h = (padded.shape[1] - dilation * (kh - 1) - 1) // stride + 1
    w = (padded.shape[2] - dilation * (kw - 1) - 1) // stride + 1
    out = np.zeros((len(x), h, w, channels))
    for i, j in np.ndindex(h, w):
        top, left = i * stride, j * stride
        window = padded[:, top : top + dilation * kh : dilation, left : left + dilation * kw : dilation][:, :kh, :kw]
        out[:, i, j] = np.tensordot(window, kernel, 3) + bias
    return out


@pytest.mark.parametrize("hw", [(1, 1), (2, 5), (7, 6), (9, 13)])
@pytest.mark.parametrize(("kernel", "stride", "dilation"),
                         [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (7, 2, 1)])  # fmt: skip
def test_convolution(kernel, stride, dilation, hw):
    weights = {"c.weight": normal(1, kernel, kernel, 5, 4), "c.bias": normal(2, 4)}
    x = normal(3, 2, *hw, 5)
    truth = convolution(x, weights["c.weight"], weights["c.bias"], stride, dilation)
    tolerance = WINOGRAD_TOLERANCE if (kernel, stride, dilation) == (3, 1, 1) else SUM_TOLERANCE
    found = NumpyOps(weights).conv("c", x, stride=stride, dilation=dilation)
    assert found.shape == truth.shape
    np.testing.assert_allclose(found, truth, atol=tolerance)
    residual = normal(4, *truth.shape)
    found = NumpyOps(weights).conv("c", x, stride=stride, dilation=dilation, relu=True, residual=residual)
    np.testing.assert_allclose(found, np.maximum(truth + residual, 0), atol=tolerance)


def test_convolution_in_small_blocks(monkeypatch):
    weights = {"c.weight": normal(1, 3, 3, 5, 4), "c.bias": normal(2, 4)}
    x, residual = normal(3, 2, 19, 23, 5), normal(4, 2, 19, 23, 4)
    dilated = {"dilation": 2, "relu": True, "residual": residual}  # without dilation, Winograd would be used
    whole = NumpyOps(weights).conv("c", x, **dilated)
    monkeypatch.setattr(numpy_conv, "BLOCK_FLOATS", 3000)  # a few rows at a time
    np.testing.assert_allclose(NumpyOps(weights).conv("c", x, **dilated), whole, atol=ROUNDING)


def test_arguments_are_not_modified():
    bias = normal(2, 4)
    weights = {"l.weight": normal(1, 4, 4), "n.weight": bias, "c.weight": normal(1, 1, 1, 4, 4)}
    weights |= {"l.bias": bias, "n.bias": bias, "c.bias": bias}
    ops, x, q = NumpyOps(weights), normal(3, 1, 3, 5, 4), normal(4, 1, 6, 4)
    before = x.copy(), q.copy()
    ops.conv("c", x, relu=True, residual=x)
    ops.conv_max_pool("c", x, stride=1)
    ops.linear("l", q, plus=q, relu=True)
    ops.attention(q, q, q, 2, None)
    ops.layer_norm("n", q)
    ops.sigmoid(q)
    assert np.array_equal(before[0], x)
    assert np.array_equal(before[1], q)


@pytest.mark.parametrize("block", [1, 300, 1 << 21])
@pytest.mark.parametrize("hw", [(1, 1), (1, 7), (3, 6), (4, 3), (9, 16), (14, 13), (19, 5)])
def test_conv_max_pool(hw, block, monkeypatch):
    x, weights = normal(1, 2, *hw, 3), {"c.weight": normal(2, 7, 7, 3, 4), "c.bias": normal(3, 4)}
    conv = NumpyOps(weights).conv("c", x, stride=2, relu=True)
    monkeypatch.setattr("detr_onnx.network.numpy_conv.BLOCK_FLOATS", block)
    pooled = NumpyOps(weights).conv_max_pool("c", x, stride=2)
    h, w = -(-hw[0] // 4), -(-hw[1] // 4)
    assert pooled.shape == (2, h, w, 4)
    for i, j in np.ndindex(h, w):
        window = conv[:, max(0, 2 * i - 1) : 2 * i + 2, max(0, 2 * j - 1) : 2 * j + 2]
        np.testing.assert_allclose(pooled[:, i, j], window.max(axis=(1, 2)), rtol=0, atol=10 * ROUNDING)


def test_tokens_are_the_cells_row_by_row():
    assert NumpyOps({}).tokens(np.arange(6, dtype="f4").reshape(1, 2, 3, 1))[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_nearest_depends_on_the_ratio_of_the_sizes():
    assert nearest(100, 4).tolist() == [0, 25, 50, 75]
    assert nearest(1, 1).tolist() == [0]
    assert nearest(33, 2).tolist() == [0, 16]
    assert nearest(64, 34).tolist() == [math.floor(i * 64 / 34) for i in range(34)]  # a mask of another size


@pytest.mark.parametrize("cells", [1, 2, 25, 34, 42])
def test_nearest_stays_in_the_image(cells):
    for pixels in range(1, 1400):
        chosen = nearest(pixels, cells)
        assert chosen[0] >= 0
        assert chosen[-1] < pixels


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_valid_cells_of_masks_of_any_type(dtype):
    mask = np.zeros((2, 64, 96), dtype)
    mask[0, :40, :64] = mask[1] = 1
    valid = NumpyOps({}).valid_cells(np.zeros((2, 2, 3, 1), np.float32), mask)
    assert valid.tolist() == [[[1, 1, 0], [1, 1, 0]], [[1, 1, 1], [1, 1, 1]]]
    assert valid.dtype == np.float32


def test_without_a_mask_every_cell_is_valid():
    assert NumpyOps({}).valid_cells(np.zeros((5, 2, 3, 1), np.float32), None).tolist() == [[[1, 1, 1], [1, 1, 1]]]


def test_linear_with_addend_scale_and_relu():
    weights = {"l.weight": normal(1, 4, 6), "l.bias": normal(2, 4)}
    x, plus = normal(3, 2, 5, 6), normal(4, 1, 5, 6)
    truth = ((x + plus).astype(np.float64) @ weights["l.weight"].T + weights["l.bias"]) * 0.25
    ops = NumpyOps(weights)
    np.testing.assert_allclose(ops.linear("l", x, plus=plus, scale=0.25), truth, atol=SUM_TOLERANCE)
    np.testing.assert_allclose(
        ops.linear("l", x, plus=plus, scale=0.25, relu=True), np.maximum(truth, 0), atol=SUM_TOLERANCE
    )


def attention_by_definition(q, k, v, heads, bias):
    out = np.zeros(q.shape)
    d = q.shape[-1] // heads
    for b, m, i in np.ndindex(len(q), heads, q.shape[1]):
        part = np.s_[m * d : (m + 1) * d]
        scores = k[b, :, part].astype(np.float64) @ q[b, i, part] + (0 if bias is None else bias[b, 0, 0])
        shares = np.exp(scores - scores.max())
        out[b, i, part] = shares / shares.sum() @ v[b, :, part]
    return out


@pytest.mark.parametrize("masked", [False, True])
def test_attention(masked):
    q, k, v = normal(1, 2, 3, 8), normal(2, 2, 5, 8), normal(3, 2, 5, 8)
    ops = NumpyOps({})
    bias = ops.key_bias(np.float32([[[1, 1, 1, 0, 0]], [[1, 1, 1, 1, 1]]])) if masked else None
    np.testing.assert_allclose(
        ops.attention(q, k, v, 2, bias), attention_by_definition(q, k, v, 2, bias), atol=ROUNDING
    )


def test_padding_has_no_effect_on_attention():
    q, k, v = normal(1, 1, 3, 8), normal(2, 1, 5, 8), normal(3, 1, 5, 8)
    ops = NumpyOps({})
    bias = ops.key_bias(np.float32([[[1, 1, 0, 0, 0]]]))
    other = v.copy()
    other[:, 2:] = 1e30
    assert np.array_equal(ops.attention(q, k, v, 2, bias), ops.attention(q, k, other, 2, bias))


def test_attention_to_padding_alone_is_finite():
    q = normal(1, 1, 3, 8)
    ops = NumpyOps({})
    assert np.isfinite(ops.attention(q, q, q, 2, ops.key_bias(np.zeros((1, 1, 3), np.float32)))).all()


def test_attention_with_large_scores_does_not_overflow():
    q = np.full((1, 2, 4), 1e4, np.float32)
    assert np.isfinite(NumpyOps({}).attention(q, q, q, 1, None)).all()


def test_layer_norm():
    weights = {"n.weight": normal(1, 16), "n.bias": normal(2, 16)}
    x = normal(3, 2, 5, 16) + 7
    exact = x.astype(np.float64)
    truth = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
    truth = truth * weights["n.weight"] + weights["n.bias"]
    np.testing.assert_allclose(NumpyOps(weights).layer_norm("n", x), truth, atol=SUM_TOLERANCE)


def test_layer_norm_of_a_constant_is_its_bias():
    weights = {"n.weight": np.ones(4, "f4"), "n.bias": np.float32([1, 2, 3, 4])}
    assert NumpyOps(weights).layer_norm("n", np.full((1, 1, 4), 3, np.float32)).tolist() == [[[1, 2, 3, 4]]]


def test_sigmoid_saturates_without_a_warning():
    found = NumpyOps({}).sigmoid(np.float32([-1000, -1, 0, 1, 1000]))
    np.testing.assert_allclose(found, [0, 1 / (1 + math.e), 0.5, 1 / (1 + 1 / math.e), 1], atol=ROUNDING)


def test_interleave_alternates():
    assert NumpyOps({}).interleave(np.float32([[1, 3]]), np.float32([[2, 4]])).tolist() == [[1, 2, 3, 4]]


def test_the_path_of_a_module_names_its_parameters():
    ops = NumpyOps({"a.b.weight": np.ones(2, "f4"), "a.b.bias": np.ones(2, "f4")})
    assert ops.at("a").has("b")
    assert not ops.has("b")
    assert ops.at("a").parameter("b.weight").shape == (1, 2)


def test_stages_are_collected_only_if_requested_and_copied():
    stages: dict[str, np.ndarray] = {}
    feature = np.arange(6, dtype="f4").reshape(1, 1, 2, 3)
    ops = NumpyOps({}, stages=stages).at("module")
    assert ops.stage("map", feature) is feature
    feature[:] = 0
    assert stages["map"].tolist() == [[[[0, 3]], [[1, 4]], [[2, 5]]]]
    assert NumpyOps({}).stage("map", feature) is feature


def test_queries_above_a_threshold_are_found_for_logits_of_any_size():
    logits = np.array([[[1e4, 0, -1e4], [-1e4, -1e4 + 3, -1e4], [0, 0, 1e4], [5, 9, 0]]], np.float32)
    assert NumpyOps({}).above(logits, np.full(1, 0.5, np.float32)).tolist() == [[0, 0], [0, 1], [0, 3]]
