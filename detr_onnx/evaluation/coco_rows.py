"""Checks of the rows of COCO files: ids, names, boxes, areas."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from detr_onnx.text import printable

Row = dict[str, Any]
"""One object: `image_id`, `category_id`, `bbox` as left, top, width, height in pixels; a result has a `score`."""

LARGEST_AREA = 1e10  # pycocotools ignores objects with larger areas
LARGEST_SIDE_PX = 1e5
LARGEST_ID = 2**53

logger = logging.getLogger(__name__)


def leaves_directory(name: str) -> bool:
    """Whether a file name is absolute or has .. in it, by the rules of any system."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return any(path.anchor or ".." in path.parts for path in paths)


def warn_of_impossible_boxes(
    rows: Sequence[Row], source: str, consequence: str, sizes_wh: Mapping[int, tuple[object, object]] | None = None
) -> None:
    """A warning that counts the boxes without an area in their image, and says what becomes of them."""
    sizes_wh = sizes_wh or {}
    faults = (_fault(row["bbox"], sizes_wh.get(row["image_id"], (None, None))) for row in rows)
    found = Counter(fault for fault in faults if fault is not None)
    if found:
        counts = ", ".join(f"{count} {fault}" for fault, count in found.items())
        logger.warning("%s: %d of %d boxes %s: %s", printable(source), found.total(), len(rows), consequence, counts)


def _fault(bbox: Sequence[float], size_wh: tuple[object, object]) -> str | None:
    """What makes a box impossible, or None. The size of the image may be unknown."""
    left, top, width, height = bbox
    if width <= 0 or height <= 0:
        return "without an area"
    if max(map(abs, bbox)) > LARGEST_SIDE_PX:
        return "too large for any image"
    for start, length, limit in ((left, width, size_wh[0]), (top, height, size_wh[1])):
        if start + length <= 0 or (_is_number(limit) and start >= limit > 0):  # type: ignore[operator]
            return "outside of the image"
    return None


def row_problems(lists: Mapping[str, Any]) -> Iterator[str]:
    """One phrase for each row that is wrong."""
    yield from id_problems("image", lists["images"], lambda row: isinstance(row.get("file_name"), str))
    yield from id_problems("category", lists["categories"], lambda row: isinstance(row.get("name"), str))
    images, categories = ({row_id_of(row) for row in lists[name]} for name in ("images", "categories"))
    for number, row in enumerate(lists["annotations"]):
        if not _is_box(row):
            yield f"annotation {number} without image_id, category_id and a bbox of four finite numbers"
        elif not _is_measured(row):
            yield f"annotation {number} with an invalid area or iscrowd"
        elif row["image_id"] not in images:
            yield f"annotation {number} of image {row['image_id']}, which is not listed"
        elif row["category_id"] not in categories:
            yield f"annotation {number} of category {row['category_id']}, which is not listed"


def id_problems(kind: str, rows: Sequence[Any], is_named: Callable[[Mapping[str, Any]], bool]) -> Iterator[str]:
    """One phrase for each row without an integer id, without a name, or with the id of another row."""
    seen: set[int] = set()
    for number, row in enumerate(rows):
        row_id = row_id_of(row)
        if row_id is None or not is_named(row):
            yield f"{kind} {number} without id and name"
        elif row_id in seen:
            yield f"{kind} id {row_id} twice"
        else:
            seen.add(row_id)


def row_id_of(row: Any) -> int | None:
    row_id = row.get("id") if isinstance(row, dict) else None
    return row_id if is_id(row_id) else None


def is_id(value: Any) -> bool:
    return type(value) is int and abs(value) <= LARGEST_ID


def _is_box(row: Any) -> bool:
    """Whether the row has an image id, a category id and a box."""
    if not isinstance(row, dict) or not is_id(row.get("image_id")) or not is_id(row.get("category_id")):
        return False
    box = row.get("bbox")
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))


def _is_measured(row: Row) -> bool:
    """Whether area and iscrowd are missing or valid."""
    if row.get("iscrowd") not in (0, 1, None):
        return False
    area = row.get("area")
    return area is None or (_is_number(area) and 0 <= area <= LARGEST_AREA)


def is_result(row: Any) -> bool:
    """Whether the row is one of a results file."""
    return _is_box(row) and _is_number(row.get("score"))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300
