"""Reads COCO annotation files and COCO results files.

A file is checked before a model runs. One message names all its problems. Impossible boxes count as pycocotools counts
them, and a warning says how many there are.
"""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detr_onnx.errors import DatasetError
from detr_onnx.evaluation.coco_rows import (
    LARGEST_AREA,
    Row,
    is_result,
    leaves_directory,
    row_problems,
    warn_of_impossible_boxes,
)
from detr_onnx.json_input import read_json
from detr_onnx.paths import is_file

__all__ = ["Annotations", "Row", "parse_annotations", "read_annotations", "read_results"]

MOST_SHOWN = 3  # names or problems in a message; the rest is counted
LONGEST_SHOWN = 100  # of one of them, in characters

MAX_BYTES = 1 << 30  # instances_train2017.json has 0.45 GB

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotations:
    """The annotated objects of some images.

    Attributes:
        source: the name of the file, for messages.
        files: file names by image id.
        categories: names by category id.
        objects: rows with `id` from 1 up, `area` and `iscrowd`.
    """

    source: str
    files: Mapping[int, str]
    categories: Mapping[int, str]
    objects: Sequence[Row]

    def images(self, directory: Path) -> dict[int, Path]:
        """The image files by image id; see `image_paths`."""
        return image_paths(self.source, self.files, directory)

    def category_of(self, labels: Sequence[str]) -> list[int | None]:
        """The category id of each class of a model. Classes and categories are matched by name.

        A class that is not a category keeps its class id if no category has it, and otherwise has None. COCO's figures
        leave out its detections in either case.

        Raises:
            DatasetError: objects have categories that the model does not know.
        """
        category_of: list[int | None] = [None if c in self.categories else c for c in range(len(labels))]
        used = {row["category_id"] for row in self.objects}
        unknown = []
        for category, name in self.categories.items():
            class_id = class_named(name, category, labels)
            if class_id is not None:
                category_of[class_id] = category
            elif category in used:
                unknown.append(repr(name))
        check_known(self.source, unknown, labels)
        return category_of


def read_annotations(path: Path) -> Annotations:
    """Reads a file such as COCO's `instances_val2017.json`. `area` and `iscrowd` are optional.

    Raises:
        DatasetError: it cannot be read, is not a COCO annotation file, or has no objects.
    """
    return parse_annotations(read_json(path, error=DatasetError, max_bytes=MAX_BYTES), str(path))


def parse_annotations(content: Any, source: str) -> Annotations:
    """The annotations of the parsed content of such a file; `source` is its name in messages.

    Raises:
        DatasetError: as `read_annotations`.
    """
    fields = content if isinstance(content, dict) else {}
    lists: dict[str, Any] = {name: fields.get(name) for name in ("images", "annotations", "categories")}
    lacking = [name for name, rows in lists.items() if not isinstance(rows, list)]
    if lacking:
        raise DatasetError(
            f"{source} is not a COCO annotation file",
            found=f"no list of {', '.join(lacking)}",
            expected=f"an object with {', '.join(lists)}",
        )
    if any(isinstance(row, dict) and "segments_info" in row for row in lists["annotations"][:1]):
        raise DatasetError(f"{source} has panoptic annotations", remedy="add --panoptic, or use those with boxes")
    problems = [*row_problems(lists)]
    if problems:
        raise DatasetError(f"{source} has errors", found=some(problems, "; "), remedy="correct the file")
    sizes_wh = {row["id"]: (row.get("width"), row.get("height")) for row in lists["images"]}
    consequence = "are impossible and count as objects, as in pycocotools"
    warn_of_impossible_boxes(lists["annotations"], source, consequence, sizes_wh)
    objects = [_object(number, row) for number, row in enumerate(lists["annotations"], start=1)]
    if all(row["iscrowd"] for row in objects):
        found = "only crowds" if objects else None
        raise DatasetError(f"{source} has no objects", found=found, remedy="use annotations with at least one object")
    return Annotations(
        source,
        {row["id"]: row["file_name"] for row in lists["images"]},
        {row["id"]: row["name"] for row in lists["categories"]},
        objects,
    )


def read_results(path: Path, truth: Annotations) -> list[Row]:
    """Reads a COCO results file, such as `detect --format coco` and `evaluate --save-results` write.

    The list may be empty: nothing was found in any image. A warning says how many of the annotated images have results,
    if not all.

    Raises:
        DatasetError: it cannot be read, is not a COCO results file, or belongs to other images or categories.
    """
    rows = read_json(path, error=DatasetError, max_bytes=MAX_BYTES)
    wrong = next((n for n, row in enumerate(rows) if not is_result(row)), None) if isinstance(rows, list) else None
    if not isinstance(rows, list) or wrong is not None:
        raise DatasetError(
            f"{path} is not a COCO results file",
            found=f"row {wrong} {reprlib.repr(rows[wrong])}" if wrong is not None else reprlib.repr(rows),
            expected="a list of objects with image_id, category_id, bbox of four numbers, and score",
        )
    warn_of_impossible_boxes(rows, str(path), "can match no object")
    _check_images(path, {row["image_id"] for row in rows}, truth)
    if rows and not {row["category_id"] for row in rows} & truth.categories.keys():
        raise DatasetError(
            f"{path} has results of other categories than {truth.source}",
            found=f"ids {some(sorted({row['category_id'] for row in rows}))}",
            expected=f"some of {some(sorted(truth.categories))}",
        )
    return rows


def image_paths(source: str, files: Mapping[int, str], directory: Path) -> dict[int, Path]:
    """The image files by image id, in the order of the annotation file.

    Raises:
        DatasetError: images are missing from the directory, or their names lead out of it.
    """
    outside = [name for name in files.values() if leaves_directory(name)]
    if outside:
        raise DatasetError(
            f"{source} names files outside of {directory}",
            found=some(outside),
            expected="names relative to that directory, without ..",
            remedy="correct file_name in the annotations",
        )
    paths = {image_id: directory / name for image_id, name in files.items()}
    missing = [files[image_id] for image_id, path in paths.items() if not is_file(path)]
    if missing:
        raise DatasetError(
            f"{source} names images that are not in {directory}",
            found=f"{len(paths) - len(missing)} of {len(paths)}, without {some(missing)}",
            remedy="give the directory with the images of these annotations",
        )
    return paths


def _check_images(path: Path, image_ids: set[int], truth: Annotations) -> None:
    """Raises DatasetError if the results are of other images, and warns if they are not of all images."""
    unknown = image_ids - truth.files.keys()
    if unknown:
        raise DatasetError(
            f"{path} has results of other images than {truth.source}",
            found=f"{len(unknown)} images that are not annotated, such as {some(sorted(unknown))}",
            remedy="use the annotations that belong to these results",
        )
    if image_ids and not image_ids & {row["image_id"] for row in truth.objects}:
        raise DatasetError(
            f"{path} has no results of an image with objects in {truth.source}",
            found=f"image ids {some(sorted(image_ids))}",
            remedy="check that the results have the image ids of the annotations",
        )
    if len(image_ids) < len(truth.files):
        logger.warning("%s has results of %d of the %d annotated images", path, len(image_ids), len(truth.files))


def class_named(name: str, category: int, labels: Sequence[str]) -> int | None:
    """The class with this name. Of several, the one whose class id is the category id is preferred."""
    names = [label.strip().casefold() for label in labels]
    folded = name.strip().casefold()
    if category in range(len(names)) and names[category] == folded:
        return category
    return names.index(folded) if folded in names else None


def _object(number: int, row: Row) -> Row:
    """The fields that pycocotools needs. Ids are numbered anew, because pycocotools takes an id of 0 for "no match".

    A missing area is that of the box, in the range that counts: pycocotools has no rule, and stops at such a file.
    """
    fields = {name: row[name] for name in ("image_id", "category_id", "bbox")}
    area = row.get("area")
    if area is None:
        width, height = (max(side, 0) for side in row["bbox"][2:])
        area = min(width * height, LARGEST_AREA)
    return fields | {"id": number, "area": area, "iscrowd": int(row.get("iscrowd") or 0)}


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def check_known(source: object, unknown: Collection[str], labels: Sequence[str]) -> None:
    """Raises DatasetError if there are categories that a model with these labels does not know."""
    if unknown:
        known = [repr(label) for label in dict.fromkeys(labels) if label != "N/A"]
        raise DatasetError(
            f"{source} has categories that the model does not know",
            found=some(unknown),
            expected=f"the model's labels, such as {some(known)}",
            remedy="use annotations for this model, or the --config with its labels",
        )


def some(items: Collection[object], separator: str = ", ") -> str:
    """The first few items, and the number of the others."""
    shown = [_short(str(item)) for item, _ in zip(items, range(MOST_SHOWN), strict=False)]
    more = [f"{len(items) - MOST_SHOWN} more"] if len(items) > MOST_SHOWN else []
    return separator.join([*shown, *more])
