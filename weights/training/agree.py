"""Compares the detections of two engines on the held-out scenes, image by image, in the order of the queries.

python weights/training/agree.py --data build/held-out
python weights/training/agree.py --data build/held-out --model demo-panoptic      # and their masks
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
    """Numbers of detections and of images with other labels, and the largest differences of scores and boxes.

    Of a panoptic model also the pixels of all masks, and those that only one engine's mask has.
    """
    detections = differing = 0
    pixels = {"mask_pixels": 0, "mask_pixels_that_differ": 0}
    scores, boxes = [0.0], [0.0]
    for image in images:
        expected, actual = reference(image, THRESHOLD), other(image, THRESHOLD)
        detections += len(expected)
        if [d.label for d in expected] != [d.label for d in actual]:
            differing += 1
        elif len(expected):
            scores.append(float(np.abs(expected.scores - actual.scores).max()))
            boxes.append(float(np.abs(expected.xyxy - actual.xyxy).max()))
            if expected.masks is not None:
                pixels["mask_pixels"] += int(expected.masks.sum())
                pixels["mask_pixels_that_differ"] += int((expected.masks != actual.masks).sum())
    figures = {
        "images": len(images),
        "detections": detections,
        "images_with_other_labels": differing,
        "score_difference": max(scores),
        "box_difference_px": max(boxes),
    }
    return figures | (pixels if pixels["mask_pixels"] else {})


def main() -> None:
    """Prints the comparison as JSON."""
    parser = argparse.ArgumentParser(description="Compares numpy with another engine on a directory of scenes.")
    parser.add_argument("--model", default="demo", help="a name or a checkpoint (default: %(default)s)")
    parser.add_argument("--engine", default="onnxruntime", help="compared with numpy (default: %(default)s)")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="written by scenes.py")
    parser.add_argument("--count", type=int, help="of scenes, the first ones (default: all)")
    arguments = parser.parse_args()
    detectors = [Detector(arguments.model, engine=engine) for engine in ("numpy", arguments.engine)]
    images = sorted((arguments.data / "images").glob("*.jpg"))[: arguments.count]
    print(json.dumps({"engine": detectors[1].runtime} | compare(*detectors, images)))


if __name__ == "__main__":
    main()
