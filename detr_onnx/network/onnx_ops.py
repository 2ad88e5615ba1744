"""The vocabulary, recorded: symbols in, nodes of an ONNX graph written down, symbols out.

Edges are objects (`Symbol`), named after the place that made them. A method whose inputs are all arrays computes its
answer on the spot with `numpy_ops`: whatever does not depend on the image (positions of a fixed shape and their
products, the first decoder layer's self-attention) is a constant before any optimiser looks at the graph.

Feature maps are NCHW, as ONNX has them. Nothing here imports `onnx`: `export.py` turns a `Graph` into a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from detr_onnx.network.numpy_ops import LAYER_NORM_EPS, PADDING_BIAS, NumpyOps, nearest
from detr_onnx.network.quantized import ConvQuantParams, QuantParams, bias_levels, quantized

Array = NDArray[Any]
Attribute = int | float | str | Sequence[int] | Array
P = ParamSpec("P")
R = TypeVar("R")

OPSET = 17  # the first with LayerNormalization
MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
SINGLE, HALF = np.dtype(np.float32), np.dtype(np.float16)
DOUBLE, INT64, BOOL = np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_)
UINT8, INT32 = np.dtype(np.uint8), np.dtype(np.int32)
DATA_TYPES = {SINGLE: 1, UINT8: 2, INT32: 6, INT64: 7, BOOL: 9, HALF: 10, DOUBLE: 11}  # TensorProto.DataType

"""What the graph computes in and what its weights are kept as; `-weights` is computed in float32 all the same, and
int8 computes so in the convolutions that have grids, in float32 elsewhere."""

FEED_FORWARD = ("fc1.", "fc2.")  # two thirds of the transformer's weights: int8 keeps them in 8 bits
PACKED_FROM_BYTES = 1 << 14  # smaller constants are not worth the nodes that unpack them


@dataclass(frozen=True)
class Symbol:
    """A value that is known when the graph runs.

    Attributes:
        name: of the edge.
        dtype: that of its elements.
        grid: what it has been rounded to, where it has been through 8 bits.
    """

    name: str
    dtype: np.dtype[Any] = SINGLE
    grid: QuantParams | None = None


Value = Array | Symbol


@dataclass(frozen=True)
class Node:
    """One operation of the graph; of its outputs only the last is ever read."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute]
    domain: str = ""
    unread: int = 0

    def outputs(self) -> list[str]:
        """The names of all outputs."""
        return [*(f"{self.name}_unread{i}" for i in range(self.unread)), self.output]


@dataclass
class Graph:
    """What has been recorded: nodes in an order that runs, constants and stages by name."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    stages: dict[str, Value] = field(default_factory=dict)
    casts: dict[tuple[str, np.dtype[Any]], Symbol] = field(default_factory=dict)
    rounded: dict[str, Symbol] = field(default_factory=dict)  # by the name of what was rounded
    convolutions: dict[str, tuple[Symbol, Symbol]] = field(default_factory=dict)  # what goes in and comes out, by place
    samples: list[str] = field(default_factory=list)  # outputs that `observed` added
    _taken: dict[str, int] = field(default_factory=dict)

    def node(
        self,
        op_type: str,
        place: Sequence[str],
        inputs: Sequence[Value],
        attributes: Mapping[str, Attribute],
        domain: str = "",
        dtype: np.dtype[Any] | None = None,
        unread: int = 0,
    ) -> Symbol:
        """Records a node named after its place; its output, of the first input's type unless `dtype` says otherwise.

        Arrays among the inputs become constants. `unread` outputs come before the one that is wanted.
        """
        name = self._untaken("/".join(("", *place, op_type)))
        names = tuple(v.name if isinstance(v, Symbol) else self.constant(f"{name}_constant", v).name for v in inputs)
        self.nodes.append(Node(op_type, name, names, f"{name}_output", attributes, domain, unread))
        return Symbol(f"{name}_output", dtype or inputs[0].dtype)

    def constant(self, name: str, array: Array) -> Symbol:
        """The symbol of a constant. Short arrays are named by what they hold, so that equal ones are one."""
        array = np.ascontiguousarray(array) if array.ndim else array
        name = f"{array.dtype}{array.tolist()}".replace(" ", "") if array.size <= 4 else self._untaken(name)
        self.constants[name] = array
        return Symbol(name, array.dtype)

    def cast(self, x: Symbol, place: Sequence[str], dtype: np.dtype[Any]) -> Symbol:
        """The value in another type, recorded where it is first wanted and once for all."""
        if (x.name, dtype) not in self.casts:
            self.casts[x.name, dtype] = self.node("Cast", place, [x], {"to": DATA_TYPES[dtype]}, dtype=dtype)
        return self.casts[x.name, dtype]

    def round(self, x: Symbol, place: Sequence[str], grid: QuantParams) -> Symbol:
        """The value in 8 bits and back in float32, once for all: engines compute in int8 between two such pairs."""
        if x.name not in self.rounded:
            levels = self.node("QuantizeLinear", place, [x, *grid.constants()], {}, dtype=UINT8)
            back = self.node("DequantizeLinear", place, [levels, *grid.constants()], {}, dtype=SINGLE)
            self.rounded[x.name] = replace(back, grid=grid)
        return self.rounded[x.name]

    def add_output(self, value: Value, name: str) -> None:
        """Makes a value an output called `name`: a symbol is renamed, a constant is passed on by an Identity.

        What is float16 comes out as float32.
        """
        if not isinstance(value, Symbol):
            value = self.node("Identity", ("outputs",), [value], {})
        elif value.dtype == HALF:
            value = self.cast(value, ("outputs",), SINGLE)
        old = value.name
        self.nodes = [
            replace(
                node,
                inputs=tuple(name if edge == old else edge for edge in node.inputs),
                output=name if node.output == old else node.output,
            )
            for node in self.nodes
        ]

    def _untaken(self, name: str) -> str:
        count = self._taken[name] = self._taken.get(name, -1) + 1
        return f"{name}_{count}" if count else name


def computed_if_constant(
    method: Callable[Concatenate[OnnxOps, P], R],
) -> Callable[Concatenate[OnnxOps, P], R]:
    """A recording method that computes instead when no argument is a symbol."""

    @wraps(method)
    def either(self: OnnxOps, *args: P.args, **kwargs: P.kwargs) -> R:
        if any(isinstance(value, Symbol) for value in (*args, *kwargs.values())):
            return method(self, *args, **kwargs)
        computing = getattr(NumpyOps(self.parameters, ".".join(self.place)), method.__name__)
        return cast(R, computing(*args, **kwargs))

    return cast("Callable[Concatenate[OnnxOps, P], R]", either)


@dataclass(frozen=True)
class OnnxOps:
    """`ops.Ops` over symbols and arrays.

    Attributes:
        parameters: what `resnet.fold_batch_norm` gives.
        graph: what is recorded goes here.
        cells_hw: size of the last feature map, and `mask_hw`, of the mask, where the graph is for one shape alone.
        fused_attention: write attention as the one node that ONNX Runtime has for it, and nobody else.
        precision: one of `defaults.EXPORT_PRECISIONS`. In fp16, positions and the mask are reckoned in
            float32 and rounded then.
        quant_params: what goes into and comes out of the convolutions that int8 computes in 8 bits, by place.
        fp16_feed_forward: int8 keeps the feed-forward weights in float16, as all others not computed in 8 bits.
        place: where in the network this stands.
    """

    parameters: Mapping[str, Array]
    graph: Graph
    cells_hw: tuple[int, int] | None = None
    mask_hw: tuple[int, int] | None = None
    fused_attention: bool = False
    precision: str = "fp32"
    quant_params: Mapping[str, ConvQuantParams] = field(default_factory=dict)
    fp16_feed_forward: bool = False
    place: tuple[str, ...] = ()

    def at(self, step: str) -> OnnxOps:
        return replace(self, place=(*self.place, step))

    def has(self, name: str) -> bool:
        return f"{self._path(name)}.weight" in self.parameters

    def parameter(self, name: str) -> Value:
        return self.parameters[self._path(name)][None]

    def stage(self, name: str, value: Value) -> Value:
        self.graph.stages[name] = value
        return value

    def _path(self, name: str) -> str:
        return ".".join((*self.place, name))

    def _weights(self, name: str) -> tuple[Array, Array]:
        return self.parameters[f"{self._path(name)}.weight"], self.parameters[f"{self._path(name)}.bias"]

    def _constant(self, name: str, array: Array, channel_axis: int | None = None) -> Symbol:
        """A parameter, kept as the precision says; int8 needs the axis along which each slice gets its own scale."""
        path, here = self._path(name), self.at(name)
        if self.precision == "fp16":
            return self.graph.constant(path, array.astype(HALF))
        if self.precision == "fp32" or array.nbytes < PACKED_FROM_BYTES:
            return self.graph.constant(path, array)
        fp16_feed_forward = self.precision == "int8" and (self.fp16_feed_forward or not name.startswith(FEED_FORWARD))
        if self.precision == "fp16-weights" or channel_axis is None or fp16_feed_forward:
            return here._cast(self.graph.constant(path, array.astype(HALF)), SINGLE)
        levels, scale = quantized(array, channel_axis)
        if self.precision == "int8":  # ONNX Runtime unpacks it at each run, for 1 % of the time and half the memory
            return self._unpacked(name, levels, scale.reshape(-1), channel_axis)
        return here._node("Mul", here._cast(self.graph.constant(path, levels), SINGLE), scale)

    def _node(
        self,
        op_type: str,
        *inputs: Value,
        attributes: Mapping[str, Attribute] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> Symbol:
        """Records a node at this place; where one of its values is float16, those in float32 are rounded to that."""
        if any(isinstance(value, Symbol) and value.dtype == HALF for value in inputs):
            inputs = tuple(self._half(value) if value.dtype == SINGLE else value for value in inputs)
        return self.graph.node(op_type, self.place, inputs, attributes or {}, dtype=dtype)

    def _half(self, x: Value) -> Value:
        return self._cast(x, HALF) if isinstance(x, Symbol) else x.astype(HALF)

    def _cast(self, x: Symbol, dtype: np.dtype[Any]) -> Symbol:
        return self.graph.cast(x, self.place, dtype)

    def _shape(self, x: Value, start: int, end: int | None = None) -> Symbol:
        """[end - start] int64: the lengths of some axes."""
        bounds = {"start": start} if end is None else {"start": start, "end": end}
        return self._node("Shape", x, attributes=bounds, dtype=INT64)

    def _reshape(self, x: Symbol, shape: Sequence[int]) -> Symbol:
        """0 keeps a dimension, -1 is what is left: no shape is ever computed."""
        return self._node("Reshape", x, np.array(shape, np.int64))

    def _transpose(self, x: Symbol, permutation: Sequence[int]) -> Symbol:
        return self._node("Transpose", x, attributes={"perm": permutation})

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
        here, quant_params, x = self.at(name), self.quant_params.get(self._path(name)), cast(Symbol, x)
        if quant_params:
            x = here._round(x, quant_params.input)
        weights = self._kernel(name, kernel.transpose(3, 2, 0, 1), bias, x.grid)
        y = here._node("Conv", x, *weights, attributes=attributes)
        y = here._node("Relu", y) if relu and residual is None else y
        self.graph.convolutions[self._path(name)] = x, y
        y = here._round(y, quant_params.output) if quant_params else y
        if not isinstance(residual, Symbol):
            return y
        if quant_params:  # the sum, too, in int8: in float its passes over memory take a quarter of all the time
            residual = self.graph.rounded.get(residual.name, residual)
        y = here._node("Add", y, residual)
        return here._node("Relu", y) if relu else y

    def _kernel(self, name: str, kernel: Array, bias: Array, grid: QuantParams | None) -> tuple[Symbol, Symbol]:
        """Kernel [out,in,kh,kw] and bias of a convolution, in 8 and 32 bits where its input has a grid."""
        if grid is None or self._path(name) not in self.quant_params:
            return self._constant(f"{name}.weight", kernel, channel_axis=0), self._constant(f"{name}.bias", bias)
        levels, scale = quantized(kernel, 0)
        scale = scale.reshape(-1)
        sums, sums_scale = bias_levels(bias, scale, grid)
        return self._unpacked(f"{name}.weight", levels, scale), self._unpacked(f"{name}.bias", sums, sums_scale)

    def _unpacked(self, name: str, levels: Array, scale: Array, axis: int = 0) -> Symbol:
        """levels · scale, a scale for each slice along the axis."""
        here, path = self.at(name), self._path(name)
        packed = self.graph.constant(path, levels), scale, np.zeros(scale.shape, levels.dtype)
        return here._node("DequantizeLinear", *packed, attributes={"axis": axis}, dtype=SINGLE)

    def _round(self, x: Symbol, grid: QuantParams) -> Symbol:
        """See `Graph.round`; what has been rounded before stays as it is."""
        return x if x.grid else self.graph.round(x, self.place, grid)

    def max_pool(self, x: Value) -> Value:
        attributes = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
        y = self._node("MaxPool", x, attributes=attributes)
        return self._round(y, x.grid) if isinstance(x, Symbol) and x.grid else y  # the same levels: no float between

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
        """[1,h,w] of 1."""
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

    @computed_if_constant
    def linear(
        self, name: str, x: Value, *, plus: Value | None = None, scale: float = 1.0, relu: bool = False
    ) -> Value:
        weight, bias = self._weights(name)
        weight, bias = weight.T * np.float32(scale), bias * np.float32(scale)
        if isinstance(plus, np.ndarray):  # W(x + p) + b = Wx + (Wp + b), and the bracket is known
            bias, plus = np.matmul(plus, weight) + bias, None
        here = self.at(name)
        if plus is not None:
            x = here._node("Add", x, plus)
        y = here._node("MatMul", x, self._constant(f"{name}.weight", weight, channel_axis=1))
        y = here._node("Add", y, self._constant(f"{name}.bias", bias))
        return here._node("Relu", y) if relu else y

    @computed_if_constant
    def attention(self, q: Value, k: Value, v: Value, heads: int, key_bias: Value | None) -> Value:
        q, k, v = (self._split(x, heads) for x in (q, k, v))  # [B,N,D] -> [B,N,M,d]
        if self.fused_attention and isinstance(q, Symbol):  # the fused node does not spread a constant q over a batch
            return self._fused(q, k, v, heads, key_bias)
        scores = self._node("MatMul", self._permuted(q, (0, 2, 1, 3)), self._permuted(k, (0, 2, 3, 1)))
        if key_bias is not None:
            scores = self._node("Add", scores, self._permuted(key_bias, (0, 2, 3, 1)))  # [B,Nk,1,1] -> [B,1,1,Nk]
        weights = self._node("Softmax", scores, attributes={"axis": -1})  # [B,M,Nq,Nk]
        answer = self._node("MatMul", weights, self._permuted(v, (0, 2, 1, 3)))  # [B,M,Nq,d]
        return self._join(self._transpose(answer, (0, 2, 1, 3)))

    def _fused(self, q: Symbol, k: Value, v: Value, heads: int, key_bias: Value | None) -> Value:
        """Attention as one node, which would copy a bias to all of [B,M,Nq,Nk]; so it is one more feature of each head.

        (q, 1) · (k, bias) = q · k + bias.
        """
        if key_bias is not None:
            bias = self._node("Mul", key_bias, np.ones((1, 1, heads, 1), np.float32))  # [B,Nk,1,1] -> [B,Nk,M,1]
            one = np.array([0, 0, 0, 0, 0, 0, 0, 1], np.int64), np.array(1, np.float32)
            q, k = self._node("Pad", q, *one), self._node("Concat", k, bias, attributes={"axis": -1})  # [B,N,M,d+1]
        joined = [self._join(x) for x in (q, k, v)]
        attributes: dict[str, Attribute] = {"num_heads": heads, "scale": 1.0}
        return self.graph.node("MultiHeadAttention", self.place, joined, attributes, MICROSOFT)

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
        weight, bias = (self._constant(f"{name}.{leaf}", self.parameters[f"{self._path(name)}.{leaf}"])
                        for leaf in ("weight", "bias"))  # fmt: skip
        attributes: dict[str, Attribute] = {"axis": -1, "epsilon": LAYER_NORM_EPS}
        return self.at(name)._node("LayerNormalization", x, weight, bias, attributes=attributes)

    @computed_if_constant
    def sigmoid(self, x: Value) -> Value:
        x = cast(Symbol, x)  # in float32 always: float16 has steps of half a pixel near the right edge
        return self._node("Sigmoid", self._cast(x, SINGLE) if x.dtype == HALF else x)

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
        axis = np.array([-1], np.int64)
        pairs = [self._node("Unsqueeze", x, axis) for x in (even, odd)]
        return self._reshape(self._node("Concat", *pairs, attributes={"axis": -1}), (0, 0, -1))

    @computed_if_constant
    def concatenate(self, x: Value, y: Value) -> Value:
        return self._node("Concat", x, y, attributes={"axis": -1})


def _array(value: Value | float) -> Value:
    """A number as [1] float32, ready to be broadcast."""
    return np.full(1, value, np.float32) if isinstance(value, float) else value
