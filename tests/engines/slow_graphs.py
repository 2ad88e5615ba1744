"""Graphs in files that never end, or only after hours; each looks like a DETR from the outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ENDLESS = 2**62
SIDE, PRODUCTS = 2000, 400  # of constant matrices, multiplied while the graph is loaded: minutes


def _detr(nodes: Sequence[Any], constants: dict[str, np.ndarray], functions: Sequence[Any] = ()) -> Any:
    """A graph whose nodes make `number` of shape [1] from `pixel_values`; it is expanded to logits and boxes."""
    from onnx import TensorProto, helper, numpy_helper

    shapes = {"logits": (1, 2, 3), "pred_boxes": (1, 2, 4)}
    constants = constants | {f"{name}_shape": np.array(shape) for name, shape in shapes.items()}
    outputs = [helper.make_node("Expand", ["number", f"{name}_shape"], [name]) for name in shapes]
    graph = helper.make_graph(
        [*nodes, *outputs],
        "detr",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        initializer=[numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid("own", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def _mean() -> list[Any]:
    """Nodes that make `mean` of shape [1] from the pixels."""
    from onnx import helper

    return [
        helper.make_node("ReduceMean", ["pixel_values"], ["scalar"], keepdims=0),
        helper.make_node("Reshape", ["scalar", "one_axis"], ["mean"]),
    ]


def _loop(start: str, output: str) -> Any:
    """A node that adds one, `ENDLESS` times."""
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["goes_on"]), helper.make_node("Add", ["x", "one"], ["more"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]),
        ],
    )
    return helper.make_node("Loop", ["rounds", "true", start], [output], body=body)


CONSTANTS = {
    "one": np.ones(1, np.float32),
    "rounds": np.array(ENDLESS),
    "true": np.array(True),
    "zero": np.zeros(1, np.float32),
    "one_axis": np.array([1]),
}


def constant_loop() -> Any:
    """A loop that engines run when they load the graph."""
    return _detr([_loop("zero", "number")], CONSTANTS)


def loop() -> Any:
    """A loop that begins with the pixels."""
    return _detr([*_mean(), _loop("mean", "number")], CONSTANTS)


def loop_in_branches(depth: int = 1) -> Any:
    """A loop inside a branch, inside a branch, and so on."""
    from onnx import TensorProto, helper

    node, output = _loop("mean", "number_0"), "number_0"
    for level in range(1, depth + 1):
        value = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1])]
        branch = helper.make_graph([node], "branch", [], value)
        other = helper.make_graph([helper.make_node("Neg", ["mean"], [output])], "other", [], value)
        output = f"number_{level}" if level < depth else "number"
        node = helper.make_node("If", ["true"], [output], then_branch=branch, else_branch=other)
    return _detr([*_mean(), node], CONSTANTS)


def loop_in_a_function() -> Any:
    """A loop inside a function of the model's own."""
    from onnx import helper

    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "f", ["x0", "rounds", "true", "one"], ["y"], [_loop("x0", "y")], opsets)
    call = helper.make_node("f", ["mean", "rounds", "true", "one"], ["number"], domain="own")
    return _detr([*_mean(), call], CONSTANTS, [function])


def functions_that_multiply(levels: int = 12) -> Any:
    """Functions that each call the next one ten times: `10**levels` nodes."""
    from onnx import helper

    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = []
    for level in range(levels):
        name, domain = ("Neg", "") if level == 0 else (f"f{level - 1}", "own")
        nodes = [helper.make_node(name, [f"x{i}"], [f"x{i + 1}"], domain=domain) for i in range(10)]
        functions.append(helper.make_function("own", f"f{level}", ["x0"], ["x10"], nodes, opsets))
    call = helper.make_node(f"f{levels - 1}", ["mean"], ["number"], domain="own")
    return _detr([*_mean(), call], CONSTANTS, functions)


def function_that_calls_itself() -> Any:
    """A function without an end."""
    from onnx import helper

    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    nodes = [helper.make_node("f", ["x"], ["y"], domain="own")]
    function = helper.make_function("own", "f", ["x"], ["y"], nodes, opsets)
    return _detr([*_mean(), helper.make_node("f", ["mean"], ["number"], domain="own")], CONSTANTS, [function])


def constant_products() -> Any:
    """Products of large constants, which engines compute when they load the graph."""
    from onnx import helper, numpy_helper

    value = numpy_helper.from_array(np.array([1e-4], np.float32))
    nodes = [helper.make_node("ConstantOfShape", ["side"], ["product_0"], value=value)]
    nodes += [helper.make_node("MatMul", [f"product_{i}", "product_0"], [f"product_{i + 1}"]) for i in range(PRODUCTS)]
    nodes += [
        helper.make_node("ReduceMean", [f"product_{PRODUCTS}"], ["scalar_product"], keepdims=0),
        helper.make_node("Reshape", ["scalar_product", "one_axis"], ["number"]),
    ]
    return _detr(nodes, CONSTANTS | {"side": np.array([SIDE, SIDE])})


def branch() -> Any:
    """A graph with a branch, which ends."""
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, [1])]
    chosen = helper.make_graph([helper.make_node("Neg", ["mean"], ["chosen"])], "branch", [], value)
    node = helper.make_node("If", ["true"], ["number"], then_branch=chosen, else_branch=chosen)
    return _detr([*_mean(), node], CONSTANTS)


def write(path: Path, model: Any) -> Path:
    """The .onnx file of a model."""
    path.write_bytes(model.SerializeToString())
    return path


def with_input(*shape: int) -> Any:
    """A graph whose input has one fixed shape."""
    from onnx import helper

    model = _detr([*_mean(), helper.make_node("Neg", ["mean"], ["number"])], CONSTANTS)
    for axis, length in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        axis.Clear()
        axis.dim_value = length
    return model
