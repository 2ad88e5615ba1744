"""A recorded graph as `onnx.ModelProto`. This is where values and nodes get their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from detr_onnx import __version__
from detr_onnx.errors import EngineError
from detr_onnx.exporter.external_data import layout, pointer
from detr_onnx.network.graph import DATA_TYPES, MICROSOFT, OMITTED, OPSET, Attribute, Graph, Node, Symbol

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
    microsoft = [(MICROSOFT, 1)] if any(node.domain == MICROSOFT for node in graph.nodes) else []
    nodes = _nodes(onnx, graph, node_names, names) + _identities(onnx, graph, names)
    inputs, outputs = (_value_infos(onnx, graph, values) for values in (graph.inputs, graph.outputs))
    return onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "detr", inputs, outputs, _initializers(onnx, graph, names, data)),
        opset_imports=[onnx.helper.make_opsetid(*domain) for domain in (("", OPSET), *microsoft)],
        ir_version=IR_VERSION,
        producer_name="detr-onnx",
        producer_version=__version__,
    )


def name_all(graph: Graph) -> tuple[dict[Node, str], dict[Symbol, str]]:
    """The name of each node and of each value, those in loops included.

    A node is named by its path and operator; what it makes, and a constant without a name, by the node. A value that
    is an output has the output's name, unless it has another already.
    """
    counts: dict[str, int] = {}
    names = {OMITTED: ""} | {symbol: name for name, symbol in graph.inputs.items()} | graph.value_names
    for name, symbol in graph.outputs.items():
        if symbol not in graph.constants:
            names.setdefault(symbol, name)
    for symbol, constant in graph.constants.items():
        if constant.name is not None:
            names[symbol] = _untaken(constant.name, counts)
    node_names: dict[Node, str] = {}
    _name_nodes(graph, counts, node_names, names)
    return node_names, names


def _name_nodes(graph: Graph, counts: dict[str, int], node_names: dict[Node, str], names: dict[Symbol, str]) -> None:
    """Adds the names of a graph's nodes and of what they make."""
    for node in graph.nodes:
        node_name = node_names[node] = _untaken("/".join(("", *node.path, node.op_type)), counts)
        for symbol in node.inputs:
            if symbol not in names and symbol in graph.constants:
                names[symbol] = _untaken(f"{node_name}_constant", counts)
        *unread, output = node.outputs
        names.setdefault(output, f"{node_name}_output")
        names.update((symbol, f"{node_name}_unread{i}") for i, symbol in enumerate(unread))
        for body in filter(_is_graph, node.attributes.values()):
            ends = {**body.inputs, **body.outputs}
            names.update((symbol, f"{node_name}_{name}") for name, symbol in ends.items())
            _name_nodes(body, counts, node_names, names)


def _is_graph(attribute: Attribute) -> TypeGuard[Graph]:
    return isinstance(attribute, Graph)


def _untaken(name: str, counts: dict[str, int]) -> str:
    """The name, with a number where it is taken."""
    count = counts[name] = counts.get(name, -1) + 1
    return f"{name}_{count}" if count else name


def _nodes(onnx: Any, graph: Graph, node_names: Mapping[Node, str], names: Mapping[Symbol, str]) -> list[Any]:
    """The `onnx.NodeProto` of each node."""
    protos = []
    for node in graph.nodes:
        inputs, outputs = ([names[symbol] for symbol in symbols] for symbols in (node.inputs, node.outputs))
        attributes = {
            key: _body(onnx, value, node_names, names) if _is_graph(value) else _attribute(onnx, value)
            for key, value in node.attributes.items()
        }
        protos.append(
            onnx.helper.make_node(node.op_type, inputs, outputs, node_names[node], domain=node.domain, **attributes)
        )
    return protos


def _body(onnx: Any, graph: Graph, node_names: Mapping[Node, str], names: Mapping[Symbol, str]) -> Any:
    """The `onnx.GraphProto` of a loop's body; its constants are those of the graph around it."""
    inputs, outputs = (_value_infos(onnx, graph, values, names) for values in (graph.inputs, graph.outputs))
    return onnx.helper.make_graph(_nodes(onnx, graph, node_names, names), "body", inputs, outputs)


def _value_infos(
    onnx: Any, graph: Graph, values: Mapping[str, Symbol], names: Mapping[Symbol, str] | None = None
) -> list[Any]:
    """Name, type and shape of inputs or outputs; with `names`, by these instead of their own."""
    return [
        onnx.helper.make_tensor_value_info(
            name if names is None else names[symbol], DATA_TYPES[symbol.dtype], graph.shapes[name]
        )
        for name, symbol in values.items()
    ]


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
