"""Panoptic quality of the panoptic demo model on scenes, which are also written in COCO's panoptic format.

    python weights/training/panoptic_quality.py --seed 2 --count 500 --out build/held-out-panoptic

The model knows things only. So the background of the ground truth is a crowd of its own category: it need not be found,
and pixels of it in a segment count as wrong. Without that they would be unknown, and cost nothing.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from detr_onnx import Detections, Detector
from detr_onnx.boxes import iou
from detr_onnx.evaluation.panoptic_quality import Category, Ids, PanopticQuality, Segment
from weights.training.pictograms import CATEGORIES
from weights.training.scenes import Scene, coco_ground_truth, file_name, scene

THRESHOLD = 0.5  # of scores, of the probability of a pixel, and of the IoU of a match
KEPT_SHARE = 0.8  # of the pixels of a mask that others must leave it
BACKGROUND_ID, BACKGROUND = 255, 1000  # in the PNGs, and as a category


def segments(found: Detections) -> Ids:
    """[H,W]: for each pixel k for the k-th detection, counted from 1, or 0.

    A pixel belongs to the mask with the highest probability times score among those that have it. Masks that lose more
    than a fifth of their pixels to others are left out.
    """
    masks = found.mask_logits
    ids = np.zeros(masks.image_hw, np.int32)
    full = np.zeros(len(found), np.int64)
    for rows, probabilities in masks.blocks():
        inside = probabilities >= THRESHOLD
        weighted = np.where(inside, probabilities * found.scores[:, None, None], 0)
        full += inside.sum((1, 2))
        if len(found):
            ids[rows] = np.where(inside.any(0), weighted.argmax(0) + 1, 0)
    shares = np.bincount(ids.ravel(), minlength=len(found) + 1)[1:] / full.clip(min=1)
    ids[np.isin(ids, 1 + np.flatnonzero(shares <= KEPT_SHARE))] = 0
    return ids


def count(quality: PanopticQuality, truth: Scene, ids: Ids, class_ids: NDArray[np.int64]) -> None:
    """Adds one scene, whose background is a crowd."""
    true_ids = np.where(truth.owners == 0, BACKGROUND_ID, truth.owners).astype(np.int32)
    true_segments = {k: Segment(coco_id) for k, coco_id in enumerate(truth.coco_ids.tolist(), start=1)}
    true_segments[BACKGROUND_ID] = Segment(BACKGROUND, is_crowd=True)
    own_segments = {int(k): Segment(int(class_ids[k - 1])) for k in np.unique(ids) if k}
    quality.add(true_ids, true_segments, ids, own_segments)


def mask_ious(truth: Scene, found: Detections) -> Iterator[float]:
    """IoUs of the masks, as `Detections.masks` has them, of detections of the right class with a box IoU above 0.5."""
    if not len(found):
        return
    ious = iou(truth.boxes_xyxy, found.xyxy) * (truth.coco_ids[:, None] == found.class_ids)  # [n,detections]
    masks = found.masks
    for k, row in enumerate(ious, start=1):
        if row.max() > THRESHOLD:
            true, own = truth.owners == k, masks[int(row.argmax())]
            yield float((true & own).sum() / (true | own).sum())


def evaluate(detector: Detector, scenes: list[Scene]) -> dict[str, Any]:
    """The results of a model on scenes, one at a time."""
    quality = PanopticQuality()
    ious: list[float] = []
    for one in scenes:
        found = detector(one.jpeg, THRESHOLD)
        count(quality, one, segments(found), found.class_ids)
        ious += mask_ious(one, found)
    result = quality.result({one.coco_id: Category(one.name, is_thing=True) for one in CATEGORIES})
    return {
        "images": result.images,
        "segments": result.segments,
        "figures": {name: result.figures[name] for name in ("PQ", "SQ", "RQ")},
        "matched_detections": len(ious),
        "mask_iou": float(np.mean(ious)),
        "classes": [asdict(row) for row in result.classes],
    }


# COCO's panoptic format


def panoptic_ground_truth(scenes: list[Scene]) -> dict[str, list[dict[str, Any]]]:
    """`images`, `annotations`, `categories` as in COCO's panoptic files."""
    instances = coco_ground_truth(scenes)
    segments_of: defaultdict[object, list[dict[str, Any]]] = defaultdict(list)
    for row in instances["annotations"]:
        own = segments_of[row["image_id"]]
        own.append({key: row[key] for key in ("category_id", "bbox", "area", "iscrowd")} | {"id": len(own) + 1})
    annotations = []
    for image, one in zip(instances["images"], scenes, strict=True):
        height, width = one.size_hw
        background = {"id": BACKGROUND_ID, "category_id": BACKGROUND, "bbox": [0, 0, width, height], "iscrowd": 1}
        everything = [*segments_of[image["id"]], background | {"area": height * width - int(one.areas.sum())}]
        png = str(image["file_name"]).replace(".jpg", ".png")
        annotations.append({"image_id": image["id"], "file_name": png, "segments_info": everything})
    categories = [category | {"isthing": 1} for category in instances["categories"]]
    categories.append({"id": BACKGROUND, "name": "background", "isthing": 0})
    return {"images": instances["images"], "annotations": annotations, "categories": categories}


def write_dataset(scenes: list[Scene], directory: Path) -> None:
    """`directory/images/*.jpg`, `directory/panoptic.json` and `directory/panoptic/*.png`."""
    for name in ("images", "panoptic"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    for image_id, one in enumerate(scenes, start=1):
        (directory / "images" / file_name(image_id)).write_bytes(one.jpeg)
        red = np.where(one.owners == 0, BACKGROUND_ID, one.owners).astype(np.uint8)
        rgb = np.stack([red, np.zeros_like(red), np.zeros_like(red)], -1)
        Image.fromarray(rgb).save(directory / "panoptic" / file_name(image_id).replace(".jpg", ".png"))
    (directory / "panoptic.json").write_text(json.dumps(panoptic_ground_truth(scenes)))


def main() -> None:
    """Prints the results as JSON."""
    parser = argparse.ArgumentParser(description="Panoptic quality on scenes of pictograms.")
    parser.add_argument("--seed", type=int, required=True, help="the series; 2 is the held-out one")
    parser.add_argument("--count", type=int, default=500, help="scenes (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the scenes in COCO's panoptic format, too")
    parser.add_argument("--model", default="demo-panoptic", help="a name or a checkpoint (default: %(default)s)")
    parser.add_argument("--engine", default="onnxruntime", help="default: %(default)s")
    arguments = parser.parse_args()
    scenes = [scene(arguments.seed, k) for k in range(arguments.count)]
    if arguments.out is not None:
        write_dataset(scenes, arguments.out)
    detector = Detector(arguments.model, engine=arguments.engine)
    print(json.dumps({"model": arguments.model, "engine": detector.runtime} | evaluate(detector, scenes), indent=1))


if __name__ == "__main__":
    main()
