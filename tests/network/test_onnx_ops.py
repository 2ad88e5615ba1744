"""The recorded graph computes what `numpy_ops` computes; what does not depend on inputs is computed beforehand."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from detr_onnx.exporter.proto import model_proto
from detr_onnx.network.graph import Graph
from detr_onnx.network.numpy_ops import NumpyOps, nearest
from detr_onnx.network.onnx_ops import OnnxOps
from detr_onnx.network.quantization import ConvQuantParams, QuantParams

ROUNDING = 3e-6  # one operation, summed in another order


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


WEIGHTS = {
    "conv.weight": normal(1, 3, 3, 4, 6),
    "conv.bias": normal(2, 6),
    "linear.weight": normal(3, 8, 8),
    "linear.bias": normal(4, 8),
    "norm.weight": normal(5, 8),
    "norm.bias": normal(6, 8),
}


def run_recorded(call, *arrays):
    """What ONNX Runtime computes with the graph that `call(ops, *symbols)` records, given the arrays."""
    graph = Graph()
    feeds = {f"input{i}": array for i, array in enumerate(arrays)}
    symbols = [graph.input(name, array.dtype, [None] * array.ndim) for name, array in feeds.items()]
    graph.add_output(call(OnnxOps(WEIGHTS, graph, path=("module",)), *symbols), "result")
    session = onnxruntime.InferenceSession(model_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def under(prefix: str) -> NumpyOps:
    return NumpyOps({f"{prefix}.{name}": value for name, value in WEIGHTS.items()}, prefix)


@pytest.fixture(autouse=True)
def weights_of_the_module(monkeypatch):
    for name, value in list(WEIGHTS.items()):
        if not name.startswith("module."):
            monkeypatch.setitem(WEIGHTS, f"module.{name}", value)


def nchw(feature: np.ndarray) -> np.ndarray:
    return feature.transpose(0, 3, 1, 2)


def test_nothing_is_recorded_when_all_arguments_are_arrays():
    graph = Graph()
    ops = OnnxOps(WEIGHTS, graph)
    x = normal(1, 1, 5, 8)
    y = ops.layer_norm("norm", ops.add(ops.attention(x, ops.linear("linear", x), x, 2, None), x))
    assert isinstance(y, np.ndarray)
    assert graph == Graph()
    numpy = NumpyOps(WEIGHTS)
    truth = numpy.layer_norm("norm", numpy.add(numpy.attention(x, numpy.linear("linear", x), x, 2, None), x))
    assert np.array_equal(y, truth)


@pytest.mark.parametrize("hw", [(1, 1), (5, 8)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_a_convolution_with_residual_and_relu(stride, dilation, hw):
    x = normal(7, 2, *hw, 4)
    plain = under("module").conv("conv", x, stride=stride, dilation=dilation)
    residual = normal(8, *plain.shape)
    truth = under("module").conv("conv", x, stride=stride, dilation=dilation, relu=True, residual=residual)
    found = run_recorded(
        lambda ops, x, r: ops.conv("conv", x, stride=stride, dilation=dilation, relu=True, residual=r),
        nchw(x),
        nchw(residual),
    )
    np.testing.assert_allclose(found, nchw(truth), atol=10 * ROUNDING)


@pytest.mark.parametrize("hw", [(1, 1), (5, 14), (12, 12)])
def test_conv_max_pool_and_tokens(hw):
    x = normal(7, 2, *hw, 4)

    def pooled(ops, x):
        return ops.tokens(ops.conv_max_pool("conv", x, stride=2))

    found = run_recorded(pooled, nchw(x))
    np.testing.assert_allclose(found, pooled(under("module"), x), atol=10 * ROUNDING)


@pytest.mark.parametrize("plus", ["a symbol", "a constant", None])
@pytest.mark.parametrize("scale", [1.0, 0.125])
def test_linear_with_a_position(plus, scale):
    x, p = normal(7, 2, 5, 8), normal(8, 1, 5, 8)
    truth = under("module").linear("linear", x, plus=None if plus is None else p, scale=scale, relu=True)
    if plus == "a symbol":
        found = run_recorded(lambda ops, x, p: ops.linear("linear", x, plus=p, scale=scale, relu=True), x, p)
    else:
        known = p if plus else None
        found = run_recorded(lambda ops, x: ops.linear("linear", x, plus=known, scale=scale, relu=True), x)
    np.testing.assert_allclose(found, truth, atol=10 * ROUNDING)


@pytest.mark.parametrize("known", ["", "q", "k", "v", "kv"])
def test_attention_with_some_constant_arguments(known):
    arrays = {"q": normal(1, 1, 3, 8), "k": normal(2, 1, 5, 8), "v": normal(3, 1, 5, 8)}
    symbolic = [name for name in arrays if name not in known]

    def call(ops, *symbols):
        values = arrays | dict(zip(symbolic, symbols, strict=True))
        return ops.attention(values["q"], values["k"], values["v"], 2, None)

    truth = NumpyOps({}).attention(arrays["q"], arrays["k"], arrays["v"], 2, None)
    np.testing.assert_allclose(run_recorded(call, *(arrays[name] for name in symbolic)), truth, atol=ROUNDING)


def test_attention_with_a_key_bias():
    q, k, valid = normal(1, 2, 3, 8), normal(2, 2, 6, 8), np.float32([[[1, 1, 0], [1, 1, 0]], [[1, 1, 1], [0, 0, 0]]])
    found = run_recorded(lambda ops, q, k, valid: ops.attention(q, k, k, 2, ops.key_bias(valid)), q, k, valid)
    truth = NumpyOps({}).attention(q, k, k, 2, NumpyOps({}).key_bias(valid))
    np.testing.assert_allclose(found, truth, atol=ROUNDING)


def test_a_convolution_in_int8_keeps_the_bias_of_a_channel_whose_weights_are_almost_0():
    kernel, bias = WEIGHTS["conv.weight"].copy(), WEIGHTS["conv.bias"]
    kernel[..., :3] *= np.array([1e-9, 1e-20, 1e-40], np.float32)
    inputs, outputs = QuantParams.of_range(-4, 4), QuantParams.of_range(-30, 30)
    graph = Graph()
    ops = OnnxOps(
        {"conv.weight": kernel, "conv.bias": bias},
        graph,
        precision="int8",
        quant_params={"conv": ConvQuantParams(inputs, outputs)},
    )
    graph.add_output(ops.conv("conv", graph.input("x", shape=[None] * 4)), "y")
    session = onnxruntime.InferenceSession(model_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": normal(9, 1, 4, 5, 6)})
    expected = np.broadcast_to(bias[:3, None, None], y[0, :3].shape)
    np.testing.assert_allclose(y[0, :3], expected, rtol=0, atol=0.51 * outputs.scale)


def test_layer_norm():
    x = normal(7, 2, 5, 8) + 3
    found = run_recorded(lambda ops, x: ops.layer_norm("norm", x), x)
    np.testing.assert_allclose(found, under("module").layer_norm("norm", x), atol=10 * ROUNDING)


ELEMENTWISE = {
    "sigmoid": lambda ops, x: ops.sigmoid(x),
    "sin": lambda ops, x: ops.sin(x),
    "cos": lambda ops, x: ops.cos(x),
    "add a number": lambda ops, x: ops.add(x, 0.5),
    "multiply by a number": lambda ops, x: ops.multiply(x, 3.0),
    "divide": lambda ops, x: ops.divide(x, ops.constant((2.0, 4.0, 8.0))),
    "interleave": lambda ops, x: ops.interleave(x, ops.multiply(x, 2.0)),
    "concatenate": lambda ops, x: ops.concatenate(x, ops.add(x, 1.0)),
    "cumulative sum": lambda ops, x: ops.cumulative_sum(x, 1),
    "last": lambda ops, x: ops.last(x, 2),
    "column": lambda ops, x: ops.column(x),
}


@pytest.mark.parametrize("operation", ELEMENTWISE)
def test_arithmetic(operation):
    x = normal(7, 2, 4, 3)
    truth = ELEMENTWISE[operation](NumpyOps({}), x)
    found = run_recorded(ELEMENTWISE[operation], x)
    assert found.shape == truth.shape
    np.testing.assert_allclose(found, truth, atol=ROUNDING)


@pytest.mark.parametrize("mask_hw", [(64, 64), (1, 1), (33, 47), (800, 1066), (1333, 801)])
@pytest.mark.parametrize("cells_hw", [(1, 1), (2, 2), (25, 34), (42, 25)])
def test_valid_cells_of_a_mask_of_any_size(mask_hw, cells_hw):
    mask = (np.random.RandomState(1).random_sample((2, *mask_hw)) < 0.5).astype(np.int64)
    feature = np.zeros((2, 1, *cells_hw), np.float32)
    truth = NumpyOps({}).valid_cells(feature.transpose(0, 2, 3, 1), mask)
    assert np.array_equal(run_recorded(lambda ops, f, m: ops.valid_cells(f, m), feature, mask), truth)


def test_for_a_fixed_shape_the_pixels_to_gather_are_constants():
    graph = Graph()
    ops = OnnxOps({}, graph, cells_hw=(3, 4), mask_hw=(96, 128))
    ops.valid_cells(graph.input("feature"), graph.input("mask"))
    assert {node.op_type for node in graph.nodes} == {"Gather", "Cast"}
    assert nearest(96, 3).tolist() in [constant.array.tolist() for constant in graph.constants.values()]
