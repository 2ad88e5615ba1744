"""With the official panoptic weights, the published numbers: transformers' own integration test.

Source: `DetrForSegmentation` in tests/models/detr/test_modeling_detr.py of huggingface/transformers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.preprocess import Preprocessing, batch
from tests.readings import STAGES
from tests.weights.test_weights import PUBLISHED, image

pytestmark = [pytest.mark.weights, pytest.mark.slow]
__all__ = ["image"]

PUBLISHED_MASKS = 2e-3  # the tolerance that is published with the values
LOGITS = [[-18.1565, -1.7568, -13.5029], [-16.8888, -1.4138, -14.1028], [-17.5709, -2.5080, -11.8654]]
BOXES = [[0.5344, 0.1789, 0.9285], [0.4420, 0.0572, 0.0875], [0.6630, 0.6887, 0.1017]]
MASKS = [[-7.7557, -10.8788, -11.9797], [-11.8880, -16.4328, -17.7450], [-14.7315, -19.7382, -20.3003]]
SEGMENTS, CORNER = 5, 4  # how many, and the id of the segment at the upper left


@pytest.mark.parametrize("reading", STAGES)
def test_every_implementation_gives_the_published_values(reading, panoptic_weights: Path, image: Path):
    checkpoint = load_checkpoint(panoptic_weights)
    pixels, mask, _ = batch([read_rgb(image)], Preprocessing())
    stages = STAGES[reading](checkpoint.config, checkpoint.tensors, pixels, mask)
    np.testing.assert_allclose(stages["logits"][0, :3, :3], LOGITS, atol=PUBLISHED)
    np.testing.assert_allclose(stages["boxes"][0, :3, :3], BOXES, atol=PUBLISHED)
    assert stages["masks"].shape == (100, 200, 267)
    np.testing.assert_allclose(stages["masks"][0, :3, :3], MASKS, atol=PUBLISHED_MASKS)


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_every_engine_gives_the_published_segments(engine, panoptic_weights: Path, image: Path, tmp_path: Path):
    found = Detector(panoptic_weights, engine=engine, cache_dir=tmp_path).panoptic(image, 0.3)
    first = found.segments_info[0]
    assert len(found.segments_info) == SEGMENTS
    assert (first["id"], first["label_id"], first["was_fused"]) == (1, 17, False)
    assert first["score"] == pytest.approx(0.9941, abs=PUBLISHED)
    assert np.unique(found.segmentation[:3, :3]).tolist() == [CORNER]
