"""A small data set for the small model: three images and their COCO annotations."""

from __future__ import annotations

import json
from pathlib import Path

from tests.small_model import sample_image

CONTENT = {
    "images": [{"id": n, "file_name": f"{name}.png"} for n, name in ((30, "c"), (10, "a"), (20, "b"))],
    "categories": [{"id": 1, "name": "Traffic light"}, {"id": 2, "name": "salt, pepper"}],  # what the model does detect
    "annotations": [{"image_id": 10, "category_id": 1, "bbox": [0, 0, 30, 30]}],
}
"""Its category ids are not the class ids of the model."""


def write_annotated_images(directory: Path) -> None:
    """Writes images/a.png, b.png and c.png, and truth.json, into the directory."""
    (directory / "images").mkdir()
    for seed, (name, size) in enumerate([("a.png", (64, 48)), ("b.png", (90, 40)), ("c.png", (64, 48))]):
        sample_image(*size, seed).save(directory / "images" / name)
    (directory / "truth.json").write_text(json.dumps(CONTENT))
