"""Extra outputs that show what goes into and comes out of a graph's convolutions: the extremes and a sample."""

from __future__ import annotations

import numpy as np

from detr_onnx.network.graph import Graph, Symbol

SAMPLE_EVERY = 37  # one of so many values of a feature map; a prime, so that no column or channel is always sampled
MAX_INT64 = np.array([np.iinfo(np.int64).max], np.int64)


def add_taps(graph: Graph, prefix: str) -> dict[str, tuple[str, str]]:
    """Adds an output for each value that enters or leaves a convolution.

    An output holds the minimum, the maximum and every `SAMPLE_EVERY`-th value: [2 + n] float32.

    Args:
        graph: a recorded graph, which is extended.
        prefix: of the paths of the convolutions to tap.

    Returns:
        The names of the outputs of each convolution's input and output, by its path.
    """
    convolutions = {path: tapped for path, tapped in graph.convolutions.items() if path.startswith(prefix)}
    symbols = dict.fromkeys(symbol for tapped in convolutions.values() for symbol in tapped)
    names = {symbol: f"sample.{number}" for number, symbol in enumerate(symbols)}
    for symbol, name in names.items():
        graph.add_output(_sample(graph, symbol), name, [None])
    return {path: (names[x], names[y]) for path, (x, y) in convolutions.items()}


def _sample(graph: Graph, x: Symbol) -> Symbol:
    path = ("taps",)
    values = graph.node("Reshape", path, [x, np.array([-1], np.int64)])
    extremes = [graph.node(op_type, path, [values], {"keepdims": 1}) for op_type in ("ReduceMin", "ReduceMax")]
    zero, step = np.zeros(1, np.int64), np.array([SAMPLE_EVERY], np.int64)
    sample = graph.node("Slice", path, [values, zero, MAX_INT64, zero, step])
    return graph.node("Concat", path, [*extremes, sample], {"axis": 0})
