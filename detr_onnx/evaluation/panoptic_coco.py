"""Reads panoptic ground truth and panoptic results in COCO's format, and computes the panoptic quality of a model.

The JSON is checked before a model runs, and one message names all its problems; PNGs are read when their turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detr_onnx.errors import DatasetError
from detr_onnx.evaluation.coco import MAX_BYTES, check_known, class_named, image_paths, some
from detr_onnx.evaluation.coco_rows import id_problems, leaves_directory
from detr_onnx.evaluation.panoptic_files import Ids, PanopticResults, check_sizes, kept_segments, read_ids
from detr_onnx.evaluation.panoptic_quality import VOID, Category, PanopticEvaluation, PanopticQuality, Segment
from detr_onnx.evaluation.panoptic_rows import annotation_problems, category_problems, link_problems
from detr_onnx.json_input import read_json
from detr_onnx.paths import is_file

if TYPE_CHECKING:
    from detr_onnx.detector import Detector


@dataclass(frozen=True)
class Annotation:
    """The segments of an image, by id, and the name of the PNG with their pixels."""

    file_name: str
    segments: Mapping[int, Segment]


@dataclass(frozen=True)
class PanopticAnnotations:
    """Segments of some images, true ones or predicted ones.

    Attributes:
        source: the name of the JSON file, for messages.
        directory: of the PNGs.
        files: file names of the images by id; empty for results.
        categories: by id; empty for results.
        annotations: by image id.
    """

    source: str
    directory: Path
    files: Mapping[int, str]
    categories: Mapping[int, Category]
    annotations: Mapping[int, Annotation]

    def images(self, directory: Path) -> dict[int, Path]:
        """The image files by image id.

        Raises:
            DatasetError: images are missing from the directory, or their names lead out of it.
        """
        return image_paths(self.source, self.files, directory)

    def check_pngs(self) -> None:
        """Raises DatasetError if PNGs are missing, or their names lead out of the directory."""
        names = [annotation.file_name for annotation in self.annotations.values()]
        outside = [name for name in names if leaves_directory(name)]
        if outside:
            what = f"{self.source} names files outside of {self.directory}"
            raise DatasetError(what, found=some(outside), expected="names of PNGs, without ..")
        missing = [name for name in names if not is_file(self.directory / name)]
        if missing:
            raise DatasetError(
                f"{self.source} names PNGs that are not in {self.directory}",
                found=f"{len(names) - len(missing)} of {len(names)}, without {some(missing)}",
                remedy="set --masks to the directory of the PNGs of these annotations",
            )

    def read(self, image_id: int) -> tuple[Ids, Mapping[int, Segment]]:
        """The ids [H,W] and the segments of an image.

        Raises:
            ImageError: the PNG cannot be read.
            DatasetError: it has other segments than the JSON.
        """
        annotation = self.annotations[image_id]
        ids = read_ids(self.directory / annotation.file_name)
        seen = {*np.unique(ids).tolist()} - {VOID}
        unlisted, unseen = seen - annotation.segments.keys(), annotation.segments.keys() - seen
        if unlisted or unseen:
            which = "pixels of segments that the JSON does not list" if unlisted else "no pixel of listed segments"
            raise DatasetError(
                f"{self.directory / annotation.file_name} does not belong to {self.source}",
                found=f"{which}: {some(sorted(unlisted or unseen))}",
                remedy="use the PNGs of these annotations",
            )
        return ids, annotation.segments

    def category_of(self, labels: Sequence[str]) -> list[int | None]:
        """The category id of each class of a model, or None.

        They are matched by name; a class called LABEL_17, as in the official panoptic models, is category 17.

        Raises:
            DatasetError: there are segments of categories that the model does not know.
        """
        category_of: list[int | None] = [None] * len(labels)
        used = {s.category_id for a in self.annotations.values() for s in a.segments.values() if not s.is_crowd}
        unknown = []
        for k, category in self.categories.items():
            class_id = _class_of(k, category.name, labels)
            if class_id is not None:
                category_of[class_id] = k
            elif k in used:
                unknown.append(repr(category.name))
        check_known(self.source, unknown, labels)
        return category_of

    def stuff(self, category_of: Sequence[int | None]) -> list[int]:
        """The classes of which an image has one segment only."""
        return [c for c, k in enumerate(category_of) if k is not None and not self.categories[k].is_thing]


def read_stuff(path: Path, labels: Sequence[str]) -> list[int]:
    """The classes of a model that an annotation file calls stuff; none if it does not tell things and stuff apart.

    Raises:
        DatasetError: it cannot be read.
    """
    content = read_json(path, error=DatasetError, max_bytes=MAX_BYTES)
    rows = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(rows, list) or any(category_problems(rows)):
        return []
    classes = [_class_of(row["id"], row["name"], labels) for row in rows if row["isthing"] == 0]
    return [class_id for class_id in classes if class_id is not None]


def read_truth(path: Path, directory: Path) -> PanopticAnnotations:
    """Reads a file such as COCO's `panoptic_val2017.json`, with the PNGs of a directory.

    Raises:
        DatasetError: it cannot be read, is not a panoptic annotation file, has no segments, or PNGs are missing.
    """
    lists = _read_lists(path, ("images", "categories", "annotations"))
    problems = [
        *id_problems("image", lists["images"], lambda row: isinstance(row.get("file_name"), str)),
        *category_problems(lists["categories"]),
        *annotation_problems(lists["annotations"]),
        *link_problems(lists),
    ]
    if problems:
        raise DatasetError(f"{path} has errors", found=some(problems, "; "), remedy="correct the file")
    annotations = _annotations(lists["annotations"])
    if all(segment.is_crowd for a in annotations.values() for segment in a.segments.values()):
        raise DatasetError(f"{path} has no segments", remedy="use annotations with at least one segment")
    categories = {row["id"]: Category(row["name"], row["isthing"] == 1) for row in lists["categories"]}
    files = {row["id"]: row["file_name"] for row in lists["images"] if row["id"] in annotations}
    truth = PanopticAnnotations(str(path), directory, files, categories, annotations)
    truth.check_pngs()
    return truth


def read_panoptic_results(path: Path, directory: Path, truth: PanopticAnnotations) -> PanopticAnnotations:
    """Reads panoptic results, such as `detect --format panoptic` writes, with the PNGs of a directory.

    Raises:
        DatasetError: they cannot be read, are not panoptic results, PNGs are missing, images of the ground truth have
            none, or they have other categories.
    """
    rows = _read_lists(path, ("annotations",))["annotations"]
    problems = [*annotation_problems(rows)]
    if problems:
        raise DatasetError(f"{path} has errors", found=some(problems, "; "), remedy="correct the file")
    annotations = {k: a for k, a in _annotations(rows).items() if k in truth.annotations}
    if missing := truth.annotations.keys() - annotations.keys():
        raise DatasetError(
            f"{path} has no segments of images that are annotated in {truth.source}",
            found=f"{len(missing)} of {len(truth.annotations)} images without, such as {some(sorted(missing))}",
            remedy="check that the results have the image ids of the annotations",
        )
    used = {segment.category_id for a in annotations.values() for segment in a.segments.values()}
    if unknown := used - truth.categories.keys():
        raise DatasetError(
            f"{path} has segments of other categories than {truth.source}",
            found=f"ids {some(sorted(unknown))}",
            expected=f"some of {some(sorted(truth.categories))}",
        )
    results = PanopticAnnotations(str(path), directory, {}, {}, annotations)
    results.check_pngs()
    return results


def evaluate_results(truth: PanopticAnnotations, results: PanopticAnnotations) -> PanopticEvaluation:
    """The panoptic quality of results.

    Raises:
        ImageError, DatasetError: a PNG cannot be read, or does not fit.
    """
    quality = PanopticQuality()
    for image_id in truth.annotations:
        true_ids, segments = truth.read(image_id)
        ids, found = results.read(image_id)
        name = str(results.directory / results.annotations[image_id].file_name)
        check_sizes(results.source, name, ids.shape, true_ids.shape)
        quality.add(true_ids, segments, ids, found)
    return quality.result(truth.categories)


def evaluate_model(
    detector: Detector,
    truth: PanopticAnnotations,
    images: Mapping[int, Path],
    threshold: float,
    *,
    show: Callable[[int, str], None] = lambda number, name: None,
    results: PanopticResults | None = None,
) -> PanopticEvaluation:
    """Runs a panoptic model on images. Segments of stuff are fused, so that each category has one.

    Args:
        detector: the model.
        truth: its categories must be among the model's labels.
        images: image files by image id.
        threshold: in 0..1; scores must be strictly greater.
        show: is called with the number and name of the next image.
        results: where the segments are written.

    Raises:
        UsageError: the model has no mask head.
        ImageError: an image or a PNG cannot be read.
        DatasetError: there are categories that the model does not know, or a PNG does not fit.
    """
    category_of = truth.category_of(detector.class_names)
    stuff, quality = truth.stuff(category_of), PanopticQuality()
    for number, image_id in enumerate(images, start=1):
        show(number, truth.files[image_id])
        true_ids, true_segments = truth.read(image_id)
        segmentation = detector.panoptic(images[image_id], threshold, label_ids_to_fuse=stuff)
        name = str(truth.directory / truth.annotations[image_id].file_name)
        check_sizes(truth.source, name, true_ids.shape, segmentation.segmentation.shape)
        if results is not None:
            results.add(image_id, truth.files[image_id], segmentation)
        ids, rows = kept_segments(segmentation, category_of)
        quality.add(true_ids, true_segments, ids, {row["id"]: Segment(row["category_id"]) for row in rows})
    return quality.result(truth.categories)


def _class_of(category: int, name: str, labels: Sequence[str]) -> int | None:
    is_nameless = category in range(len(labels)) and labels[category] == f"LABEL_{category}"
    return category if is_nameless else class_named(name, category, labels)


def _read_lists(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    content = read_json(path, error=DatasetError, max_bytes=MAX_BYTES)
    fields = content if isinstance(content, dict) else {}
    lacking = [name for name in names if not isinstance(fields.get(name), list)]
    if lacking or not any(isinstance(row, dict) and "segments_info" in row for row in fields["annotations"]):
        raise DatasetError(
            f"{path} is not a panoptic annotation file",
            found=f"no list of {', '.join(lacking)}" if lacking else "no annotation with segments_info",
            expected="COCO's panoptic format: annotations with image_id, file_name and segments_info",
        )
    return {name: fields[name] for name in names}


def _annotations(rows: Sequence[Mapping[str, Any]]) -> dict[int, Annotation]:
    """The annotations of rows without problems."""
    return {row["image_id"]: Annotation(row["file_name"], _segments(row["segments_info"])) for row in rows}


def _segments(rows: Sequence[Mapping[str, Any]]) -> dict[int, Segment]:
    return {row["id"]: Segment(row["category_id"], bool(row.get("iscrowd"))) for row in rows}
