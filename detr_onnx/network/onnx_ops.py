"""The operations, recorded: a method that gets symbols records nodes of an ONNX graph and returns symbols.

A method whose inputs are all arrays computes its result at once with `numpy_ops`. So whatever does not depend on the
image (positions of a fixed shape and their products, the first decoder layer's self-attention) is a constant before any
optimizer sees the graph.

Feature maps are NCHW, as in ONNX. Nothing here imports `onnx`: `exporter/proto.py` turns a `Graph` into a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from detr_onnx.network.graph import BOOL, HALF, INT64, MICROSOFT, SINGLE, Array, Attribute, Symbol, Value
from detr_onnx.network.numpy_ops import LAYER_NORM_EPS, PADDING_BIAS, NumpyOps, nearest
from detr_onnx.network.onnx_masks import MaskRecorder
from detr_onnx.network.quantization import QuantParams, bias_levels, least_scale_for_bias, quantized

Method = TypeVar("Method", bound=Callable[..., Any])


def computed_if_constant(method: Method) -> Method:
    """Makes a recording method compute with `NumpyOps` when no argument is a symbol."""

    @wraps(method)
    def either(self: OnnxOps, *args: Any) -> Any:
        is_recorded = any(isinstance(value, Symbol) for value in args)
        return method(self, *args) if is_recorded else getattr(self._numpy, method.__name__)(*args)

    return cast(Method, either)


@dataclass(frozen=True)
class OnnxOps(MaskRecorder):
    """`ops.Ops` over symbols and arrays."""

    @property
    def _numpy(self) -> NumpyOps:
        """The same operations, computed."""
        return NumpyOps(self.parameters, ".".join(self.path))

    # feature maps, NCHW

    def image(self, pixels: Value) -> Value:
        return self._half(pixels) if self.precision == "fp16" else pixels

    def conv(
        self,
        name: str,
        x: Value,
        *,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = False,
        residual: Value | None = None,
    ) -> Value:
        kernel, bias = self._weights(name)
        kh, kw = kernel.shape[:2]
        attributes: dict[str, Attribute] = {
            "kernel_shape": (kh, kw),
            "strides": (stride, stride),
            "pads": (dilation * (kh - 1) // 2, dilation * (kw - 1) // 2) * 2,
            "dilations": (dilation, dilation),
        }
        inner, quant_params, x = self.at(name), self.quant_params.get(self._full_name(name)), cast(Symbol, x)
        if quant_params:
            x = inner._round(x, quant_params.input)
        weights = self._kernel(name, kernel.transpose(3, 2, 0, 1), bias, x.quant_params)
        y = inner._node("Conv", x, *weights, attributes=attributes)
        y = inner._node("Relu", y) if relu and residual is None else y
        self.graph.convolutions[self._full_name(name)] = x, y
        y = inner._round(y, quant_params.output) if quant_params else y
        if not isinstance(residual, Symbol):
            return y
        if quant_params:  # the sum is in int8 too: in float, its passes over memory take a quarter of the run time
            residual = self.graph.dequantized(residual)
        y = inner._node("Add", y, residual)
        return inner._node("Relu", y) if relu else y

    def _kernel(self, name: str, kernel: Array, bias: Array, input_params: QuantParams | None) -> tuple[Symbol, Symbol]:
        """Kernel [out,in,kh,kw] and bias of a convolution; in 8 and 32 bits if it is computed so."""
        if input_params is None or self._full_name(name) not in self.quant_params:
            return self._constant(f"{name}.weight", kernel, channel_axis=0), self._constant(f"{name}.bias", bias)
        levels, scale = quantized(kernel, 0, least_scale_for_bias(bias, input_params))
        scale = scale.reshape(-1)
        sums, sums_scale = bias_levels(bias, scale, input_params)
        return self._unpacked(f"{name}.weight", levels, scale), self._unpacked(f"{name}.bias", sums, sums_scale)

    def _round(self, x: Symbol, quant_params: QuantParams) -> Symbol:
        return self.graph.quantize_dequantize(x, self.path, quant_params)

    def conv_max_pool(self, name: str, x: Value, *, stride: int) -> Value:
        y = cast(Symbol, self.conv(name, x, stride=stride, relu=True))
        attributes = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
        pooled = self._node("MaxPool", y, attributes=attributes)
        return self._round(pooled, y.quant_params) if y.quant_params else pooled  # the same levels: it stays in int8

    def tokens(self, feature: Value) -> Value:
        rows = self._reshape(cast(Symbol, feature), (0, 0, -1))  # [B,C,h,w] -> [B,C,N]
        return self._transpose(rows, (0, 2, 1))

    def valid_cells(self, feature: Value, mask: Value | None) -> Value:
        if mask is None:
            return self._ones(feature)
        rows, columns = self._nearest(feature, mask, 0), self._nearest(feature, mask, 1)
        picked = self._node("Gather", mask, rows, attributes={"axis": 1})  # [B,H,W] -> [B,h,W]
        picked = self._node("Gather", picked, columns, attributes={"axis": 2})  # [B,h,W] -> [B,h,w]
        return self._cast(self._cast(picked, BOOL), SINGLE)

    def _ones(self, feature: Value) -> Value:
        """[1,h,w] of ones."""
        if self.cells_hw:
            return np.ones((1, *self.cells_hw), np.float32)
        shape = self._node("Concat", np.array([1], np.int64), self._shape(feature, 2), attributes={"axis": 0})
        return self._node("ConstantOfShape", shape, attributes={"value": np.ones(1, np.float32)}, dtype=SINGLE)

    def _nearest(self, feature: Value, mask: Value, axis: int) -> Value:
        """`numpy_ops.nearest`, rows for axis 0 and columns for axis 1."""
        if self.cells_hw and self.mask_hw:
            return nearest(self.mask_hw[axis], self.cells_hw[axis])
        cells, pixels = self._shape(feature, 2 + axis, 3 + axis), self._shape(mask, 1 + axis, 2 + axis)
        scale = self._node("Div", self._cast(pixels, SINGLE), self._cast(cells, SINGLE))
        count = self._node("Squeeze", cells)
        numbers = self._node("Range", np.array(0, np.int64), count, np.array(1, np.int64))
        floor = self._node("Floor", self._node("Mul", self._cast(numbers, SINGLE), scale))
        limit = self._node("Sub", pixels, np.array([1], np.int64))
        return self._node("Min", self._cast(floor, INT64), limit)

    # tokens

    def linear(
        self, name: str, x: Value, *, plus: Value | None = None, scale: float = 1.0, relu: bool = False
    ) -> Value:
        if not isinstance(x, Symbol) and not isinstance(plus, Symbol):
            return self._numpy.linear(name, x, plus=plus, scale=scale, relu=relu)
        weight, bias = self._weights(name)
        weight, bias = weight.T * np.float32(scale), bias * np.float32(scale)
        if isinstance(plus, np.ndarray):  # W(x + p) + b = Wx + (Wp + b), a constant
            bias, plus = np.matmul(plus, weight) + bias, None
        inner = self.at(name)
        if plus is not None:
            x = inner._node("Add", x, plus)
        y = inner._node("MatMul", x, self._constant(f"{name}.weight", weight, channel_axis=1))
        y = inner._node("Add", y, self._constant(f"{name}.bias", bias))
        return inner._node("Relu", y) if relu else y

    @computed_if_constant
    def attention(self, q: Value, k: Value, v: Value, heads: int, key_bias: Value | None) -> Value:
        q, k, v = (self._split(x, heads) for x in (q, k, v))  # [B,N,D] -> [B,N,M,d]
        if self.fused_attention and isinstance(k, Symbol):
            return self._fused(q if isinstance(q, Symbol) else self._expanded(q, k), k, v, heads, key_bias)
        result = self._node("MatMul", self._softmax(q, k, key_bias), self._permuted(v, (0, 2, 1, 3)))  # [B,M,Nq,d]
        return self._join(self._transpose(result, (0, 2, 1, 3)))

    def _softmax(self, q: Value, k: Value, key_bias: Value | None) -> Symbol:
        """[B,Nq,M,d], [B,Nk,M,d] -> [B,M,Nq,Nk], which sum to 1 over the keys."""
        scores = self._node("MatMul", self._permuted(q, (0, 2, 1, 3)), self._permuted(k, (0, 2, 3, 1)))
        if key_bias is not None:
            scores = self._node("Add", scores, self._permuted(key_bias, (0, 2, 3, 1)))  # [B,Nk,1,1] -> [B,1,1,Nk]
        return self._node("Softmax", scores, attributes={"axis": -1})

    def _fused(self, q: Symbol, k: Value, v: Value, heads: int, key_bias: Value | None) -> Value:
        """Attention as one node. It would expand a bias to [B,M,Nq,Nk], so the bias is one more feature of each head.

        (q, 1) · (k, bias) = q · k + bias.
        """
        if key_bias is not None:
            bias = self._node("Mul", key_bias, np.ones((1, 1, heads, 1), np.float32))  # [B,Nk,1,1] -> [B,Nk,M,1]
            with_one = np.array([0, 0, 0, 0, 0, 0, 0, 1], np.int64), np.array(1, np.float32)
            q, k = (
                self._node("Pad", q, *with_one),
                self._node("Concat", k, bias, attributes={"axis": -1}),
            )  # [B,N,M,d+1]
        joined = [self._join(x) for x in (q, k, v)]
        attributes: dict[str, Attribute] = {"num_heads": heads, "scale": 1.0}
        return self.graph.node("MultiHeadAttention", self.path, joined, attributes, domain=MICROSOFT)

    def _expanded(self, x: Array, batch: Symbol) -> Symbol:
        """[1,N,M,d] -> [B,N,M,d], in the type of the batch: the fused node does not broadcast."""
        shape = self._node("Concat", self._shape(batch, 0, 1), np.ones(3, np.int64), attributes={"axis": 0})
        return self._node("Expand", x.astype(batch.dtype), shape)

    def _split(self, x: Value, heads: int) -> Value:
        """[B,N,D] -> [B,N,M,d]."""
        return self._reshape(x, (0, 0, heads, -1)) if isinstance(x, Symbol) else x.reshape(*x.shape[:2], heads, -1)

    def _join(self, x: Value) -> Value:
        """[B,N,M,d] -> [B,N,D]."""
        return self._reshape(x, (0, 0, -1)) if isinstance(x, Symbol) else x.reshape(*x.shape[:2], -1)

    def _permuted(self, x: Value, order: tuple[int, ...]) -> Value:
        return self._transpose(x, order) if isinstance(x, Symbol) else x.transpose(order)

    @computed_if_constant
    def key_bias(self, valid: Value) -> Value:
        negative = self._node("Sub", valid, np.ones(1, np.float32))  # 0 and -1
        bias = self._node("Mul", negative, np.full(1, -PADDING_BIAS, np.float32))
        return self._reshape(bias, (0, -1, 1, 1))  # [B,h,w] -> [B,N,1,1]

    @computed_if_constant
    def layer_norm(self, name: str, x: Value) -> Value:
        weight, bias = (self._constant(f"{name}.{leaf}", self.parameters[f"{self._full_name(name)}.{leaf}"])
                        for leaf in ("weight", "bias"))  # fmt: skip
        attributes: dict[str, Attribute] = {"axis": -1, "epsilon": LAYER_NORM_EPS}
        return self.at(name)._node("LayerNormalization", x, weight, bias, attributes=attributes)

    @computed_if_constant
    def sigmoid(self, x: Value) -> Value:
        x = cast(Symbol, x)  # always in float32: near the right edge, float16 has steps of half a pixel
        return self._node("Sigmoid", self._cast(x, SINGLE) if x.dtype == HALF else x)

    # attention maps

    def attention_weights(self, q: Value, k: Value, heads: int, key_bias: Value | None) -> Value:
        return self._transpose(self._softmax(self._split(q, heads), self._split(k, heads), key_bias), (0, 2, 1, 3))

    def of_queries(self, x: Value, rows: Value) -> Value:
        return self._node("GatherND", x, rows)

    def rows_of(self, x: Value, numbers: Value) -> Value:
        return self._node("GatherND", x, self._reshape(cast(Symbol, numbers), (0, -1, 1)), attributes={"batch_dims": 1})

    def stack(self, layers: Sequence[Value], axis: int) -> Value:
        parts = [self._node("Unsqueeze", layer, np.array([axis], np.int64)) for layer in layers]
        return self._node("Concat", *parts, attributes={"axis": axis})

    def grid(self, x: Value, like: Value) -> Value:
        shape = self._node("Concat", self._shape(x, 0, -1), self._shape(like, 2), attributes={"axis": 0})
        return self._node("Reshape", x, shape)

    # arithmetic

    @computed_if_constant
    def add(self, x: Value, y: Value | float) -> Value:
        return self._node("Add", x, _array(y))

    @computed_if_constant
    def multiply(self, x: Value, y: Value | float) -> Value:
        return self._node("Mul", x, _array(y))

    @computed_if_constant
    def divide(self, x: Value, y: Value) -> Value:
        return self._node("Div", x, y)

    @computed_if_constant
    def sin(self, x: Value) -> Value:
        return self._node("Sin", x)

    @computed_if_constant
    def cos(self, x: Value) -> Value:
        return self._node("Cos", x)

    def constant(self, values: tuple[float, ...]) -> Value:
        return np.asarray(values, np.float32)

    @computed_if_constant
    def cumulative_sum(self, x: Value, axis: int) -> Value:
        return self._node("CumSum", x, np.array(axis, np.int64))

    @computed_if_constant
    def last(self, x: Value, axis: int) -> Value:
        return self._node("Gather", x, np.array([-1], np.int64), attributes={"axis": axis})

    @computed_if_constant
    def column(self, cells: Value) -> Value:
        return self._reshape(cast(Symbol, cells), (0, -1, 1))

    @computed_if_constant
    def interleave(self, even: Value, odd: Value) -> Value:
        rows = [self._node("Unsqueeze", x, np.array([2], np.int64)) for x in (even, odd)]
        both = self._node("Concat", *rows, attributes={"axis": 2})  # [B,N,2,n]; the last axis would be slow
        return self._reshape(self._transpose(both, (0, 1, 3, 2)), (0, 0, -1))

    @computed_if_constant
    def concatenate(self, x: Value, y: Value) -> Value:
        return self._node("Concat", x, y, attributes={"axis": -1})


def _array(value: Value | float) -> Value:
    """A number as [1] float32."""
    return np.full(1, value, np.float32) if isinstance(value, float) else value
