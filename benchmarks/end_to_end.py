"""An end-to-end graph beside `Detector`, picture by picture:

    python -m benchmarks.end_to_end MODEL END_TO_END.onnx DIR

prints how many pictures have the same labels, and how far scores and boxes lie apart at most.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime

from detr_onnx import Detector
from detr_onnx.agreement import pairs
from detr_onnx.detections import Detections
from detr_onnx.image import read_rgb
from detr_onnx.pictures import find_pictures


def compare(answers: Iterable[tuple[Detections, Detections]]) -> dict[str, float]:
    """How far apart the two are over all pictures."""
    pictures = same = 0
    score = box = 0.0
    for expected, found in answers:
        pictures += 1
        partners = pairs(expected, found)
        same += len(partners) == len(expected) == len(found)
        for i, j, _ in partners:
            score = max(score, abs(float(expected.scores[i] - found.scores[j])))
            box = max(box, float(np.abs(expected.xyxy[i] - found.xyxy[j]).max()))
    return {
        "pictures": pictures,
        "same labels": same,
        "largest score difference": score,
        "largest box difference, px": box,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare an end-to-end graph with the detector.")
    parser.add_argument("model")
    parser.add_argument("graph", type=Path)
    parser.add_argument("pictures")
    parser.add_argument("--threshold", type=float, default=0.5)
    arguments = parser.parse_args()
    detector = Detector(arguments.model, engine="onnxruntime")
    session = onnxruntime.InferenceSession(str(arguments.graph), providers=["CPUExecutionProvider"])
    threshold = np.array([arguments.threshold], np.float32)

    def both(path: Path) -> tuple[Detections, Detections]:
        image = read_rgb(path)
        answer = session.run(["scores", "labels", "boxes"], {"image": np.asarray(image), "threshold": threshold})
        return detector(image, arguments.threshold).by_score(), Detections(*answer, detector.labels)

    pictures, _ = find_pictures([arguments.pictures])
    print(json.dumps(compare(both(one.path) for one in pictures if one.path), indent=1))


if __name__ == "__main__":
    main()
