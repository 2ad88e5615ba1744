"""A recorded graph: symbols for its values, nodes for the operations on them.

Nodes hold the symbols they read and make. Values have no names here (`exporter/proto.py` gives them when the graph is
written), so a graph can be extended in any order, and a symbol stays valid whatever is added or named later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detr_onnx.network.quantization import QuantParams

Array = NDArray[Any]
Attribute: TypeAlias = "int | float | str | Sequence[int] | Array | Graph"
Shape = Sequence[int | str | None]
"""The length of each axis: a number, a name or None."""

OPSET = 17  # the first with LayerNormalization
MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
SINGLE, HALF = np.dtype(np.float32), np.dtype(np.float16)
DOUBLE, INT64, BOOL = np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_)
UINT8, INT32 = np.dtype(np.uint8), np.dtype(np.int32)
DATA_TYPES = {SINGLE: 1, UINT8: 2, INT32: 6, INT64: 7, BOOL: 9, HALF: 10, DOUBLE: 11}  # TensorProto.DataType
SHARED_UP_TO = 4  # elements: equal constants that are no longer than this are one


@dataclass(frozen=True, eq=False)
class Symbol:
    """A value of the graph: an input, a constant or what a node computes. A symbol equals only itself.

    Attributes:
        dtype: of its elements.
        quant_params: what its values are rounded to, if they have been through 8 bits.
    """

    dtype: np.dtype[Any] = SINGLE
    quant_params: QuantParams | None = None


OMITTED = Symbol()  # stands for an optional input that a node does without
Value = Array | Symbol


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. A node equals only itself.

    Attributes:
        op_type: its ONNX operator.
        path: of the module it belongs to; it names the node.
        inputs: what it reads.
        outputs: what it makes; only the last is ever read.
        attributes: as ONNX has them; an array stands for a tensor, a graph for the body of a loop.
        domain: of the operator; empty for ONNX's own.
    """

    op_type: str
    path: tuple[str, ...]
    inputs: tuple[Symbol, ...]
    outputs: tuple[Symbol, ...]
    attributes: Mapping[str, Attribute]
    domain: str = ""


@dataclass(frozen=True)
class Constant:
    """The values of a constant, and its name; without one it is named after the first node that reads it."""

    array: Array
    name: str | None


@dataclass
class Graph:
    """What has been recorded.

    Attributes:
        inputs, outputs: by name.
        shapes: of inputs and outputs, by name; None where even the number of axes is unknown.
        nodes: in an order in which they can run.
        constants: by symbol.
        value_names: names of values in between that somebody looks for in the file.
        stages: what the model noted with `Ops.stage`.
        convolutions: input and output of each, by the path of its parameters.
    """

    inputs: dict[str, Symbol] = field(default_factory=dict)
    outputs: dict[str, Symbol] = field(default_factory=dict)
    shapes: dict[str, Shape | None] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[Symbol, Constant] = field(default_factory=dict)
    value_names: dict[Symbol, str] = field(default_factory=dict)
    stages: dict[str, Value] = field(default_factory=dict)
    convolutions: dict[str, tuple[Symbol, Symbol]] = field(default_factory=dict)
    _casts: dict[tuple[Symbol, np.dtype[Any]], Symbol] = field(default_factory=dict)
    _dequantized: dict[Symbol, Symbol] = field(default_factory=dict)
    _shared: dict[str, Symbol] = field(default_factory=dict)

    def input(self, name: str, dtype: np.dtype[Any] = SINGLE, shape: Shape | None = None) -> Symbol:
        """A new input."""
        self.inputs[name], self.shapes[name] = Symbol(dtype), shape
        return self.inputs[name]

    def node(
        self,
        op_type: str,
        path: tuple[str, ...],
        inputs: Sequence[Value],
        attributes: Mapping[str, Attribute] | None = None,
        *,
        domain: str = "",
        dtype: np.dtype[Any] | None = None,
        quant_params: QuantParams | None = None,
        unread: int = 0,
    ) -> Symbol:
        """Records a node; its last output, of the first input's type unless `dtype` says otherwise.

        Arrays among the inputs become constants. `unread` is the number of outputs before the last.
        """
        symbols = tuple(value if isinstance(value, Symbol) else self.constant(value) for value in inputs)
        output = Symbol(dtype or symbols[0].dtype, quant_params)
        outputs = *(Symbol() for _ in range(unread)), output
        self.nodes.append(Node(op_type, path, symbols, outputs, attributes or {}, domain))
        return output

    def constant(self, array: Array, name: str | None = None) -> Symbol:
        """The symbol of a constant. Short arrays are named by their values, and equal ones are the same symbol."""
        array = np.ascontiguousarray(array) if array.ndim else array
        if array.size > SHARED_UP_TO:
            symbol = Symbol(array.dtype)
        else:
            name = f"{array.dtype}{array.tolist()}".replace(" ", "")
            symbol = self._shared.setdefault(name, Symbol(array.dtype))
        self.constants.setdefault(symbol, Constant(array, name))
        return symbol

    def cast(self, x: Symbol, path: tuple[str, ...], dtype: np.dtype[Any]) -> Symbol:
        """The value in another type, recorded once, where it is first needed."""
        if (x, dtype) not in self._casts:
            self._casts[x, dtype] = self.node("Cast", path, [x], {"to": DATA_TYPES[dtype]}, dtype=dtype)
        return self._casts[x, dtype]

    def quantize_dequantize(self, x: Symbol, path: tuple[str, ...], quant_params: QuantParams) -> Symbol:
        """The value in 8 bits and back in float32, recorded once: engines compute in int8 between two such pairs.

        A value that has been rounded already stays as it is.
        """
        if x.quant_params:
            return x
        if x not in self._dequantized:
            scale_and_zero = quant_params.constants()
            levels = self.node("QuantizeLinear", path, [x, *scale_and_zero], dtype=UINT8)
            self._dequantized[x] = self.node(
                "DequantizeLinear", path, [levels, *scale_and_zero], dtype=SINGLE, quant_params=quant_params
            )
        return self._dequantized[x]

    def dequantized(self, x: Symbol) -> Symbol:
        """The value after `quantize_dequantize`, if it has been recorded; else the value itself."""
        return self._dequantized.get(x, x)

    def inner(self) -> Graph:
        """A graph for the body of a loop. It may read all values of this one; its constants are this one's."""
        return Graph(
            constants=self.constants,
            value_names=self.value_names,
            stages=self.stages,
            convolutions={},  # the loop's values cannot be observed from outside
            _casts={**self._casts},
            _shared=self._shared,
        )

    def add_output(self, value: Value, name: str, shape: Shape | None = None) -> None:
        """Makes a value an output; float16 comes out as float32."""
        self.shapes[name] = shape
        symbol = value if isinstance(value, Symbol) else self.constant(value, f"{name}_constant")
        self.outputs[name] = self.cast(symbol, ("outputs",), SINGLE) if symbol.dtype == HALF else symbol
