"""Smaller files: half the bytes or a quarter, nearly the same answers, no NaN where there is padding."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.errors import UsageError
from detr_onnx.exporter.onnx_file import ExportOptions, record, write_onnx
from detr_onnx.models.metadata import read_model
from detr_onnx.network.resnet import fold_batch_norm
from tests.parity.seeded import CONFIGS, seeded_tensors
from tests.small_model import sample_image

pytest.importorskip("onnxruntime")

SHARE_OF_SIZE = {
    "fp16": 0.55,
    "fp16-weights": 0.65,
    "int8-weights": 0.5,
}  # nodes and biases weigh more in a small model
LOGIT_TOLERANCE = {"fp16": 0.03, "fp16-weights": 0.01, "int8-weights": 0.3}
"""In standard deviations of the logits, and in 0..1 of boxes; seeded weights are worse off than trained ones."""


@pytest.fixture(scope="module")
def padded(small):
    """Pixels and mask of a batch of two sizes, the second a sliver."""
    detector = Detector(small, engine="numpy")
    pixels, mask, _ = detector.preprocess([sample_image(90, 60), sample_image(20, 90, 1)])
    return pixels, mask


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("precision", list(SHARE_OF_SIZE))
def test_a_smaller_file_says_nearly_the_same_of_a_padded_batch(tmp_path, small, graph, padded, precision, fused):
    path = tmp_path / f"{precision}.onnx"
    write_onnx(path, *read_model(small), ExportOptions(precision=precision, fused_attention=fused))
    assert path.stat().st_size < SHARE_OF_SIZE[precision] * graph.stat().st_size
    expected_logits, expected_boxes = Detector(graph, engine="onnxruntime").network(*padded)
    detector = Detector(path, engine="onnxruntime", precision=precision)
    assert detector.runtime.endswith(precision)
    logits, boxes = detector.network(*padded)
    assert np.isfinite(logits).all()
    assert np.isfinite(boxes).all()
    assert np.abs(logits - expected_logits).max() / expected_logits.std() < LOGIT_TOLERANCE[precision]
    assert np.abs(boxes - expected_boxes).max() < LOGIT_TOLERANCE[precision]


def test_in_fp16_all_is_half_but_positions_the_mask_and_what_comes_out():
    config = CONFIGS["small"]
    graph = record(config, fold_batch_norm(seeded_tensors(config, 1)), ExportOptions(precision="fp16"))
    single = {name for name, array in graph.constants.items() if array.dtype == np.float32 and array.size > 4}
    assert {name.split("/")[1].split(".")[0] for name in single} <= {"position"}
    halves = [node for node in graph.nodes if node.op_type == "Cast" and node.attributes["to"] == 10]
    assert {node.name.split("/")[1] for node in halves} == {"backbone", "encoder", "decoder"}
    attentions = config.encoder_layers + config.decoder_layers  # each spreads the mask's bias over its heads
    assert len(halves) == 2 + attentions  # pixels and positions once


def test_a_precision_that_there_is_not_is_refused(small, tmp_path):
    with pytest.raises(UsageError, match=r"no such precision: found 'fp8', expected one of fp32, fp16, fp16-weights"):
        write_onnx(tmp_path / "x.onnx", *read_model(small), ExportOptions(precision="fp8"))
