"""With the official panoptic weights, the published numbers (`verify/published.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.preprocess import batch
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.verify.published import PUBLISHED, THRESHOLD, TOLERANCE, TOLERANCE_MASKS
from tests.network_stages import STAGES
from tests.weights.test_weights import PART, image

pytestmark = [pytest.mark.weights, pytest.mark.slow]
__all__ = ["image"]

VALUES = PUBLISHED["facebook/detr-resnet-50-panoptic"].outputs


@pytest.mark.parametrize("reading", STAGES)
def test_every_implementation_gives_the_published_values(reading, panoptic_weights: Path, image: Path):
    checkpoint = load_checkpoint(panoptic_weights)
    pixels, mask, _ = batch([read_rgb(image)], Preprocessing())
    stages = STAGES[reading](checkpoint.config, checkpoint.tensors, pixels, mask)
    np.testing.assert_allclose(stages["logits"][PART], VALUES.logits, atol=TOLERANCE)
    np.testing.assert_allclose(stages["boxes"][PART], VALUES.boxes_cxcywh, atol=TOLERANCE)
    assert stages["masks"].shape == VALUES.panoptic.shape
    np.testing.assert_allclose(stages["masks"][PART], VALUES.panoptic.masks, atol=TOLERANCE_MASKS)


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_every_engine_gives_the_published_segments(engine, panoptic_weights: Path, image: Path, tmp_path: Path):
    found = Detector(panoptic_weights, engine=engine, cache_dir=tmp_path).panoptic(image, THRESHOLD)
    first = found.segments_info[0]
    assert len(found.segments_info) == VALUES.panoptic.segments
    assert (first["id"], first["label_id"], first["was_fused"]) == VALUES.panoptic.first
    assert first["score"] == pytest.approx(VALUES.panoptic.first_score, abs=TOLERANCE)
    assert np.unique(found.segmentation[:3, :3]).tolist() == [VALUES.panoptic.corner]
