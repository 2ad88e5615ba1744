"""Symbols stay valid while a graph grows; constants and casts are recorded once."""

from __future__ import annotations

import numpy as np

from detr_onnx.network.graph import HALF, SINGLE, Graph, Symbol
from detr_onnx.network.quantization import QuantParams


def test_a_symbol_equals_only_itself():
    assert Symbol() != Symbol()
    assert len({Symbol(), Symbol()}) == 2


def test_nodes_hold_the_symbols_they_were_given():
    graph = Graph()
    x = graph.input("x")
    y = graph.node("Relu", ("first",), [x])
    z = graph.node("Add", ("second",), [y, np.ones(9, np.float32)])
    graph.add_output(y, "early")
    graph.value_names[x] = "renamed"
    assert graph.nodes[0].inputs == (x,)
    assert graph.nodes[0].outputs == (y,)
    assert graph.nodes[1].inputs[0] is y
    assert graph.nodes[1].outputs == (z,)
    assert graph.outputs == {"early": y}


def test_equal_short_constants_are_one_symbol_and_long_ones_are_not():
    graph = Graph()
    assert graph.constant(np.int64([0, 0, -1])) is graph.constant(np.int64([0, 0, -1]))
    assert graph.constant(np.zeros(9)) is not graph.constant(np.zeros(9))
    assert graph.constant(np.float32([1])) is not graph.constant(np.int64([1]))
    assert graph.constant(np.array(1)) is not graph.constant(np.array([1]))
    assert len(graph.constants) == 6


def test_a_cast_and_a_rounding_are_recorded_once():
    graph = Graph()
    x, params = graph.input("x"), QuantParams(0.5, 3)
    assert graph.cast(x, (), HALF) is graph.cast(x, (), HALF)
    rounded = graph.quantize_dequantize(x, (), params)
    assert (
        graph.quantize_dequantize(x, (), params)
        is graph.quantize_dequantize(rounded, (), params)
        is graph.dequantized(x)
        is rounded
    )
    assert rounded.quant_params == params
    assert [node.op_type for node in graph.nodes] == ["Cast", "QuantizeLinear", "DequantizeLinear"]


def test_a_float16_value_becomes_a_float32_output():
    graph = Graph()
    half = graph.input("half", HALF)
    graph.add_output(half, "single")
    assert graph.outputs["single"].dtype == SINGLE
    assert graph.nodes[0].inputs == (half,)
