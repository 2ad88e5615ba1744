"""Reads COCO annotation files and COCO results files.

A file is checked before a model runs. One message names all its problems.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detr_onnx.errors import DatasetError

Row = dict[str, Any]
"""One object: `image_id`, `category_id`, `bbox` as left, top, width, height in pixels; a result has a `score`."""

MOST_SHOWN = 3  # names or problems in a message; the rest is counted


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
        """The image files by image id, in the order of the annotation file.

        Raises:
            DatasetError: images are missing from the directory.
        """
        paths = {image_id: directory / name for image_id, name in self.files.items()}
        missing = [self.files[image_id] for image_id, path in paths.items() if not path.is_file()]
        if missing:
            raise DatasetError(
                f"{self.source} names images that are not in {directory}",
                found=f"{len(paths) - len(missing)} of {len(paths)}, without {_some(missing)}",
                remedy="set --images to the directory of these annotations",
            )
        return paths

    def category_of(self, labels: Sequence[str]) -> list[int | None]:
        """The category id of each class of a model. Classes and categories are matched by name.

        A class that is not a category keeps its class id if no category has it, so that its detections count as false
        ones. Otherwise its category id is None.

        Raises:
            DatasetError: objects have categories that the model does not know.
        """
        category_of: list[int | None] = [None if c in self.categories else c for c in range(len(labels))]
        used = {row["category_id"] for row in self.objects}
        unknown = []
        for category, name in self.categories.items():
            class_id = _class_named(name, category, labels)
            if class_id is not None:
                category_of[class_id] = category
            elif category in used:
                unknown.append(repr(name))
        if unknown:
            known = [repr(label) for label in dict.fromkeys(labels) if label != "N/A"]
            raise DatasetError(
                f"{self.source} has categories that the model does not know",
                found=_some(unknown),
                expected=f"the model's labels, such as {_some(known)}",
                remedy="use annotations for this model, or the --config with its labels",
            )
        return category_of


def read_annotations(path: Path) -> Annotations:
    """Reads a file such as COCO's `instances_val2017.json`. `area` and `iscrowd` are optional.

    Raises:
        DatasetError: it cannot be read, is not a COCO annotation file, or has no objects.
    """
    return parse_annotations(_read_json(path), str(path))


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
    problems = [*_problems(lists)]
    if problems:
        raise DatasetError(f"{source} has errors", found=_some(problems, "; "), remedy="correct the file")
    objects = [_object(number, row) for number, row in enumerate(lists["annotations"], start=1)]
    if not objects:
        raise DatasetError(f"{source} has no objects", remedy="use annotations with at least one object")
    return Annotations(
        source,
        {row["id"]: row["file_name"] for row in lists["images"]},
        {row["id"]: row["name"] for row in lists["categories"]},
        objects,
    )


def read_results(path: Path, truth: Annotations) -> list[Row]:
    """Reads a COCO results file, such as `detect --format coco` and `evaluate --save-results` write.

    Raises:
        DatasetError: it cannot be read, is not a COCO results file, or belongs to other images or categories.
    """
    rows = _read_json(path)
    if not isinstance(rows, list) or not rows or not all(_is_result(row) for row in rows):
        raise DatasetError(
            f"{path} is not a COCO results file",
            expected="a list of objects with image_id, category_id, bbox of four numbers, and score",
        )
    unknown = {row["image_id"] for row in rows} - truth.files.keys()
    if unknown:
        raise DatasetError(
            f"{path} has results of other images than {truth.source}",
            found=f"{len(unknown)} images that are not annotated, such as {_some(sorted(unknown))}",
            remedy="use the annotations that belong to these results",
        )
    if not {row["category_id"] for row in rows} & truth.categories.keys():
        raise DatasetError(
            f"{path} has results of other categories than {truth.source}",
            found=f"ids {_some(sorted({row['category_id'] for row in rows}))}",
            expected=f"some of {_some(sorted(truth.categories))}",
        )
    return rows


def _class_named(name: str, category: int, labels: Sequence[str]) -> int | None:
    """The class with this name. Of several, the one whose class id is the category id is preferred."""
    names = [label.strip().casefold() for label in labels]
    folded = name.strip().casefold()
    if category in range(len(names)) and names[category] == folded:
        return category
    return names.index(folded) if folded in names else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"cannot read {path}", found=error.strerror, remedy="check the path") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not JSON", found=str(error)) from error


def _problems(lists: Mapping[str, Any]) -> Iterator[str]:
    """One phrase for each row that is wrong."""
    yield from _id_problems("image", lists["images"], lambda row: isinstance(row.get("file_name"), str))
    yield from _id_problems("category", lists["categories"], lambda row: isinstance(row.get("name"), str))
    images, categories = ({_id(row) for row in lists[name]} for name in ("images", "categories"))
    for number, row in enumerate(lists["annotations"]):
        if not _is_annotation(row):
            yield f"annotation {number} without image_id, category_id and bbox, or with an invalid area or iscrowd"
        elif row["image_id"] not in images:
            yield f"annotation {number} of image {row['image_id']}, which is not listed"
        elif row["category_id"] not in categories:
            yield f"annotation {number} of category {row['category_id']}, which is not listed"


def _id_problems(kind: str, rows: Sequence[Any], is_named: Callable[[Mapping[str, Any]], bool]) -> Iterator[str]:
    """One phrase for each row without an integer id, without a name, or with the id of another row."""
    seen: set[int] = set()
    for number, row in enumerate(rows):
        row_id = _id(row)
        if row_id is None or not is_named(row):
            yield f"{kind} {number} without id and name"
        elif row_id in seen:
            yield f"{kind} id {row_id} twice"
        else:
            seen.add(row_id)


def _id(row: Any) -> int | None:
    row_id = row.get("id") if isinstance(row, dict) else None
    return row_id if type(row_id) is int else None


def _is_box(row: Any) -> bool:
    """Whether the row has an image id, a category id and a box."""
    if not isinstance(row, dict) or type(row.get("image_id")) is not int or type(row.get("category_id")) is not int:
        return False
    box = row.get("bbox")
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))


def _is_annotation(row: Any) -> bool:
    return _is_box(row) and _is_number(row.get("area", 0)) and row.get("iscrowd", 0) in (0, 1)


def _is_result(row: Any) -> bool:
    return _is_box(row) and _is_number(row.get("score"))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < float("inf")


def _object(number: int, row: Row) -> Row:
    """The fields that pycocotools needs. Ids are numbered anew, because pycocotools takes an id of 0 for "no match"."""
    _, _, width, height = row["bbox"]
    fields = {name: row[name] for name in ("image_id", "category_id", "bbox")}
    return fields | {"id": number, "area": row.get("area", width * height), "iscrowd": row.get("iscrowd", 0)}


def _some(items: Collection[object], separator: str = ", ") -> str:
    """The first few items, and the number of the others."""
    shown = [str(item) for item, _ in zip(items, range(MOST_SHOWN), strict=False)]
    more = [f"{len(items) - MOST_SHOWN} more"] if len(items) > MOST_SHOWN else []
    return separator.join([*shown, *more])
