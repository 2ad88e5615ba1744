"""A panoptic detector without a network, which finds a segment in each quarter of a bright image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.engines import Engine, PanopticOutputs
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.open import OpenModel

CLASSES = ("N/A", "cat", "dog", "sky")
CAT, DOG, SKY = 1, 2, 3
QUARTERS = (CAT, SKY, SKY, DOG)
"""The classes of the quarters of an image: top left, top right, bottom left, bottom right."""
SURE, CANVAS_PX = 9.0, 32


def network(pixels: Any, mask: Any) -> tuple[Any, Any]:
    """A query for each quarter, with its box, and one that finds nothing; in a dark image nothing is found."""
    logits = np.zeros((len(pixels), len(QUARTERS) + 1, len(CLASSES) + 1), np.float32)
    bright = pixels.mean(axis=(1, 2, 3)) > 0
    for query, class_id in enumerate(QUARTERS):
        logits[bright, query, class_id] = SURE - query
        logits[~bright, query, -1] = SURE
    logits[:, -1, -1] = SURE
    boxes = np.array([(x, y, 0.5, 0.5) for y in (0.25, 0.75) for x in (0.25, 0.75)] + [(0.5, 0.5, 1, 1)], np.float32)
    return logits, np.tile(boxes, (len(pixels), 1, 1))


def segment(pixels: Any, mask: Any, threshold: float) -> PanopticOutputs:
    """The outputs of `network`, with masks that are sure of their quarter."""
    logits, boxes = network(pixels, mask)
    powers = np.exp(logits)
    scores = (powers / powers.sum(axis=-1, keepdims=True))[..., :-1].max(axis=-1)
    kept = np.argwhere(scores > threshold)
    height, width = (-(-side // 4) for side in pixels.shape[2:])
    masks = np.full((len(kept), height, width), -20, np.float32)
    for one, (_, query) in zip(masks, kept.tolist(), strict=True):
        row, column = divmod(query, 2)
        if query < len(QUARTERS):
            one[row * height // 2 : (row + 1) * height // 2, column * width // 2 : (column + 1) * width // 2] = 20
    return PanopticOutputs(logits, boxes, kept, masks)


def panoptic_stand_in(monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...] = CLASSES) -> Detector:
    """The detector, which every other one is from now on as well."""
    opened = OpenModel(
        Engine("stand-in 1, fp32", network, segment=segment), classes, Preprocessing(fixed_hw=(CANVAS_PX,) * 2), "numpy"
    )
    monkeypatch.setattr("detr_onnx.detector.open_model", lambda *arguments, **options: opened)
    return Detector("stand-in")
