"""int8 graphs: the backbone stays in 8 bits, outputs nearly agree with fp32, and bytes are reproducible."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from detr_onnx import Detector
from detr_onnx.errors import EngineError
from detr_onnx.exporter.calibrate import find_quant_params
from detr_onnx.exporter.observation import QUANTIZED
from detr_onnx.exporter.onnx_file import ExportOptions, onnx_model, write_onnx
from detr_onnx.image.preprocess import batch
from detr_onnx.models.metadata import read_model
from tests.small_model import sample_image

LOGITS_TOLERANCE = 0.6  # of their standard deviation: seeded weights amplify rounding errors more than trained ones
MEAN_TOLERANCE = 0.1
OPTIONS = {
    "any size, mask": ExportOptions(),
    "any size, no mask": ExportOptions(mask=False),
    "one size, mask, two images": ExportOptions(shape_hw=(96, 64), batch=2),
    "one size, no mask": ExportOptions(shape_hw=(96, 64), mask=False, batch=1),
    "attention as one node": ExportOptions(fused_attention=True),
}


def as_int8(options: ExportOptions, quant_params) -> ExportOptions:
    return replace(options, precision="int8", quant_params=quant_params)


@pytest.fixture(scope="module")
def model(small):
    return read_model(small)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """Three files."""
    directory = tmp_path_factory.mktemp("images")
    for seed in range(3):
        sample_image(90, 60 + seed, seed).save(directory / f"{seed}.png")
    return sorted(directory.iterdir())


@pytest.fixture(scope="module")
def quant_params(model, images):
    return find_quant_params(model, images, "minmax")


def running(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_int8_nearly_agrees_with_fp32(options, model, quant_params):
    pixels, _, _ = batch(
        [sample_image(64, 96, seed) for seed in range(options.batch or 2)], replace(model[1], resize=False)
    )
    feeds = {"pixel_values": pixels} | (
        {"pixel_mask": np.ones((len(pixels), 96, 64), np.int64)} if options.mask else {}
    )
    int8 = onnx_model(*model, as_int8(options, quant_params))
    onnx.checker.check_model(int8, full_check=True)
    expected, found = (running(m).run(None, feeds) for m in (onnx_model(*model, options), int8))
    error = np.abs(found[0] - expected[0]) / expected[0].std()
    assert 0 < error.mean() < MEAN_TOLERANCE
    assert error.max() < LOGITS_TOLERANCE
    assert np.isfinite(found[1]).all()


def test_all_convolutions_and_the_sums_between_them_run_in_int8(model, quant_params, tmp_path):
    """As optimized by ONNX Runtime: one Q at the image, DQs only after the last block."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    file = onnx_model(*model, as_int8(ExportOptions(), quant_params)).SerializeToString()
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    backbone = Counter(node.op_type for node in nodes if node.name.startswith("/backbone/") or "Pool" in node.op_type)
    convolutions = sum(path.startswith(QUANTIZED) for path in quant_params)
    blocks = sum(model[0].config.backbone.depths)
    assert Counter(node.op_type for node in nodes)["QLinearConv"] == convolutions == len(quant_params)
    assert (
        Counter(node.op_type for node in nodes)["QLinearAdd"] == blocks - 1
    )  # the last sum is passed to the transformer
    assert backbone["QuantizeLinear"] == 1
    assert backbone["DequantizeLinear"] == 2
    assert backbone["Conv"] == backbone["Mul"] == 0


def test_a_float_layer_has_float_weights_among_int8_ones(model, quant_params):
    others = {path: params for path, params in quant_params.items() if path != "backbone.layer2.0.conv1"}
    nodes = onnx_model(*model, as_int8(ExportOptions(), others)).graph.node
    names = {node.name for node in nodes if node.op_type == "DequantizeLinear"}
    assert not any(name.startswith("/backbone/layer2.0/conv1.weight/") for name in names)
    assert any(name.startswith("/backbone/layer2.0/conv2.weight/") for name in names)


def test_only_the_backbone_is_rounded_and_only_its_and_feed_forward_weights_are_int8(model, quant_params):
    graph = onnx_model(*model, as_int8(ExportOptions(), quant_params)).graph
    modules = {node.name.split("/")[1] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert modules == {"backbone", "encoder", "decoder"}
    rounded = [node.name for node in graph.node if node.op_type == "QuantizeLinear"]
    assert all(name.startswith("/backbone/") for name in rounded)
    levels = [t.name for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]
    assert {name.split(".")[0] for name in levels} <= {"backbone", "encoder", "decoder"}
    assert all(".fc" in name for name in levels if not name.startswith("backbone"))


def test_an_end_to_end_graph_can_be_int8(model, quant_params):
    session = running(onnx_model(*model, as_int8(ExportOptions(end_to_end=True), quant_params)))
    feeds = {"image": np.asarray(sample_image(90, 60)), "threshold": np.zeros(1, np.float32)}
    scores, labels, boxes = session.run(["scores", "labels", "boxes"], feeds)
    assert len(scores) == len(labels) == len(boxes) > 0


def test_calibrating_and_writing_twice_gives_the_same_bytes(model, images, tmp_path):
    files = [tmp_path / "first.onnx", tmp_path / "second.onnx"]
    for file in files:
        write_onnx(file, *model, as_int8(ExportOptions(), find_quant_params(model, images, "mse")))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_detector_runs_the_file_and_reports_its_precision(model, quant_params, tmp_path):
    path = tmp_path / "int8.onnx"
    write_onnx(path, *model, as_int8(ExportOptions(), quant_params))
    detector = Detector(path, engine="onnxruntime", precision="int8")
    assert detector.runtime.endswith("int8")
    assert len(detector(sample_image(90, 60), threshold=0)) > 0
    with pytest.raises(EngineError, match="the graph does not have precision fp32: found int8"):
        Detector(path, engine="onnxruntime", precision="fp32")


@pytest.mark.parametrize("engine", ["numpy", "openvino"])
def test_an_engine_without_int8_names_one_that_has_it(engine, small):
    with pytest.raises(
        EngineError, match=rf"engine {engine} has no precision int8: expected one of .*; use engine onnxruntime"
    ):
        Detector(small, engine=engine, precision="int8")


def test_int8_of_a_checkpoint_alone_is_refused_with_what_to_do(small):
    with pytest.raises(EngineError, match=r"int8 needs images .* export with --precision int8 --calibrate DIR"):
        Detector(small, engine="onnxruntime", precision="int8")
