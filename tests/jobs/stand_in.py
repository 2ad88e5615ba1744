"""A detector without a network, for jobs over many images."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.engines import Engine
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.open import OpenModel

CLASSES = ("cat", "dog", "N/A")
QUERIES = 3


def network(pixels, mask):
    """One cat in the middle whose score grows with the brightness, and two queries with nothing."""
    logits = np.full((len(pixels), QUERIES, len(CLASSES) + 1), -9, np.float32)
    logits[:, :, -1] = 9
    logits[:, 0, 0] = 4 * (1 + pixels.mean(axis=(1, 2, 3)))
    logits[:, 0, -1] = 0
    boxes = np.tile(np.array([0.5, 0.5, 0.25, 0.5], np.float32), (len(pixels), QUERIES, 1))
    return logits, boxes


def stand_in_detector(monkeypatch: pytest.MonkeyPatch, run=network, model: str = "stand-in") -> Detector:
    """A detector whose network is a function; its sha256 is that of nothing."""
    sizes = Preprocessing(shortest_edge=32, longest_edge=64)
    opened = OpenModel(Engine("stand-in 1, fp32", run), CLASSES, sizes, "stand-in")
    monkeypatch.setattr("detr_onnx.detector.open_model", lambda *arguments, **options: opened)
    return Detector(model)
