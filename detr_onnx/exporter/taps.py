"""Extra outputs that show what goes into and comes out of a graph's convolutions: the extremes and a sample.

The feature maps of a photograph take a gigabyte. They are read by pooling operators where possible: ONNX Runtime
computes these in the blocked layout of its convolutions; for any other operator it first rearranges the whole map.
"""

from __future__ import annotations

import numpy as np

from detr_onnx.network.graph import Graph, Symbol

STRIDE = 2  # of the rows and columns that are sampled; with more, small maps would be sampled mostly at the border
SAMPLE_EVERY = 11  # which of their values are sampled; a prime, so that no column or channel is always sampled
MAX_INT64 = np.array([np.iinfo(np.int64).max], np.int64)
PATH = ("taps",)


def add_taps(graph: Graph, prefix: str) -> dict[str, tuple[str, str]]:
    """Adds an output for each value that enters or leaves a convolution.

    An output holds the maximum, the minimum unless it is 0, and one in about `STRIDE`² · `SAMPLE_EVERY` of the values,
    in no particular order: [n] float32.

    Args:
        graph: a recorded graph, which is extended.
        prefix: of the paths of the convolutions to tap.

    Returns:
        The names of the outputs of each convolution's input and output, by its path.
    """
    convolutions = {path: tapped for path, tapped in graph.convolutions.items() if path.startswith(prefix)}
    symbols = dict.fromkeys(symbol for tapped in convolutions.values() for symbol in tapped)
    names = {symbol: f"sample.{number}" for number, symbol in enumerate(symbols)}
    positive = _without_negative_values(graph)
    for symbol, name in names.items():
        parts = [_maximum(graph, symbol), _sample(graph, symbol)]
        parts += [] if symbol in positive else [_minimum(graph, symbol)]
        graph.add_output(graph.node("Concat", PATH, parts, {"axis": 0}), name, [None])
    return {path: (names[x], names[y]) for path, (x, y) in convolutions.items()}


def _without_negative_values(graph: Graph) -> set[Symbol]:
    """The outputs of ReLUs, and of max pooling after a ReLU."""
    positive: set[Symbol] = set()
    for node in graph.nodes:
        if node.op_type == "Relu" or (node.op_type == "MaxPool" and node.inputs[0] in positive):
            positive.add(node.outputs[-1])
    return positive


def _maximum(graph: Graph, x: Symbol) -> Symbol:
    return graph.node("ReduceMax", PATH, [_flat(graph, graph.node("GlobalMaxPool", PATH, [x]))], {"keepdims": 1})


def _minimum(graph: Graph, x: Symbol) -> Symbol:
    return graph.node("ReduceMin", PATH, [_flat(graph, x)], {"keepdims": 1})


def _sample(graph: Graph, x: Symbol) -> Symbol:
    """Pooling over windows of one cell takes the cells as they are."""
    cells = graph.node("MaxPool", PATH, [x], {"kernel_shape": (1, 1), "strides": (STRIDE, STRIDE)})
    zero, step = np.zeros(1, np.int64), np.array([SAMPLE_EVERY], np.int64)
    return graph.node("Slice", PATH, [_flat(graph, cells), zero, MAX_INT64, zero, step])


def _flat(graph: Graph, x: Symbol) -> Symbol:
    return graph.node("Reshape", PATH, [x, np.array([-1], np.int64)])
