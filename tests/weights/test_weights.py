"""With the official weights, the published numbers: transformers' own integration test of facebook/detr-resnet-50.

Source: tests/models/detr/test_modeling_detr.py of huggingface/transformers; image 39769 of COCO's val2017.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.checkpoint.load import Checkpoint, load_checkpoint
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.preprocess import Preprocessing, batch
from tests.readings import STAGES

pytestmark = [pytest.mark.weights, pytest.mark.slow]

PUBLISHED = 2e-4  # the tolerance that is published with the values
PUBLISHED_BOX_PX = 640 * PUBLISHED
PUBLISHED_PIXELS = 1e-4  # the pixels are printed to four digits

PIXELS = [0.2796, 0.3138, 0.3481]  # [0, 0, 0, :3]
HIDDEN = [[0.0616, -0.5146, -0.4032], [-0.7629, -0.4934, -1.7153], [-0.4768, -0.6403, -0.7826]]
LOGITS = [[-19.1194, -0.0893, -11.0154], [-17.3640, -1.8035, -14.0219], [-20.0461, -0.5837, -11.1060]]
BOXES = [[0.4433, 0.5302, 0.8852], [0.5494, 0.2517, 0.0529], [0.4998, 0.5360, 0.9955]]
SCORES = [0.9982, 0.9960, 0.9955, 0.9988, 0.9987]  # above 0.3, in the order of the queries
NAMES = ["remote", "remote", "couch", "cat", "cat"]
FIRST_BOX_XYXY_PX = [40.1615, 70.8090, 175.5476, 117.9810]
BOXES_XYXY_PX = [[40, 70, 175, 117], [333, 72, 368, 187], [0, 1, 639, 473], [13, 52, 314, 470], [345, 23, 640, 368]]
TENSORS, PARAMETERS = 530, 41_631_008


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
    assert len(checkpoint.tensors) == TENSORS
    assert sum(tensor.size for tensor in checkpoint.tensors.values()) == PARAMETERS


@pytest.mark.parametrize("reading", STAGES)
def test_every_implementation_gives_the_published_values(reading, checkpoint, image):
    pixels, mask, _ = batch([read_rgb(image)], Preprocessing())
    assert pixels.shape == (1, 3, 800, 1066)
    np.testing.assert_allclose(pixels[0, 0, 0, :3], PIXELS, atol=PUBLISHED_PIXELS)
    stages = STAGES[reading](checkpoint.config, checkpoint.tensors, pixels, mask)
    np.testing.assert_allclose(stages["decoder"][0, :3, :3], HIDDEN, atol=PUBLISHED)
    np.testing.assert_allclose(stages["logits"][0, :3, :3], LOGITS, atol=PUBLISHED)
    np.testing.assert_allclose(stages["boxes"][0, :3, :3], BOXES, atol=PUBLISHED)


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_every_engine_gives_the_published_detections(engine, official_weights, image, tmp_path):
    found = Detector(str(official_weights), engine=engine, cache_dir=tmp_path)(image, threshold=0.3)
    np.testing.assert_allclose(found.scores, SCORES, atol=PUBLISHED)
    assert [detection.label for detection in found] == NAMES
    np.testing.assert_allclose(found.xyxy[0], FIRST_BOX_XYXY_PX, atol=PUBLISHED_BOX_PX)
    assert np.trunc(found.xyxy).astype(int).tolist() == BOXES_XYXY_PX
