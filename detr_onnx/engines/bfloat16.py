"""Parts of a graph in bfloat16, the rest in float32. OpenVINO computes each node in the type of its inputs.

A bfloat16 number has 8 significant bits. Rounding costs most accuracy in the pixels, in sums that run through many
layers, in positions, and in the decoder, which decides between close values. Convolutions and the products of large
matrices, which take nearly all of the time, bear it better. Two things make up for most of what they lose: the
remainder that rounding takes from the bias of a convolution is added again in its float32 accumulator, and the first
convolution gets the levels 0 to 255 that the pixels are made of, which bfloat16 represents exactly.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.checkpoint.safetensors import widened
from detr_onnx.engines.openvino_nodes import (
    before_rounding,
    bfloat16_bits,
    bfloat16_constant,
    computed_in,
    constant_inputs,
    constant_values,
    fold_constants,
    insert_after,
    output_type,
)
from detr_onnx.image.processor_config import Preprocessing

BF16_BACKBONE, BF16_MIXED = "bf16-backbone", "bf16-mixed"

STAGES = r"/backbone/layer"
PROJECTIONS = r"/input_projection/|/mask_head/adapter"
STEM = r"/backbone/(conv1|MaxPool)"
ENCODER = r"/encoder/layers\.\d+/(self_attn/(?!out_proj/Add)|fc1/|fc2/MatMul)"  # neither sums nor what is added
DECODER = r"/decoder/layers\.\d+/(encoder_attn/[kv]_proj/|fc1/|fc2/MatMul)"  # keys, values and feed-forward layers
REGIONS = {
    BF16_BACKBONE: re.compile("|".join((STAGES, PROJECTIONS))),
    BF16_MIXED: re.compile("|".join((STEM, STAGES, PROJECTIONS, ENCODER, DECODER))),
}
"""What each precision computes in bfloat16: names of nodes, which in our graphs are their paths in the model."""

FIRST = "/backbone/conv1/"
LARGE = 3e38  # about the largest number of float32 and of bfloat16


def can_be_lowered(model: Any) -> bool:
    """Whether an `openvino.Model` is one of our graphs, by its names and its stem, with nothing in 16 bits already.

    Tools that optimise files, as ONNX Runtime does, may keep most names and merge nodes.
    """
    names = re.compile(DECODER)
    has_names = False
    for node in model.get_ops():
        if computed_in(node) in ("f16", "bf16") or (_is_stem(node) and _bias_after(node) is None):
            return False
        has_names = has_names or bool(names.match(node.get_friendly_name()))
    return has_names


def is_lowered(model: Any) -> bool:
    """Whether a part of the model is in bfloat16."""
    return any(computed_in(node) == "bf16" for node in model.get_ops())


def lower(model: Any, region: re.Pattern[str], preprocessing: Preprocessing, *, stages_in_int8: bool = False) -> None:
    """Converts the nodes of a region to bfloat16, weights included, in place.

    Args:
        model: an `openvino.Model` in float32.
        region: matches the names of the nodes, such as one of `REGIONS`.
        preprocessing: how pixels are made of levels.
        stages_in_int8: the stages of the backbone are in int8 and stay so.
    """
    if stages_in_int8:
        _skip_int8_of_stem(model)
    nodes = _nodes_of(model, region, stages_in_int8)
    for node in nodes:
        fold_constants(node)
    for node in list(nodes):
        if _is_stem(node):
            nodes += _convolve_levels(node, preprocessing)
        elif _is_bias_of_convolution(node):
            nodes += _add_bias_remainder(node)
    names, rounded = {node.get_friendly_name() for node in nodes}, dict[str, Any]()
    for node in nodes:
        _round_inputs(node, names, rounded)
    for node in nodes:
        _widen_output(node, names)
    model.validate_nodes_and_infer_types()


def raise_to_float32(model: Any) -> None:
    """Converts everything in bfloat16 back to float32, in place; weights keep their rounded values."""
    from openvino import opset13

    for node in model.get_ordered_ops():
        if output_type(node) != "bf16":
            continue
        if node.get_type_name() == "Convert":
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(node.input(0).get_source_output())
        elif node.get_type_name() == "Constant":
            insert_after(node, lambda tensor: opset13.convert(tensor, "f32"))
    model.validate_nodes_and_infer_types()


def _nodes_of(model: Any, region: re.Pattern[str], stages_in_int8: bool) -> list[Any]:
    """The nodes to convert, in topological order: those with the right names that depend on the pixels."""
    nodes, reached = [], {node.get_friendly_name() for node in model.get_parameters()}
    for node in model.get_ordered_ops():
        name = node.get_friendly_name()
        if reached.isdisjoint(reader.get_source_output().get_node().get_friendly_name() for reader in node.inputs()):
            continue
        reached.add(name)
        is_inside = region.match(name) and not (stages_in_int8 and re.match(STAGES, name))
        if is_inside and node.get_output_element_type(0).is_real():
            nodes.append(node)
    return nodes


def _skip_int8_of_stem(model: Any) -> None:
    """Lets convolution and pooling of the stem read what their inputs are rounded from.

    Pixels are levels, which int8 would round once more. The pooling's output is rounded to the steps of its input, and
    rounding keeps the order, so the result is the same.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "MaxPool") and re.match(STEM, node.get_friendly_name()):
            node.input(0).replace_source_output(before_rounding(node.input(0).get_source_output()))


def _convolve_levels(conv: Any, preprocessing: Preprocessing) -> list[Any]:
    """Lets the first convolution read levels y instead of pixels x; returns the new nodes inside the region.

    x = (y - d) / a, where a and d make y a whole number between -255 and 255, which bfloat16 holds exactly. What
    rounding takes from the weights of the three colours is added up and becomes the weight of a fourth channel, the
    mean of the levels: colours of photographs differ little from their mean. OpenVINO computes four channels in the
    time of three; exact weights, which take six, cost 2 to 4 % of the network's time.
    """
    from openvino import opset13

    weight = conv.input(1).get_source_output().get_node().data.astype(np.float64)  # [D,3,7,7]
    factor, mean, std = preprocessing.rescale_factor, np.array(preprocessing.mean), np.array(preprocessing.std)
    a, d = _column(std / factor), _column(mean / factor - np.round(mean / factor))
    scaled = weight / a
    _shift_bias(_bias_after(conv), -(scaled * d).sum((1, 2, 3)))
    pixels = conv.input(0).get_source_output()
    levels = opset13.add(opset13.multiply(pixels, a.astype(np.float32)), d.astype(np.float32))  # [B,3,H,W]
    four = opset13.concat([levels, opset13.reduce_mean(levels, [1], keep_dims=True)], 1)  # [B,4,H,W]
    rounded = widened(bfloat16_bits(scaled.astype(np.float32)))
    lost = (scaled - rounded).sum(1, keepdims=True)  # [D,1,7,7]
    weights = np.concatenate([rounded, lost.astype(np.float32)], 1)  # [D,4,7,7]
    conv.input(0).replace_source_output(four.output(0))
    conv.input(1).replace_source_output(opset13.constant(weights).output(0))
    return [four]


def _column(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values.reshape(1, -1, 1, 1)


def _shift_bias(add: Any, shift: NDArray[np.float64]) -> None:
    """Adds `shift` [D] to the constant of an Add."""
    from openvino import opset13

    (reader,) = constant_inputs(add)
    bias = reader.get_source_output().get_node().data
    reader.replace_source_output(opset13.constant((bias + shift.reshape(bias.shape)).astype(np.float32)).output(0))


def _round_inputs(node: Any, inside: set[str], rounded: dict[str, Any]) -> None:
    """Gives a node bfloat16: rounded constants, and conversions of what comes from outside, kept in `rounded`."""
    from openvino import opset13

    for reader in node.inputs():
        source = reader.get_source_output()
        name = source.get_node().get_friendly_name()
        if name in inside or source.get_element_type().get_type_name() != "f32":
            continue
        if name not in rounded:
            is_constant = source.get_node().get_type_name() == "Constant"
            rounded[name] = (
                bfloat16_constant(source.get_node().data) if is_constant else opset13.convert(source, "bf16").output(0)
            )
        reader.replace_source_output(rounded[name])


def _widen_output(node: Any, inside: set[str]) -> None:
    """Gives readers outside float32."""
    from openvino import opset13

    readers = [
        reader
        for reader in node.output(0).get_target_inputs()
        if reader.get_node().get_friendly_name() not in inside and reader.get_node().get_type_name() != "ShapeOf"
    ]
    if readers:
        wide = opset13.convert(node.output(0), "f32").output(0)
        for reader in readers:
            reader.replace_source_output(wide)


def _add_bias_remainder(add: Any) -> list[Any]:
    """Adds the remainder that a bias loses in bfloat16, after the residual if one is added next; returns the new nodes.

    OpenVINO fuses it into the convolution, like the bias. It would merge two consecutive constants into one, rounded;
    the clamp between them, whose limits are never reached, prevents that.
    """
    from openvino import opset13

    bias: NDArray[np.float32] = constant_inputs(add)[0].get_source_output().get_node().data
    remainder = opset13.constant(bias - widened(bfloat16_bits(bias)))
    (reader, *others) = add.output(0).get_target_inputs()
    following = reader.get_node()
    if not others and following.get_type_name() == "Add" and not constant_inputs(following):
        return [insert_after(following, lambda tensor: opset13.add(tensor, remainder))]
    clamp = insert_after(add, lambda tensor: opset13.clamp(tensor, -LARGE, LARGE))
    return [clamp, insert_after(clamp, lambda tensor: opset13.add(tensor, remainder))]


def _is_stem(node: Any) -> bool:
    return bool(node.get_type_name() == "Convolution" and node.get_friendly_name().startswith(FIRST))


def _bias_after(conv: Any) -> Any:
    """The node of the stem that adds a bias to its convolution, and alone reads it; None if there is none."""
    readers = [reader.get_node() for reader in conv.output(0).get_target_inputs()]
    adds = [node for node in readers if node.get_type_name() != "ShapeOf"]  # which `fold_constants` makes needless
    if len(adds) != 1 or adds[0].get_type_name() != "Add" or not adds[0].get_friendly_name().startswith(FIRST):
        return None
    is_known = [constant_values(reader.get_source_output()) is not None for reader in adds[0].inputs()]
    return adds[0] if any(is_known) else None


def _is_bias_of_convolution(node: Any) -> bool:
    if node.get_type_name() != "Add" or not constant_inputs(node):
        return False
    return any(reader.get_source_output().get_node().get_type_name() == "Convolution" for reader in node.inputs())
