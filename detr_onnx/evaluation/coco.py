"""What an image should show, and what a model found: COCO's annotation files and results files.

A file is read whole before anything is run, and every problem found is in the one message.
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

SHOWN = 3  # of many names or problems in a message


@dataclass(frozen=True)
class Annotations:
    """The objects of some images.

    Attributes:
        source: the file, for messages.
        files: the image's file name, by image id.
        categories: names by category id.
        objects: rows that also have `id` from 1 up, `area` and `iscrowd`.
    """

    source: str
    files: Mapping[int, str]
    categories: Mapping[int, str]
    objects: Sequence[Row]

    def images(self, directory: Path) -> dict[int, Path]:
        """The images by image id, in the file's order.

        Raises:
            DatasetError: when some are not in the directory.
        """
        places = {image_id: directory / name for image_id, name in self.files.items()}
        missing = [self.files[image_id] for image_id, place in places.items() if not place.is_file()]
        if missing:
            raise DatasetError(
                f"{self.source} names images that are not in {directory}",
                found=f"{len(places) - len(missing)} of {len(places)}, without {_some(missing)}",
                remedy="give --images the directory that these annotations are of",
            )
        return places

    def category_of(self, labels: Sequence[str]) -> list[int | None]:
        """The category id of each class of a model, by name; DETR's own classes have COCO's ids already.

        A class that is no category keeps its number where no category has it, so that nothing it finds is left out of
        the results; None is for one whose number is taken.

        Raises:
            DatasetError: when objects have categories that the model does not know.
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
                remedy="give annotations for this model, or the --config with its labels",
            )
        return category_of


def read_annotations(path: Path) -> Annotations:
    """A file like COCO's `instances_val2017.json`; `area` and `iscrowd` may be missing.

    Raises:
        DatasetError: when it cannot be read, is no such file, or has no objects.
    """
    return annotations_of(_read_json(path), str(path))


def annotations_of(content: Any, source: str) -> Annotations:
    """The same of a file's content, whose name is only for messages; DatasetError as above."""
    fields = content if isinstance(content, dict) else {}
    lists: dict[str, Any] = {name: fields.get(name) for name in ("images", "annotations", "categories")}
    lacking = [name for name, rows in lists.items() if not isinstance(rows, list)]
    if lacking:
        raise DatasetError(
            f"{source} is no COCO annotation file",
            found=f"no list of {', '.join(lacking)}",
            expected=f"an object with {', '.join(lists)}",
        )
    problems = [*_problems(lists)]
    if problems:
        raise DatasetError(f"{source} is not sound", found=_some(problems, "; "), remedy="mend the file")
    objects = [_object(number, row) for number, row in enumerate(lists["annotations"], start=1)]
    if not objects:
        raise DatasetError(f"{source} has no objects", remedy="give annotations of images that show something")
    return Annotations(
        source,
        {row["id"]: row["file_name"] for row in lists["images"]},
        {row["id"]: row["name"] for row in lists["categories"]},
        objects,
    )


def read_results(path: Path, truth: Annotations) -> list[Row]:
    """The rows of a COCO results file, as `detect --format coco` and `evaluate --save-results` write them.

    Raises:
        DatasetError: when it cannot be read, is no such file, or is of other images than the annotations.
    """
    rows = _read_json(path)
    if not isinstance(rows, list) or not rows or not all(_is_result(row) for row in rows):
        raise DatasetError(
            f"{path} is no COCO results file",
            expected="a list of objects with image_id, category_id, bbox of four numbers, and score",
        )
    strange = {row["image_id"] for row in rows} - truth.files.keys()
    if strange:
        raise DatasetError(
            f"{path} has results of other images than {truth.source}",
            found=f"{len(strange)} images that are not annotated, such as {_some(sorted(strange))}",
            remedy="give the annotations that belong to these results",
        )
    if not {row["category_id"] for row in rows} & truth.categories.keys():
        raise DatasetError(
            f"{path} has results of other categories than {truth.source}",
            found=f"ids {_some(sorted({row['category_id'] for row in rows}))}",
            expected=f"some of {_some(sorted(truth.categories))}",
        )
    return rows


def _class_named(name: str, category: int, labels: Sequence[str]) -> int | None:
    """The class of that name: the one with the category's own id before others."""
    names = [label.strip().casefold() for label in labels]
    wanted = name.strip().casefold()
    if category in range(len(names)) and names[category] == wanted:
        return category
    return names.index(wanted) if wanted in names else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"cannot read {path}", found=error.strerror, remedy="check the path") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is no JSON", found=str(error)) from error


def _problems(lists: Mapping[str, Any]) -> Iterator[str]:
    """A phrase for each row that cannot be used."""
    yield from _unsound("image", lists["images"], lambda row: isinstance(row.get("file_name"), str))
    yield from _unsound("category", lists["categories"], lambda row: isinstance(row.get("name"), str))
    images, categories = ({_id(row) for row in lists[name]} for name in ("images", "categories"))
    for number, row in enumerate(lists["annotations"]):
        if not _is_annotation(row):
            yield f"annotation {number} without image_id, category_id and bbox, or with a strange area or iscrowd"
        elif row["image_id"] not in images:
            yield f"annotation {number} of image {row['image_id']}, which is not listed"
        elif row["category_id"] not in categories:
            yield f"annotation {number} of category {row['category_id']}, which is not listed"


def _unsound(kind: str, rows: Sequence[Any], is_named: Callable[[Mapping[str, Any]], bool]) -> Iterator[str]:
    """Phrases for rows without a whole number for an id, without a name, or with an id that another has."""
    seen: set[int] = set()
    for number, row in enumerate(rows):
        identity = _id(row)
        if identity is None or not is_named(row):
            yield f"{kind} {number} without id and name"
        elif identity in seen:
            yield f"two of {kind} id {identity}"
        else:
            seen.add(identity)


def _id(row: Any) -> int | None:
    found = row.get("id") if isinstance(row, dict) else None
    return found if type(found) is int else None


def _is_box(row: Any) -> bool:
    """Whether there are the ids of an image and of a category, and a box."""
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
    """What COCO's evaluation needs of an annotation; its ids are ours, because it takes an id of 0 for "not found"."""
    _, _, width, height = row["bbox"]
    kept = {name: row[name] for name in ("image_id", "category_id", "bbox")}
    return kept | {"id": number, "area": row.get("area", width * height), "iscrowd": row.get("iscrowd", 0)}


def _some(items: Collection[object], separator: str = ", ") -> str:
    """The first few, and how many more."""
    shown = [str(item) for item, _ in zip(items, range(SHOWN), strict=False)]
    more = [f"{len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return separator.join([*shown, *more])
