"""The operations of the mask head, recorded.

Masks are computed in a loop over the queries that are kept, whose number is known only when the graph runs. One query
at a time needs the least memory, and is as fast as all together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from detr_onnx.network.graph import BOOL, HALF, INT64, OMITTED, SINGLE, Attribute, Graph, Symbol, Value
from detr_onnx.network.numpy_ops import LAYER_NORM_EPS
from detr_onnx.network.onnx_recorder import Recorder

if TYPE_CHECKING:
    from detr_onnx.network.ops import Ops

ZERO, ONE = np.array([0], np.int64), np.array([1], np.int64)


@dataclass(frozen=True)
class MaskRecorder(Recorder):
    """The operations of `ops.Ops` for masks and for the queries that have one; feature maps are NCHW."""

    def feature_map(self, tokens: Value, like: Value) -> Value:
        channels_first = self._transpose(cast(Symbol, tokens), (0, 2, 1))  # [1,N,C] -> [1,C,N]
        shape = self._node("Concat", np.array([0, 0], np.int64), self._shape(like, 2), attributes={"axis": 0})
        return self._node("Reshape", channels_first, shape)

    def conv_resized(self, name: str, x: Value, residual: Value) -> Value:
        inner, kernel = self.at(name), self.parameters[f"{self._full_name(name)}.weight"].transpose(3, 2, 0, 1)
        attributes: dict[str, Attribute] = {"kernel_shape": kernel.shape[2:], "pads": (1, 1, 1, 1)}
        weight = self._constant(f"{name}.weight", kernel, channel_axis=0)
        y = inner._node("Conv", inner._resize(x, residual), weight, attributes=attributes)
        return inner._node("Add", y, residual)

    def _resize(self, x: Value, like: Value) -> Value:
        shape = self._node("Concat", self._shape(x, 0, 2), self._shape(like, 2), attributes={"axis": 0})
        attributes: dict[str, Attribute] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        single = self._cast(x, SINGLE) if isinstance(x, Symbol) and x.dtype == HALF else x  # ONNX Runtime lacks HALF
        resized = self._node("Resize", single, OMITTED, OMITTED, shape, attributes=attributes)
        return self._cast(resized, HALF) if x.dtype == HALF else resized

    def group_norm(self, name: str, x: Value, groups: int) -> Value:
        weight, bias = (self.parameters[f"{self._full_name(name)}.{leaf}"] for leaf in ("weight", "bias"))
        inner, count = self.at(name), min(groups, len(weight))
        rows = inner._reshape(cast(Symbol, x), (0, count, -1))  # [B,C,h,w] -> [B,groups,rest]
        ones, zeros = np.ones(count, np.float32), np.zeros(count, np.float32)
        normed = inner._node("InstanceNormalization", rows, ones, zeros, attributes={"epsilon": LAYER_NORM_EPS})
        maps = inner._node("Reshape", normed, inner._shape(x, 0))
        scale, shift = (self._constant(f"{name}.{leaf}", array[:, None, None])
                        for leaf, array in (("weight", weight), ("bias", bias)))  # fmt: skip
        return inner._node("Relu", inner._node("Add", inner._node("Mul", maps, scale), shift))

    def plane(self, x: Value) -> Value:
        return self._node("Squeeze", x, ONE)

    def attention_map(self, q: Value, k: Value, heads: int, key_bias: Value | None) -> Value:
        q, k = (self._reshape(cast(Symbol, x), (0, 0, heads, -1)) for x in (q, k))  # [1,N,D] -> [1,N,M,d]
        scores = self._node("MatMul", self._transpose(k, (0, 2, 1, 3)), self._transpose(q, (0, 2, 3, 1)))  # [1,M,N,1]
        scores = self._transpose(scores, (0, 2, 1, 3))  # [1,N,M,1]
        if key_bias is not None:
            scores = self._node("Add", scores, key_bias)  # [1,N,1,1]
        flat = self._reshape(scores, (0, -1))
        weights = self._node("Softmax", flat, attributes={"axis": -1})
        return self._reshape(weights, (0, -1, heads))

    def above(self, logits: Value, threshold: Value) -> Value:
        logits = cast(Symbol, logits)
        softmax = self._node("Softmax", self._cast(logits, SINGLE) if logits.dtype == HALF else logits,
                             attributes={"axis": -1})  # fmt: skip
        last = np.array([-1], np.int64)
        classes = self._node("Slice", softmax, ZERO, last, last)
        scores = self._node("ReduceMax", classes, attributes={"axes": (-1,), "keepdims": 0})
        is_above = self._node("Greater", scores, threshold, dtype=BOOL)
        return self._transpose(self._node("NonZero", is_above, dtype=INT64), (1, 0))

    def of_image(self, x: Value, row: Value) -> Value:
        return self._node("Gather", x, self._node("Slice", row, ZERO, ONE), attributes={"axis": 0})

    def of_query(self, x: Value, row: Value) -> Value:
        query = self._node("Slice", row, ONE, np.array([2], np.int64))
        return self._node("Gather", self.of_image(x, row), query, attributes={"axis": 1})

    def for_each(self, rows: Value, like: Value, body: Callable[[Ops[Value], Value], Value]) -> Value:
        """The loop carries the masks so far; without a kept query it returns its start, [0,h,w]."""
        shape = self._node("Concat", ZERO, self._shape(like, 2), attributes={"axis": 0})
        zero = {"value": np.zeros(1, like.dtype)}
        start = self._node("ConstantOfShape", shape, attributes=zero, dtype=like.dtype)

        def result(inner: Graph, number: Symbol) -> Symbol:
            ops = replace(self, graph=inner)
            row = ops._node("Gather", rows, number, attributes={"axis": 0})
            return cast(Symbol, body(cast("Ops[Value]", ops), row))

        return concatenated(self.graph, self.path, cast(Symbol, rows), start, result)


def concatenated(
    graph: Graph, path: tuple[str, ...], rows: Symbol, start: Symbol, body: Callable[[Graph, Symbol], Symbol]
) -> Symbol:
    """Records a loop over rows [n,...]: `start` [0,h,w], then the body's [1,h,w] for each row.

    The body is given the graph to record into, and the number of the row, [].
    """
    inner = graph.inner()
    number, going = inner.input("number", INT64, []), inner.input("going", BOOL, [])
    so_far = inner.input("so_far", start.dtype, [None, None, None])
    result = body(inner, number)
    inner.outputs["going_on"] = inner.node("Identity", path, [going])
    inner.outputs["more"] = inner.node("Concat", path, [so_far, result], {"axis": 0})
    inner.shapes |= {"going_on": [], "more": [None, None, None]}
    length = graph.node("Shape", path, [rows], {"start": 0, "end": 1}, dtype=INT64)
    count = graph.node("Squeeze", path, [length, ZERO])
    return graph.node("Loop", path, (count, np.array(True), start), {"body": inner}, dtype=start.dtype)
