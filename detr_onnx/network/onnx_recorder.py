"""Recording nodes of an ONNX graph: what the operations of `onnx_ops.py` and `onnx_masks.py` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from detr_onnx.network.graph import HALF, INT64, SINGLE, Array, Attribute, Graph, Symbol, Value
from detr_onnx.network.quantization import ConvQuantParams, quantized

Self = TypeVar("Self", bound="Recorder")

FEED_FORWARD = ("fc1.", "fc2.")  # two thirds of the transformer's weights: int8 stores them in 8 bits
PACKED_FROM_BYTES = 1 << 14  # smaller constants are not worth the nodes that unpack them


@dataclass(frozen=True)
class Recorder:
    """Records into a graph, for one module of the network.

    Attributes:
        parameters: as `detr.parameters` returns them.
        graph: where nodes are recorded.
        cells_hw, mask_hw: size of the last feature map and of the mask, in a graph for one shape.
        fused_attention: record attention as one node, an operator that only ONNX Runtime has.
        precision: one of `defaults.EXPORT_PRECISIONS`. In fp16, positions and mask are rounded from float32.
        quant_params: of the convolutions that int8 computes in 8 bits, by path.
        fp16_feed_forward: int8 stores the feed-forward weights in float16, like all others not computed in 8 bits.
        path: of the module, such as `("encoder", "layers.0")`.
    """

    parameters: Mapping[str, Array]
    graph: Graph
    cells_hw: tuple[int, int] | None = None
    mask_hw: tuple[int, int] | None = None
    fused_attention: bool = False
    precision: str = "fp32"
    quant_params: Mapping[str, ConvQuantParams] = field(default_factory=dict)
    fp16_feed_forward: bool = False
    path: tuple[str, ...] = ()

    def at(self: Self, step: str) -> Self:
        return replace(self, path=(*self.path, step))

    def has(self, name: str) -> bool:
        return f"{self._full_name(name)}.weight" in self.parameters

    def parameter(self, name: str) -> Value:
        return self.parameters[self._full_name(name)][None]

    def stage(self, name: str, value: Value) -> Value:
        self.graph.stages[name] = value
        return value

    def _full_name(self, name: str) -> str:
        return ".".join((*self.path, name))

    def _weights(self, name: str) -> tuple[Array, Array]:
        return self.parameters[f"{self._full_name(name)}.weight"], self.parameters[f"{self._full_name(name)}.bias"]

    def _constant(self, name: str, array: Array, channel_axis: int | None = None) -> Symbol:
        """A parameter, stored as the precision says; in int8, each slice along `channel_axis` has its own scale."""
        full_name, inner = self._full_name(name), self.at(name)
        if self.precision == "fp16":
            return self.graph.constant(array.astype(HALF), full_name)
        if self.precision == "fp32" or array.nbytes < PACKED_FROM_BYTES:
            return self.graph.constant(array, full_name)
        fp16_feed_forward = self.precision == "int8" and (self.fp16_feed_forward or not name.startswith(FEED_FORWARD))
        if self.precision == "fp16-weights" or channel_axis is None or fp16_feed_forward:
            return inner._cast(self.graph.constant(array.astype(HALF), full_name), SINGLE)
        levels, scale = quantized(array, channel_axis)
        if self.precision == "int8":  # ONNX Runtime unpacks it in each run: 1 % of the time, half the memory
            return self._unpacked(name, levels, scale.reshape(-1), channel_axis)
        return inner._node("Mul", inner._cast(self.graph.constant(levels, full_name), SINGLE), scale)

    def _unpacked(self, name: str, levels: Array, scale: Array, axis: int = 0) -> Symbol:
        """levels · scale, with one scale for each slice along the axis."""
        packed = self.graph.constant(levels, self._full_name(name)), scale, np.zeros(scale.shape, levels.dtype)
        return self.at(name)._node("DequantizeLinear", *packed, attributes={"axis": axis}, dtype=SINGLE)

    def _node(
        self,
        op_type: str,
        *inputs: Value,
        attributes: Mapping[str, Attribute] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> Symbol:
        """Records a node of this module; if one of its inputs is float16, those in float32 are rounded to that."""
        if any(isinstance(value, Symbol) and value.dtype == HALF for value in inputs):
            inputs = tuple(self._half(value) if value.dtype == SINGLE else value for value in inputs)
        return self.graph.node(op_type, self.path, inputs, attributes, dtype=dtype)

    def _half(self, x: Value) -> Value:
        return self._cast(x, HALF) if isinstance(x, Symbol) else x.astype(HALF)

    def _cast(self, x: Symbol, dtype: np.dtype[Any]) -> Symbol:
        return self.graph.cast(x, self.path, dtype)

    def _shape(self, x: Value, start: int, end: int | None = None) -> Symbol:
        """[end - start] int64: the lengths of these axes."""
        bounds = {"start": start} if end is None else {"start": start, "end": end}
        return self._node("Shape", x, attributes=bounds, dtype=INT64)

    def _reshape(self, x: Symbol, shape: Sequence[int]) -> Symbol:
        """As ONNX has it: 0 keeps a dimension, -1 is inferred. So no shape is ever computed."""
        return self._node("Reshape", x, np.array(shape, np.int64))

    def _transpose(self, x: Symbol, permutation: Sequence[int]) -> Symbol:
        return self._node("Transpose", x, attributes={"perm": permutation})
