"""Nodes that let a graph tell what goes into and comes out of its convolutions, a few numbers of each."""

from __future__ import annotations

import numpy as np

from detr_onnx.network.onnx_ops import Graph, Symbol

EVERY = 37  # of a feature map's numbers one is given out; a prime, so that no column or channel is picked each time
END = np.array([np.iinfo(np.int64).max], np.int64)


def observe(graph: Graph, within: str) -> dict[str, tuple[str, str]]:
    """Adds an output for each value at a convolution; for each place `within` the outputs of its input and its own.

    An output holds the smallest number, the largest, and every `EVERY`-th: [2 + n] float32.
    """
    names: dict[str, str] = {}
    convolutions = {place: ends for place, ends in graph.convolutions.items() if place.startswith(within)}
    for symbol in dict.fromkeys(symbol for ends in convolutions.values() for symbol in ends):
        names[symbol.name] = f"sample.{len(names)}"
        graph.samples.append(names[symbol.name])
        graph.add_output(_sample(graph, symbol), names[symbol.name])
    return {place: (names[x.name], names[y.name]) for place, (x, y) in convolutions.items()}


def _sample(graph: Graph, x: Symbol) -> Symbol:
    place = ("observed",)
    row = graph.node("Reshape", place, [x, np.array([-1], np.int64)], {})
    ends = [graph.node(kind, place, [row], {"keepdims": 1}) for kind in ("ReduceMin", "ReduceMax")]
    zero, step = np.zeros(1, np.int64), np.array([EVERY], np.int64)
    some = graph.node("Slice", place, [row, zero, END, zero, step], {})
    return graph.node("Concat", place, [*ends, some], {"axis": 0})
