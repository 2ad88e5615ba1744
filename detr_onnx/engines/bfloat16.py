"""A graph's backbone in bfloat16, the rest in float32: OpenVINO computes each node in the type of what goes in.

    pixels ── stem ── to bf16 ── stages, projection ── to fp32 ── transformer and heads ── logits, boxes

bfloat16 has 8 bits: what is rounded to it early, or decides between two answers, comes out otherwise. The convolutions
behind the stem are four fifths of the work, and there it costs least. Their biases would be rounded too, a constant
error; so what they lose is added again, in the float32 that the processor keeps until it stores the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.checkpoint.safetensors import widened

STEM, PROJECTION = "stem", "projection"  # the tensors between which it is; `export.name_backbone_ends` calls them so
LARGE = 3e38  # about the largest number of float32, and of bfloat16

Ends = tuple[Any, Any]
"""The tensors behind the stem and behind the projection: `openvino.Output`s."""


def backbone_ends(model: Any) -> Ends | None:
    """The ends of the backbone of an `openvino.Model`; None where they have no names."""
    tensors = {name: output for node in model.get_ops() for output in node.outputs() for name in output.get_names()}
    return (tensors[STEM], tensors[PROJECTION]) if {STEM, PROJECTION} <= tensors.keys() else None


def is_lowered(ends: Ends) -> bool:
    """Whether the backbone is in bfloat16 already."""
    return bool(ends[0].get_element_type() != ends[1].get_element_type())


def lower_backbone(model: Any, ends: Ends) -> None:
    """Puts what is between the ends of a float32 `openvino.Model` into bfloat16, weights and all, in place."""
    from openvino import opset13
    from openvino.passes import ConstantFolding, Manager

    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)  # weights that were packed or reshaped are constants now
    stem, projection = ends
    last = _inserted(projection, lambda tensor: opset13.convert(tensor, "f32"))
    for node in _between(model, stem, last):
        if node.get_type_name() == "Add" and _constants(node):
            _add_what_is_lost(node)
    _inserted(stem, lambda tensor: opset13.convert(tensor, "bf16"))
    for node in _between(model, stem, last):
        for reader in _constants(node):
            reader.replace_source_output(_constant(reader.get_source_output().get_node().data))
    model.validate_nodes_and_infer_types()


def raise_backbone(model: Any, ends: Ends) -> None:
    """Puts a bfloat16 backbone back into float32, in place; weights keep the values that they were rounded to."""
    from openvino import opset13

    stem, _ = ends
    start, own = stem.get_node().get_name(), set[str]()
    for node in model.get_ordered_ops():
        sources = [reader.get_source_output().get_node().get_name() for reader in node.inputs()]
        if not _gives_bfloat16(node) or (own.isdisjoint(sources) and start not in sources):
            continue
        own.add(node.get_name())
        for reader in node.inputs():
            source = reader.get_source_output()
            if source.get_node().get_type_name() == "Convert" and source.get_node().get_name() in own:
                reader.replace_source_output(stem)  # where bfloat16 began
            elif source.get_node().get_name() not in own | {start} and _gives_bfloat16(source.get_node()):
                reader.replace_source_output(opset13.convert(source, "f32").output(0))  # weights
    model.validate_nodes_and_infer_types()


def _gives_bfloat16(node: Any) -> bool:
    return bool(node.get_output_size() and node.get_output_element_type(0).get_type_name() == "bf16")


def _between(model: Any, stem: Any, last: Any) -> list[Any]:
    """The nodes on the ways from the stem's tensor to a node, in an order that runs; without these two."""
    reached, names = [], {stem.get_node().get_name()}
    for node in takewhile(lambda node: node.get_name() != last.get_name(), model.get_ordered_ops()):
        if any(reader.get_source_output().get_node().get_name() in names for reader in node.inputs()):
            names.add(node.get_name())
            reached.append(node)
    return reached


def _constants(node: Any) -> list[Any]:
    """The inputs of a node that are float32 constants."""
    return [reader for reader in node.inputs() if _is_constant(reader.get_source_output())]


def _is_constant(tensor: Any) -> bool:
    return bool(tensor.get_node().get_type_name() == "Constant" and tensor.get_element_type().get_type_name() == "f32")


def _inserted(tensor: Any, make: Callable[[Any], Any]) -> Any:
    """A node made of a tensor, whose readers read that node's output instead."""
    readers = list(tensor.get_target_inputs())
    node = make(tensor)
    for reader in readers:
        reader.replace_source_output(node.output(0))
    return node


def _add_what_is_lost(add: Any) -> None:
    """Adds to a sum with a bias what the bias loses in bfloat16, after the residual where one is added next.

    There it becomes part of the convolution as the bias does. Two constants added one after the other OpenVINO would
    make one, rounded; hence the limit between them that nothing reaches.
    """
    from openvino import opset13

    bias: NDArray[np.float32] = _constants(add)[0].get_source_output().get_node().data
    lost = opset13.constant(bias - widened(_bits(bias)))
    (reader, *others) = add.output(0).get_target_inputs()
    following = reader.get_node()
    if not others and following.get_type_name() == "Add" and not _constants(following):
        _inserted(following.output(0), lambda tensor: opset13.add(tensor, lost))
    else:
        _inserted(add.output(0), lambda tensor: opset13.add(opset13.clamp(tensor, -LARGE, LARGE), lost))


def _constant(values: NDArray[np.float32]) -> Any:
    """The output of a constant in bfloat16, which numpy does not have."""
    import openvino

    tensor = openvino.Tensor(openvino.Type.bf16, openvino.Shape(values.shape))
    tensor.data.view(np.uint16)[...] = _bits(values)
    return openvino.op.Constant(tensor).output(0)


def _bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, of two that are as near the even one: the upper half of a float32's."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
