"""A recorded graph as `onnx.ModelProto`. This is where values and nodes get their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detr_onnx import __version__
from detr_onnx.errors import EngineError
from detr_onnx.exporter.external_data import layout, pointer
from detr_onnx.network.graph import DATA_TYPES, MICROSOFT, OPSET, Attribute, Graph, Node, Symbol

IR_VERSION = 8  # the version of opset 17's time, which runtimes from 2022 on read


def import_onnx() -> Any:
    """The package `onnx`, which only writing graphs needs.

    Raises:
        EngineError: when it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise EngineError(
            "writing an ONNX graph needs the package onnx",
            found="no such package",
            remedy="run pip install 'detr-onnx[export]', or use engine numpy",
        ) from error
    return onnx


def model_proto(graph: Graph, data: Path | None = None) -> Any:
    """The `onnx.ModelProto` of a graph.

    Args:
        graph: what was recorded.
        data: where the larger constants are; the model then only points into that file.

    Raises:
        EngineError: when the package `onnx` is not installed.
    """
    onnx = import_onnx()
    node_names, names = name_all(graph)
    nodes = [_node(onnx, node, name, names) for node, name in zip(graph.nodes, node_names, strict=True)]
    nodes += _identities(onnx, graph, names)
    inputs, outputs = (
        [
            onnx.helper.make_tensor_value_info(name, DATA_TYPES[symbol.dtype], graph.shapes[name])
            for name, symbol in values.items()
        ]
        for values in (graph.inputs, graph.outputs)
    )
    microsoft = [(MICROSOFT, 1)] if any(node.domain == MICROSOFT for node in graph.nodes) else []
    return onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "detr", inputs, outputs, _initializers(onnx, graph, names, data)),
        opset_imports=[onnx.helper.make_opsetid(*domain) for domain in (("", OPSET), *microsoft)],
        ir_version=IR_VERSION,
        producer_name="detr-onnx",
        producer_version=__version__,
    )


def name_all(graph: Graph) -> tuple[list[str], dict[Symbol, str]]:
    """The name of each node, in order, and of each value.

    A node is named by its path and operator; what it makes, and a constant without a name, by the node. A value that
    is an output has the output's name, unless it has another already.
    """
    counts: dict[str, int] = {}
    names = {symbol: name for name, symbol in graph.inputs.items()} | graph.value_names
    for name, symbol in graph.outputs.items():
        if symbol not in graph.constants:
            names.setdefault(symbol, name)
    for symbol, constant in graph.constants.items():
        if constant.name is not None:
            names[symbol] = _untaken(constant.name, counts)
    node_names = []
    for node in graph.nodes:
        node_name = _untaken("/".join(("", *node.path, node.op_type)), counts)
        for symbol in node.inputs:
            if symbol not in names and symbol in graph.constants:
                names[symbol] = _untaken(f"{node_name}_constant", counts)
        *unread, output = node.outputs
        names.setdefault(output, f"{node_name}_output")
        names.update((symbol, f"{node_name}_unread{i}") for i, symbol in enumerate(unread))
        node_names.append(node_name)
    return node_names, names


def _untaken(name: str, counts: dict[str, int]) -> str:
    """The name, with a number where it is taken."""
    count = counts[name] = counts.get(name, -1) + 1
    return f"{name}_{count}" if count else name


def _node(onnx: Any, node: Node, name: str, names: Mapping[Symbol, str]) -> Any:
    inputs, outputs = ([names[symbol] for symbol in symbols] for symbols in (node.inputs, node.outputs))
    attributes = {key: _attribute(onnx, value) for key, value in node.attributes.items()}
    return onnx.helper.make_node(node.op_type, inputs, outputs, name, domain=node.domain, **attributes)


def _attribute(onnx: Any, value: Attribute) -> Any:
    """An attribute as protobuf takes it: an array becomes a tensor."""
    return onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value


def _identities(onnx: Any, graph: Graph, names: Mapping[Symbol, str]) -> list[Any]:
    """Nodes for outputs whose value has another name: it is an input, a constant or two outputs."""
    others = [(names[symbol], name) for name, symbol in graph.outputs.items() if names[symbol] != name]
    return [onnx.helper.make_node("Identity", [value], [name], f"/outputs/{name}/Identity") for value, name in others]


def _initializers(onnx: Any, graph: Graph, names: Mapping[Symbol, str], data: Path | None) -> list[Any]:
    offsets = {symbol: offset for symbol, _, offset in layout(graph)} if data else {}
    return [
        pointer(onnx, names[symbol], constant.array, data.name, offsets[symbol])
        if data and symbol in offsets
        else onnx.numpy_helper.from_array(constant.array, names[symbol])
        for symbol, constant in graph.constants.items()
    ]
