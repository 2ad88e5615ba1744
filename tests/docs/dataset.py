"""The shipped drawing, smaller copies of it and their mirror images as a data set in COCO's formats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from detr_onnx.labels import COCO_LABELS
from tests.docs.blocks import ROOT

SCENE = ROOT / "examples" / "demo-scene.jpg"
SEGMENTS = ROOT / "tests" / "weights" / "demo-scene-segments.png"
"""For each pixel of the scene the COCO id of its object, 0 for the background."""
SCALES = (1, 0.9, 0.8, 0.7)


def write_images(directory: Path) -> Path:
    """Writes 000000000001.jpg to 000000000008.jpg."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, image, _ in views():
        image.save(directory / f"{number:012d}.jpg", quality=95)
    return directory


def views() -> Iterator[tuple[int, Image.Image, Image.Image]]:
    """Image id, image, and the COCO id of each pixel's object."""
    scene, segments = Image.open(SCENE).convert("RGB"), Image.open(SEGMENTS)
    sizes = [(round(scale * scene.width), round(scale * scene.height)) for scale in SCALES]
    pairs = [(scene.resize(size), segments.resize(size, Image.Resampling.NEAREST)) for size in sizes]
    pairs += [(ImageOps.mirror(image), ImageOps.mirror(ids)) for image, ids in pairs]
    for number, (image, ids) in enumerate(pairs, start=1):
        yield number, image, ids


def instances() -> dict[str, Any]:
    """Images, annotations and categories, as in COCO's instances_val2017.json."""
    images, annotations, classes = [], [], set()
    for number, image, ids in views():
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "width": image.width, "height": image.height})
        for row in segments_of(np.asarray(ids)):
            classes.add(row["category_id"])
            annotations.append({"id": len(annotations) + 1, "image_id": number, **row})
    categories = [{"id": class_id, "name": COCO_LABELS[class_id], "isthing": 1} for class_id in sorted(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def segments_of(ids: np.ndarray) -> list[dict[str, Any]]:
    """Category, box and area of each object."""
    rows = []
    for class_id in np.unique(ids[ids > 0]).tolist():
        y, x = np.nonzero(ids == class_id)
        box = [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]
        rows.append({"category_id": class_id, "bbox": box, "area": len(x), "iscrowd": 0})
    return rows


def write_instances(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(instances()))


def write_panoptic(path: Path) -> None:
    """The JSON file, and in the directory of its name the PNGs, in which an object's id is its class id."""
    found, masks = instances(), path.with_suffix("")
    masks.mkdir()
    annotations = []
    for number, _, ids in views():
        values = np.asarray(ids)
        Image.fromarray(np.stack([values, 0 * values, 0 * values], -1)).save(masks / f"{number:012d}.png")
        rows = [{"id": row["category_id"], **row} for row in segments_of(values)]
        annotations.append({"image_id": number, "file_name": f"{number:012d}.png", "segments_info": rows})
    path.write_text(json.dumps({**found, "annotations": annotations}))
