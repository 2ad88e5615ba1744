"""Checks of the rows of COCO's panoptic files: ids, names, segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detr_onnx.evaluation.coco_rows import id_problems, is_id, row_id_of
from detr_onnx.evaluation.panoptic_quality import MAX_ID


def category_problems(rows: Sequence[Any]) -> Iterator[str]:
    """One phrase for each category that is wrong, or does not say whether it is a thing."""
    yield from id_problems("category", rows, lambda row: isinstance(row.get("name"), str))
    for number, row in enumerate(rows):
        if isinstance(row, dict) and not tells_things_apart(row):
            yield f"category {number} without an isthing of 0 or 1"


def tells_things_apart(row: Mapping[str, Any]) -> bool:
    """Whether a category says that it is a thing, or stuff."""
    return row.get("isthing") in (0, 1)


def annotation_problems(rows: Sequence[Any]) -> Iterator[str]:
    """One phrase for each annotation that is wrong by itself."""
    seen: set[int] = set()
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not is_id(row.get("image_id")) or not isinstance(row.get("file_name"), str):
            yield f"annotation {number} without image_id and file_name"
        elif row["image_id"] in seen:
            yield f"image {row['image_id']} has two annotations"
        else:
            seen.add(row["image_id"])
            yield from _segment_problems(row)


def _segment_problems(row: Mapping[str, Any]) -> Iterator[str]:
    segments = row.get("segments_info")
    if not isinstance(segments, list):
        yield f"image {row['image_id']} without segments_info"
        return
    seen: set[int] = set()
    for segment in segments:
        segment_id = row_id_of(segment)
        if segment_id is None or not 0 < segment_id <= MAX_ID or not is_id(segment.get("category_id")):
            yield f"image {row['image_id']} has a segment without id and category_id"
        elif segment_id in seen:
            yield f"image {row['image_id']} has the segment id {segment_id} twice"
        elif segment.get("iscrowd") not in (0, 1, None):
            yield f"image {row['image_id']} has a segment with an invalid iscrowd"
        else:
            seen.add(segment_id)


def link_problems(lists: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """One phrase for each image or category that is not listed."""
    images, categories = ({row_id_of(row) for row in lists[name]} for name in ("images", "categories"))
    for row in lists["annotations"]:
        fields = row if isinstance(row, dict) else {}
        image_id, segments = fields.get("image_id"), fields.get("segments_info")
        if is_id(image_id) and image_id not in images:
            yield f"an annotation of image {image_id}, which is not listed"
        for segment in segments if isinstance(segments, list) else []:
            category = segment.get("category_id") if isinstance(segment, dict) else None
            if is_id(category) and category not in categories:
                yield f"image {image_id} has a segment of category {category}, which is not listed"
