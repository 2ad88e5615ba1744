"""What the tests of `compare-hosted` share beside fixtures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detr_onnx.detections import Detections
from tests.bench.standin_remote import CAT

TOKEN = "s3cret-T0ken-that-nobody-may-see"

Run = Callable[..., tuple[int, str, str]]
"""Runs the command on images, with options; exit status, stdout and stderr."""


class CatDetector:
    """A detector that finds the stand-in's cat in every image."""

    class_names, runtime = ("cat",), "a stand-in"

    def __call__(self, content: bytes, threshold: float) -> Detections:
        box = np.array([list(CAT["box"].values())], np.float32)
        return Detections(np.array([CAT["score"]], np.float32), np.zeros(1, np.int64), box, self.class_names)


def json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
