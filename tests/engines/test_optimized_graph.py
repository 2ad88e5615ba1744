"""Graphs that ONNX Runtime has optimised for this processor answer as before, and are refused on any other."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from detr_onnx.cache import list_entries
from detr_onnx.engines import optimized_graph
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from detr_onnx.engines.optimized_graph import (
    LAID_OUT,
    PROBE,
    check_probe,
    name_sizes,
    optimize,
    optimized_for,
    stride_of,
)
from detr_onnx.engines.options import EngineOptions
from detr_onnx.errors import EngineError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import demo_directory, open_model
from tests.parity.seeded import padded_batch, seeded_pixels

onnx = pytest.importorskip("onnx")

SIZES = [(64, 96), (97, 131), (50, 131), (97, 33)]
TOLERANCE = 1e-4  # of the logits' spread: the same kernels, sums in the same order but for what adds in place


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """The demo model's graph as it was written, and as it was optimised."""
    place = tmp_path_factory.mktemp("optimized")
    plain, best = place / "plain" / "model.onnx", place / "best" / "model.onnx"
    plain.parent.mkdir()
    write_onnx(plain, *read_model(demo_directory()), ExportOptions(fused_attention=True), external_data=True)
    shutil.copytree(plain.parent, best.parent)
    optimize(best)
    return plain, best


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * expected[0].std())


def test_images_of_any_size_have_the_same_answers(graphs):
    plain, best = (onnxruntime_engine(graph).network for graph in graphs)
    for height, width in [*SIZES, *SIZES]:
        pixels = seeded_pixels(3, 1, 3, height, width)
        assert_same(best(pixels, None), plain(pixels, None))


def test_a_padded_batch_has_the_same_answers(graphs):
    plain, best = (onnxruntime_engine(graph).network for graph in graphs)
    batch = padded_batch(seeded_pixels(4, 3, 3, 97, 131), SIZES[1:])
    assert_same(best(*batch), plain(*batch))


def test_every_feature_map_in_the_new_layout_has_a_named_size(graphs):
    model = onnx.load(graphs[1], load_external_data=False)
    nodes = [node for node in model.graph.node if node.domain == LAID_OUT and node.op_type == "Conv"]
    if not nodes:
        pytest.skip("ONNX Runtime lays nothing out on this processor")
    sizes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in model.graph.value_info
    }
    assert {node.output[0] for node in nodes} <= sizes.keys()
    sums = [node for node in nodes if len(node.input) == 4]
    assert len(sums) >= 5  # a block each
    assert all(sizes[node.input[3]] == sizes[node.output[0]] for node in sums)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "pad", "divides_by"),
    [(1, 1, 1, 0, 1), (3, 1, 1, 1, 1), (7, 2, 1, 3, 2), (3, 1, 2, 2, 1), (3, 1, 1, 0, None), (2, 2, 1, 0, None)],
)
def test_only_layers_that_divide_the_size_and_round_up_have_a_stride(kernel, stride, dilation, pad, divides_by):
    attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "dilations": [dilation] * 2, "pads": [pad] * 4}
    assert stride_of(attributes) == divides_by


def test_an_empty_graph_has_no_sizes():
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    name_sizes(model)
    assert not model.graph.value_info


def test_a_graph_with_the_recorded_outputs_is_accepted(graphs):
    check_probe(onnxruntime_engine(graphs[1]), graphs[1])


@pytest.mark.parametrize("spoil", [lambda answers: -answers, lambda answers: answers * np.nan])
def test_a_graph_with_other_outputs_is_refused(graphs, tmp_path, spoil):
    moved = shutil.copytree(graphs[1].parent, tmp_path / "moved")
    np.save(moved / PROBE, spoil(np.load(moved / PROBE)))
    with pytest.raises(
        EngineError, match=r"optimised for another processor: found outputs that differ by .* of their spread; delete"
    ):
        check_probe(onnxruntime_engine(moved / "model.onnx"), moved / "model.onnx")


def test_each_kind_of_processor_has_a_graph_of_its_own(small, tmp_path, monkeypatch):
    for features in ([], ["avx2"], ["avx2"]):
        monkeypatch.setattr(optimized_graph, "cpu_features", lambda features=features: features)
        open_model(small, EngineOptions("onnxruntime"), cache_dir=tmp_path)
        assert any(optimized_for() in entry.name for entry in list_entries(tmp_path))
    assert len(list_entries(tmp_path)) == 2


@pytest.mark.parametrize("arguments", [{"providers": ["CPU"]}, {"precision": "fp16"}])
def test_other_providers_and_precisions_run_the_graph_as_it_was_written(small, tmp_path, arguments):
    open_model(small, EngineOptions("onnxruntime", **arguments), cache_dir=tmp_path)
    assert not any((entry.path / PROBE).exists() for entry in list_entries(tmp_path))
