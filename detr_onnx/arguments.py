"""Checks of what a `Detector` is given and of what it computes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detr_onnx.detections import Detections
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.image.decode import ImageSource
from detr_onnx.integers import whole_number
from detr_onnx.models.metadata import check_labels

Floats = NDArray[np.float32]


def with_path(image: ImageSource, detections: Detections) -> Detections:
    """The detections with the path of their image, if it was given as a path."""
    return replace(detections, path=os.fsdecode(image)) if isinstance(image, str | os.PathLike) else detections


def check_threshold(*thresholds: float) -> None:
    """Raises UsageError unless each threshold is a number in 0..1."""
    for threshold in thresholds:
        try:
            is_in_range = bool(0 <= threshold <= 1)
        except (TypeError, ValueError):  # no number, or an array of several
            is_in_range = False
        if not is_in_range:
            found = repr(threshold)[:60]
            raise UsageError("the threshold is out of range", found=found, expected="a number from 0 to 1")


def checked_number(name: str, value: object, expected: str, largest: float = math.inf) -> int:
    """The value as an int, if it is an integer from 1 to `largest`; otherwise raises UsageError."""
    number = whole_number(value, largest)
    if number is None:
        raise UsageError(f"{name} is wrong", found=repr(value)[:60], expected=expected)
    return number


def check_outputs(runtime: str, class_names: Sequence[str], logits: Floats, boxes_cxcywh: Floats) -> None:
    """Raises EngineError unless the outputs are finite, and ModelFileError unless there is a name for each class."""
    check_labels(class_names, logits.shape[-1] - 1)
    if not np.isfinite(logits.max()) or not np.isfinite(boxes_cxcywh).all():
        raise EngineError(
            f"{runtime} computed numbers that are not finite",
            remedy="try another engine or precision, or check the weights",
        )
