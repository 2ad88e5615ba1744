"""Image ids of COCO annotation files, found by file name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from detr_onnx.errors import DatasetError
from detr_onnx.evaluation.coco import MAX_BYTES
from detr_onnx.json_input import read_json


def read_image_ids(path: Path) -> dict[str, int]:
    """Image ids by file name, from the `images` of an annotation file; it needs no annotations.

    Raises:
        DatasetError: the file cannot be read, has no list of images, or has two images of one name.
    """
    content = read_json(path, error=DatasetError, max_bytes=MAX_BYTES)
    rows = content.get("images") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows or not all(map(_is_image, rows)):
        expected = "an object with a list `images`, each with an integer `id` and a `file_name`"
        raise DatasetError(f"{path} is not a COCO annotation file", expected=expected)
    ids = {row["file_name"]: row["id"] for row in rows}
    if len(ids) < len(rows):
        (name, _), *_ = Counter(row["file_name"] for row in rows).most_common(1)
        raise DatasetError(f"{path} has several images of one name", found=repr(name), remedy="correct the file")
    return ids


def find_image_ids(names: Sequence[str], ids: Mapping[str, int]) -> list[int | None]:
    """The image id of each file, or None.

    A file name of the annotations matches the end of a path, at a directory's boundary: `val/1.jpg` is the image
    `photos/val/1.jpg`. Where none does, the last component decides, if only one image of the annotations has it.
    """
    last = Counter(PurePosixPath(name).name for name in ids)
    by_last = {PurePosixPath(name).name: i for name, i in ids.items() if last[PurePosixPath(name).name] == 1}
    return [_find(Path(name).parts, ids, by_last) for name in names]


def _find(parts: tuple[str, ...], ids: Mapping[str, int], by_last: Mapping[str, int]) -> int | None:
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((ids[end] for end in ends if end in ids), by_last.get(parts[-1]) if parts else None)


def _is_image(row: Any) -> bool:
    return isinstance(row, dict) and type(row.get("id")) is int and isinstance(row.get("file_name"), str)
