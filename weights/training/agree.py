"""Do the engines say the same of every scene? `python weights/training/agree.py --model weights/demo --data build/held-out`.

For each image the detections of numpy and of ONNX Runtime are laid side by side, in the order of the queries.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from detr_onnx import Detector

THRESHOLD = 0.5


def compare(reference: Detector, other: Detector, images: list[Path]) -> dict[str, float]:
    """Detections, images whose labels differ, and the largest differences of scores and of boxes in pixels."""
    detections = differing = 0
    scores, boxes = [0.0], [0.0]
    for image in images:
        expected, found = reference(image, THRESHOLD), other(image, THRESHOLD)
        detections += len(expected)
        if [d.label for d in expected] != [d.label for d in found]:
            differing += 1
        elif len(expected):
            scores.append(float(np.abs(expected.scores - found.scores).max()))
            boxes.append(float(np.abs(expected.xyxy - found.xyxy).max()))
    return {
        "images": len(images),
        "detections": detections,
        "images_with_other_labels": differing,
        "score_difference": max(scores),
        "box_difference_px": max(boxes),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare numpy with another engine on a directory of scenes.")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--data", type=Path, required=True, help="what scenes.py wrote")
    arguments = parser.parse_args()
    detectors = [Detector(arguments.model, engine=engine) for engine in ("numpy", arguments.engine)]
    print(
        json.dumps(
            {"engine": detectors[1].runtime} | compare(*detectors, sorted((arguments.data / "images").glob("*.jpg")))
        )
    )


if __name__ == "__main__":
    main()
