"""Smaller files: half or a quarter of the bytes, nearly the same outputs, no NaN from padding."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.errors import UsageError
from detr_onnx.exporter.onnx_file import ExportOptions, record, write_onnx
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.metadata import read_model
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
def test_a_smaller_file_gives_nearly_the_same_for_a_padded_batch(tmp_path, small, graph, padded, precision, fused):
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


def test_in_fp16_only_positions_the_mask_and_the_outputs_are_float32():
    config = CONFIGS["small"]
    checkpoint = Checkpoint(config, seeded_tensors(config, 1))
    graph = record(checkpoint, Preprocessing(), ExportOptions(precision="fp16"))
    single = {s for s, c in graph.constants.items() if s.dtype == np.float32 and c.array.size > 4}
    assert {node.path[0] for node in graph.nodes if not single.isdisjoint(node.inputs)} <= {"position"}
    halves = [node for node in graph.nodes if node.op_type == "Cast" and node.attributes["to"] == 10]
    assert {node.path[0] for node in halves} == {"backbone", "encoder", "decoder"}
    attentions = config.encoder_layers + config.decoder_layers  # each spreads the mask's bias over its heads
    assert len(halves) == 2 + attentions  # pixels and positions once


def test_an_unknown_precision_is_refused(small, tmp_path):
    with pytest.raises(UsageError, match=r"no such precision: found 'fp8', expected one of fp32, fp16, fp16-weights"):
        write_onnx(tmp_path / "x.onnx", *read_model(small), ExportOptions(precision="fp8"))
