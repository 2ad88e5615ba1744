"""`detect --annotations FILE`: images with the ids of an annotation file."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from detr_onnx.errors import DatasetError
from detr_onnx.image.files import ImageFile
from detr_onnx.text import printable

logger = logging.getLogger(__name__)


def with_annotated_ids(images: Sequence[ImageFile], annotations: Path) -> list[ImageFile]:
    """The images with the ids that a COCO annotation file has for them.

    Images that it does not have get ids above all of its own, and a warning is logged.

    Raises:
        DatasetError: the annotation file cannot be read, or two images are the same one there.
    """
    from detr_onnx.evaluation.image_ids import find_image_ids, read_image_ids

    ids = read_image_ids(annotations)
    found_ids = find_image_ids([image.name for image in images], ids)
    taken: dict[int, ImageFile] = {}
    unknown = []
    for image, image_id in zip(images, found_ids, strict=True):
        if image_id is None:
            unknown.append(image)
        elif image_id in taken:
            raise DatasetError(
                f"{annotations} has one image for two files",
                found=f"{taken[image_id].name} and {image.name}",
                remedy="detect in the images of one directory at a time",
            )
        else:
            taken[image_id] = image
    if unknown:
        names = ", ".join(printable(image.name) for image in unknown[:3]) + (", …" if len(unknown) > 3 else "")
        logger.warning("%s has no image id for %d of %d files: %s", annotations, len(unknown), len(images), names)
    new_ids = itertools.count(max(ids.values()) + 1)
    return [
        replace(image, image_id=image_id if image_id is not None else next(new_ids))
        for image, image_id in zip(images, found_ids, strict=True)
    ]
