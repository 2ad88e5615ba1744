"""With the official weights, the published numbers (`verify/published.py`)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.checkpoint.load import Checkpoint, load_checkpoint
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.preprocess import batch
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.verify.published import (
    PIXELS,
    PIXELS_SHAPE,
    PUBLISHED,
    THRESHOLD,
    TOLERANCE,
    TOLERANCE_BOX_PX,
    TOLERANCE_PIXELS,
)
from tests.network_stages import STAGES

pytestmark = [pytest.mark.weights, pytest.mark.slow]

VALUES = PUBLISHED["facebook/detr-resnet-50"].outputs
PART = np.s_[0, :3, :3]


@pytest.fixture(scope="module")
def checkpoint(official_weights: Path) -> Checkpoint:
    return load_checkpoint(official_weights)


@pytest.fixture(scope="module")
def image() -> Path:
    """COCO's 000000039769, which is not part of the project."""
    named = os.environ.get("DETR_ONNX_GOLDEN_IMAGE")
    if not named:
        pytest.skip("DETR_ONNX_GOLDEN_IMAGE does not say where 000000039769.png is")
    return Path(named)


def test_the_official_file_has_all_tensors_and_parameters(checkpoint):
    assert len(checkpoint.tensors) == VALUES.tensors
    assert sum(tensor.size for tensor in checkpoint.tensors.values()) == VALUES.parameters


@pytest.mark.parametrize("reading", STAGES)
def test_every_implementation_gives_the_published_values(reading, checkpoint, image):
    pixels, mask, _ = batch([read_rgb(image)], Preprocessing())
    assert pixels.shape == PIXELS_SHAPE
    np.testing.assert_allclose(pixels[0, 0, 0, :3], PIXELS, atol=TOLERANCE_PIXELS)
    stages = STAGES[reading](checkpoint.config, checkpoint.tensors, pixels, mask)
    np.testing.assert_allclose(stages["decoder"][PART], VALUES.last_hidden_state, atol=TOLERANCE)
    np.testing.assert_allclose(stages["logits"][PART], VALUES.logits, atol=TOLERANCE)
    np.testing.assert_allclose(stages["boxes"][PART], VALUES.boxes_cxcywh, atol=TOLERANCE)


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_every_engine_gives_the_published_detections(engine, official_weights, image, tmp_path):
    found = Detector(str(official_weights), engine=engine, cache_dir=tmp_path)(image, threshold=THRESHOLD)
    np.testing.assert_allclose(found.scores, VALUES.detections.scores, atol=TOLERANCE)
    assert [detection.label for detection in found] == [*VALUES.detections.labels]
    np.testing.assert_allclose(found.xyxy[0], VALUES.detections.first_xyxy_px, atol=TOLERANCE_BOX_PX)
    assert np.array_equal(np.trunc(found.xyxy), VALUES.detections.whole_xyxy_px)
