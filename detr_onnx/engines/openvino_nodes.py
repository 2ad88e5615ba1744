"""What `bfloat16.py` asks about the nodes of an OpenVINO model, and how it changes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEQUANTIZE = ("Convert", "Subtract", "Multiply")  # the nodes that DequantizeLinear becomes


def fold_constants(node: Any) -> None:
    """Replaces unpacked or reshaped weights by float32 constants."""
    from openvino import opset13

    for reader in node.inputs():
        source = reader.get_source_output()
        if source.get_node().get_type_name() != "Constant" and source.get_element_type().get_type_name() == "f32":
            values = constant_values(source)
            if values is not None:
                reader.replace_source_output(opset13.constant(values).output(0))


def constant_values(tensor: Any) -> NDArray[np.float32] | None:
    """The values of a tensor that is computed from constants by unpacking or reshaping; None of any other."""
    node = tensor.get_node()
    kind, sources = node.get_type_name(), [reader.get_source_output() for reader in node.inputs()]
    if kind == "Constant":
        return np.asarray(node.get_data(dtype=np.float32))
    if kind == "Reshape" and tensor.get_partial_shape().is_static:
        values = constant_values(sources[0])
        return None if values is None else values.reshape(tuple(tensor.get_shape()))
    if kind not in DEQUANTIZE:
        return None
    operands = [values for source in sources if (values := constant_values(source)) is not None]
    if len(operands) != len(sources):
        return None
    if kind == "Convert":
        return operands[0]
    result: NDArray[np.float32] = np.multiply(*operands) if kind == "Multiply" else np.subtract(*operands)
    return result


def before_rounding(tensor: Any) -> Any:
    """The tensor that this one is rounded from by QuantizeLinear and DequantizeLinear; itself if it is not rounded."""
    source = tensor
    while (kind := source.get_node().get_type_name()) in (*DEQUANTIZE, "FakeQuantize"):
        source = source.get_node().input(0).get_source_output()
        if kind == "FakeQuantize":
            return source
    return tensor


def constant_inputs(node: Any) -> list[Any]:
    """The inputs of a node that are float32 constants."""
    return [reader for reader in node.inputs() if _is_constant(reader.get_source_output())]


def _is_constant(tensor: Any) -> bool:
    return bool(tensor.get_node().get_type_name() == "Constant" and tensor.get_element_type().get_type_name() == "f32")


def insert_after(node: Any, make: Callable[[Any], Any]) -> Any:
    """Inserts the node that `make` builds from an output between it and its readers; returns the new node."""
    readers = list(node.output(0).get_target_inputs())
    new = make(node.output(0))
    for reader in readers:
        reader.replace_source_output(new.output(0))
    return new


def computed_in(node: Any) -> str:
    """The type of what a node computes; empty for constants, and for nodes without an output."""
    return "" if node.get_type_name() == "Constant" else output_type(node)


def output_type(node: Any) -> str:
    """The type of a node's first output, such as "bf16"; empty for a node without one."""
    return str(node.get_output_element_type(0).get_type_name()) if node.get_output_size() else ""


def bfloat16_constant(values: NDArray[np.float32]) -> Any:
    """The output of a bfloat16 constant. numpy has no such type, so its bits are written."""
    import openvino

    tensor = openvino.Tensor(openvino.Type.bf16, openvino.Shape(values.shape))
    tensor.data.view(np.uint16)[...] = bfloat16_bits(values)
    return openvino.op.Constant(tensor).output(0)


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even: the upper half of a float32."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
