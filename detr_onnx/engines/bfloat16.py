"""The backbone of a graph in bfloat16, the rest in float32. OpenVINO computes each node in the type of its inputs.

    pixels ── stem ── to bf16 ── stages, projection ── to fp32 ── transformer and heads ── logits, boxes

bfloat16 has 8 significant bits. Rounding costs most accuracy in the stem, and in the transformer and heads, which
decide between close values. The convolutions between them are four fifths of the work. Rounding their biases would be
a constant error, so the lost remainder is added again, in the float32 accumulator of the convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.checkpoint.safetensors import widened

STEM, PROJECTION = "stem", "projection"  # names of the tensors around it, see `exporter.onnx_file.name_backbone_ends`
ADAPTERS = ("adapter1", "adapter2", "adapter3")  # of panoptic models: they end in a mask head
LARGE = 3e38  # about the largest number of float32 and of bfloat16

Ends = tuple[Any, list[Any]]
"""The outputs of the stem, and of the projection and the adapters, as `openvino.Output`s."""


def backbone_ends(model: Any) -> Ends | None:
    """The ends of the backbone of an `openvino.Model`; None if no tensors have their names."""
    tensors = {name: output for node in model.get_ops() for output in node.outputs() for name in output.get_names()}
    if not {STEM, PROJECTION} <= tensors.keys():
        return None
    return tensors[STEM], [tensors[name] for name in (PROJECTION, *ADAPTERS) if name in tensors]


def is_lowered(ends: Ends) -> bool:
    """Whether the backbone is in bfloat16."""
    return bool(ends[0].get_element_type() != ends[1][0].get_element_type())


def lower_backbone(model: Any, ends: Ends) -> None:
    """Converts the backbone of a float32 `openvino.Model` to bfloat16, weights included, in place."""
    from openvino import opset13
    from openvino.passes import ConstantFolding, Manager

    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)  # turns unpacked or reshaped weights into constants
    stem, results = ends
    last = [_inserted(tensor, lambda tensor: opset13.convert(tensor, "f32")) for tensor in results]
    for node in _between(model, stem, last):
        if node.get_type_name() == "Add" and _constants(node):
            _add_bias_remainder(node)
    _inserted(stem, lambda tensor: opset13.convert(tensor, "bf16"))
    for node in _between(model, stem, last):
        for reader in _constants(node):
            reader.replace_source_output(_constant(reader.get_source_output().get_node().data))
    model.validate_nodes_and_infer_types()


def raise_backbone(model: Any, ends: Ends) -> None:
    """Converts a bfloat16 backbone back to float32, in place; weights keep their rounded values."""
    from openvino import opset13

    stem, _ = ends
    start, lowered = stem.get_node().get_name(), set[str]()
    for node in model.get_ordered_ops():
        sources = [reader.get_source_output().get_node().get_name() for reader in node.inputs()]
        if not _gives_bfloat16(node) or (lowered.isdisjoint(sources) and start not in sources):
            continue
        lowered.add(node.get_name())
        for reader in node.inputs():
            source = reader.get_source_output()
            if source.get_node().get_type_name() == "Convert" and source.get_node().get_name() in lowered:
                reader.replace_source_output(stem)  # the conversion to bfloat16
            elif source.get_node().get_name() not in lowered | {start} and _gives_bfloat16(source.get_node()):
                reader.replace_source_output(opset13.convert(source, "f32").output(0))  # weights
    model.validate_nodes_and_infer_types()


def _gives_bfloat16(node: Any) -> bool:
    return bool(node.get_output_size() and node.get_output_element_type(0).get_type_name() == "bf16")


def _between(model: Any, stem: Any, last: list[Any]) -> list[Any]:
    """The nodes of floats between the output of the stem and the last nodes, all excluded, in topological order."""
    reached, names = [], {stem.get_node().get_name()}
    outside = {node.get_name() for node in last}
    for node in model.get_ordered_ops():
        sources = {reader.get_source_output().get_node().get_name() for reader in node.inputs()}
        if sources & names and node.get_name() not in outside and node.get_output_element_type(0).is_real():
            names.add(node.get_name())
            reached.append(node)
    return reached


def _constants(node: Any) -> list[Any]:
    """The inputs of a node that are float32 constants."""
    return [reader for reader in node.inputs() if _is_constant(reader.get_source_output())]


def _is_constant(tensor: Any) -> bool:
    return bool(tensor.get_node().get_type_name() == "Constant" and tensor.get_element_type().get_type_name() == "f32")


def _inserted(tensor: Any, make: Callable[[Any], Any]) -> Any:
    """Inserts the node that `make` builds from a tensor between it and its readers; returns the node."""
    readers = list(tensor.get_target_inputs())
    node = make(tensor)
    for reader in readers:
        reader.replace_source_output(node.output(0))
    return node


def _add_bias_remainder(add: Any) -> None:
    """Adds the remainder that a bias loses in bfloat16, after the residual if one is added next.

    OpenVINO fuses it into the convolution, like the bias. It would merge two consecutive constants into one, rounded;
    the clamp between them, whose limits are never reached, prevents that.
    """
    from openvino import opset13

    bias: NDArray[np.float32] = _constants(add)[0].get_source_output().get_node().data
    remainder = opset13.constant(bias - widened(_bits(bias)))
    (reader, *others) = add.output(0).get_target_inputs()
    following = reader.get_node()
    if not others and following.get_type_name() == "Add" and not _constants(following):
        _inserted(following.output(0), lambda tensor: opset13.add(tensor, remainder))
    else:
        _inserted(add.output(0), lambda tensor: opset13.add(opset13.clamp(tensor, -LARGE, LARGE), remainder))


def _constant(values: NDArray[np.float32]) -> Any:
    """The output of a bfloat16 constant. numpy has no such type, so its bits are written."""
    import openvino

    tensor = openvino.Tensor(openvino.Type.bf16, openvino.Shape(values.shape))
    tensor.data.view(np.uint16)[...] = _bits(values)
    return openvino.op.Constant(tensor).output(0)


def _bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even: the upper half of a float32."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
