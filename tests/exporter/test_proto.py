"""A graph that was extended in any order is written as a valid model, in which every value has one name."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest

from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.exporter.onnx_file import (
    FEATURE_MAPS,
    ExportOptions,
    onnx_model,
    record,
    write_graph,
)
from detr_onnx.exporter.proto import model_proto
from detr_onnx.exporter.taps import add_taps
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.network.graph import Graph
from detr_onnx.network.quantization import ConvQuantParams, QuantParams
from tests.parity.seeded import CONFIGS, seeded_pixels, seeded_tensors

STEM, PROJECTION = "stem", "projection"  # stages
CONFIG = CONFIGS["small"]
PIXELS = seeded_pixels(3, 1, 3, 64, 80)
ROUNDED = ConvQuantParams(QuantParams.of_range(-4, 4), QuantParams.of_range(-4, 4))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(CONFIG, seeded_tensors(CONFIG, 1))


def run(model: onnx.ModelProto, **feeds) -> dict[str, np.ndarray]:
    """The checked model's outputs by name; not optimized, since an output keeps ONNX Runtime from fusing nodes."""
    onnx.checker.check_model(model, full_check=True)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


# A graph that goes on growing


def name_ends(graph: Graph) -> None:
    """Gives float32 values in between names that outputs have, too."""
    for name in (STEM, PROJECTION):
        if graph.stages[name].dtype == np.float32:
            graph.value_names[graph.stages[name]] = name


def tap(graph: Graph) -> None:
    add_taps(graph, "backbone.")


def add_stages(graph: Graph) -> None:
    for name, value in graph.stages.items():
        rank = 4 if name.startswith(FEATURE_MAPS) else 3
        graph.add_output(value, f"stage {name}", [None] * rank)


def add_stem_and_projection(graph: Graph) -> None:
    """Outputs of the names that the values in between have."""
    for name in (STEM, PROJECTION):
        graph.add_output(graph.stages[name], name, [None] * 4)


CHANGES = (name_ends, tap, add_stages, add_stem_and_projection)


@pytest.mark.parametrize(("options", "tolerance"), [
    (ExportOptions(mask=False), 0),
    (ExportOptions(mask=False, shape_hw=(64, 80)), 0),  # positions are a constant, and an output
    (ExportOptions(mask=False, precision="fp16"), 0.05),  # ONNX Runtime keeps float32 between nodes where it can
    (ExportOptions(mask=False, precision="int8", quant_params={"backbone.conv1": ROUNDED}), 0),
], ids=["fp32", "fixed shape", "fp16", "int8"])  # fmt: skip
def test_names_taps_and_outputs_may_be_added_in_any_order(checkpoint, options, tolerance, tmp_path):
    expected = run(onnx_model(checkpoint, Preprocessing(), options), pixel_values=PIXELS)
    for number, order in enumerate(itertools.permutations(CHANGES)):
        graph = record(checkpoint, Preprocessing(), options)
        for change in order:
            change(graph)
        path = tmp_path / f"{number}.onnx"
        write_graph(path, graph, checkpoint, Preprocessing(), options)
        found = run(onnx.load(path), pixel_values=PIXELS)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(found["stage logits"], found["logits"])
        np.testing.assert_array_equal(found["stage stem"], found[STEM])
        np.testing.assert_array_equal(found["sample.1"][0], found["sample.1"].max())


def test_a_named_value_keeps_its_name_and_its_readers(checkpoint):
    graph = record(checkpoint, Preprocessing(), ExportOptions())
    name_ends(graph)
    graph.add_output(graph.stages[STEM], "another")
    nodes = model_proto(graph).graph.node
    assert {STEM, PROJECTION} <= {name for node in nodes for name in node.output}
    assert {node.op_type for node in nodes if STEM in node.input} == {"Conv", "Identity"}


# Names


def test_a_value_is_named_by_the_node_that_makes_it_and_a_constant_by_the_one_that_reads_it():
    graph = Graph()
    x = graph.input("x")
    for _ in range(2):
        x = graph.node("Add", ("a", "b"), [x, np.arange(9, dtype=np.float32)])
    graph.add_output(graph.node("Mul", (), [x, np.float32([2])]), "y")
    model = model_proto(graph)
    assert [node.name for node in model.graph.node] == ["/a/b/Add", "/a/b/Add_1", "/Mul"]
    assert [list(node.input) for node in model.graph.node] == [
        ["x", "/a/b/Add_constant"],
        ["/a/b/Add_output", "/a/b/Add_1_constant"],
        ["/a/b/Add_1_output", "float32[2.0]"],
    ]
    assert model.graph.node[-1].output == ["y"]


def test_a_value_may_be_two_outputs_an_input_may_be_one_and_so_may_a_constant():
    graph = Graph()
    x = graph.input("x", shape=[2])
    y = graph.node("Neg", (), [x])
    graph.add_output(y, "first", [2])
    graph.add_output(y, "second", [2])
    graph.add_output(x, "the input", [2])
    graph.add_output(np.float32([7]), "short constant", [1])
    graph.add_output(np.arange(9, dtype=np.float32), "long constant", [9])
    found = run(model_proto(graph), x=np.float32([1, -2]))
    assert {name: value.tolist() for name, value in found.items()} == {
        "first": [-1, 2],
        "second": [-1, 2],
        "the input": [1, -2],
        "short constant": [7],
        "long constant": list(range(9)),
    }


def test_the_operators_of_onnx_runtime_are_declared_only_where_they_are_used(checkpoint):
    plain, fused = (
        onnx_model(checkpoint, Preprocessing(), ExportOptions(fused_attention=fused)) for fused in (False, True)
    )
    assert [entry.domain for entry in plain.opset_import] == [""]
    assert [entry.domain for entry in fused.opset_import] == ["", "com.microsoft"]
