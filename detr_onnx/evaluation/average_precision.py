"""COCO's twelve metrics of a model, computed by pycocotools.

images ── detector, all queries ──► rows of a COCO results file ── pycocotools ──► Evaluation
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.errors import EngineError
from detr_onnx.evaluation.coco import Annotations, Row

if TYPE_CHECKING:
    from detr_onnx.detector import Detector

FIGURES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
"""The twelve metrics in the order of pycocotools."""

SCORE = 0.5  # above it a detection counts in `recall_at_half` and `false_at_half`
IOU_50, ALL_AREAS, MOST_DETECTIONS = 0, 0, -1  # indices in the tables of pycocotools

Progress = Callable[[list[Path]], Iterable[Path]]
"""Yields the images one by one and may show how many are done."""


@dataclass(frozen=True)
class ClassFigures:
    """AP, AP50 and AR (at most 100 detections per image) of a category that has objects."""

    id: int
    label: str
    objects: int
    AP: float
    AP50: float
    AR_100: float


@dataclass(frozen=True)
class Evaluation:
    """COCO metrics of some results.

    Attributes:
        images: number of annotated images.
        objects: number of annotated objects, without crowds.
        figures: the twelve metrics by the names of `FIGURES`, in 0..1; None where no object has that size.
        recall_at_half: share of the objects that are found by a detection with a score above 0.5, at an IoU of 0.5.
        false_at_half: number of such detections that match no object, divided by the number of objects.
        classes: the figures of each category that has objects, sorted by id.
    """

    images: int
    objects: int
    figures: dict[str, float | None]
    recall_at_half: float
    false_at_half: float
    classes: tuple[ClassFigures, ...]


def detect_rows(
    detector: Detector,
    truth: Annotations,
    images: Mapping[int, Path],
    *,
    batch_size: int = 1,
    progress: Progress = iter,
) -> list[Row]:
    """Runs a model on images. A score threshold would bias AP, so every query of every image gives a row.

    Args:
        detector: the model.
        truth: the annotations; their categories must be among the model's labels.
        images: image files by image id, as `truth.images` returns them.
        batch_size: images per batch; see `Detector.batch`.
        progress: wraps the images and shows progress.

    Returns:
        Rows of a COCO results file.

    Raises:
        DatasetError: objects have categories that the model does not know.
        ImageError: an image cannot be read.
    """
    category_of = truth.category_of(detector.class_names)
    batches = detector.batch(progress([*images.values()]), 0.0, batch_size=batch_size, masks=False)
    rows = (row for image_id, detections in zip(images, batches, strict=True) for row in detections.to_coco(image_id))
    return [{**row, "category_id": c} for row in rows if (c := category_of[row["category_id"]]) is not None]


def evaluate(truth: Annotations, rows: Sequence[Row]) -> Evaluation:
    """Evaluates the rows of a COCO results file.

    Raises:
        EngineError: pycocotools is not installed.
    """
    with without_stdout():
        coco_eval = coco_eval_of(truth, rows)
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    stats = [None if value < 0 else float(value) for value in coco_eval.stats]  # -1: there are no such objects
    objects, found, false = _counts_at_half(coco_eval)
    return Evaluation(
        len(truth.files),
        objects,
        dict(zip(FIGURES, stats, strict=True)),
        found / objects if objects else 0.0,
        false / objects if objects else 0.0,
        tuple(_classes(truth, coco_eval)),
    )


def import_pycocotools() -> tuple[Any, Any]:
    """The classes `COCO` and `COCOeval`.

    Raises:
        EngineError: pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise EngineError(
            "COCO's metrics need the package pycocotools",
            found=str(error),
            remedy="run pip install 'detr-onnx[eval]'",
        ) from error
    return COCO, COCOeval


@contextlib.contextmanager
def without_stdout() -> Iterator[None]:
    """pycocotools prints its progress to stdout, which is for results."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def coco_eval_of(truth: Annotations, rows: Sequence[Row]) -> Any:
    """A `COCOeval` of results, to be evaluated. It prints."""
    COCO, COCOeval = import_pycocotools()
    results = [_with_area(number, row) for number, row in enumerate(rows, start=1)]
    images, categories = ([{"id": number} for number in numbers] for numbers in (truth.files, truth.categories))
    files = []
    for objects in ([dict(row) for row in truth.objects], results):
        file = COCO()
        file.dataset = {"images": images, "categories": categories, "annotations": objects}
        file.createIndex()
        files.append(file)
    return COCOeval(*files, "bbox")


def _with_area(number: int, row: Row) -> Row:
    """A result with the fields that `COCO.loadRes` adds."""
    _, _, width, height = row["bbox"]
    return {**row, "id": number, "area": width * height, "iscrowd": 0}


def _counts_at_half(coco_eval: Any) -> tuple[int, int, int]:
    """Numbers of objects, of found objects and of false detections, at a score above 0.5 and an IoU of 0.5.

    Crowds are not counted.
    """
    objects = found = false = 0
    for image in coco_eval.evalImgs:  # one per image, category and range of areas
        if image is None or image["aRng"] != coco_eval.params.areaRng[ALL_AREAS]:
            continue
        counts = (np.array(image["dtScores"]) > SCORE) & ~image["dtIgnore"][IOU_50].astype(bool)
        hits = image["dtMatches"][IOU_50] > 0
        objects += len(image["gtIgnore"]) - int(np.sum(image["gtIgnore"]))
        found += int(np.sum(counts & hits))
        false += int(np.sum(counts & ~hits))
    return objects, found, false


def _classes(truth: Annotations, coco_eval: Any) -> Iterator[ClassFigures]:
    """The figures of each category that has objects."""
    precision = coco_eval.eval["precision"][..., ALL_AREAS, MOST_DETECTIONS]  # [IoUs,recalls,categories]
    recall = coco_eval.eval["recall"][..., ALL_AREAS, MOST_DETECTIONS]  # [IoUs,categories]
    for k, category in enumerate(map(int, coco_eval.params.catIds)):
        count = sum(row["category_id"] == category and not row["iscrowd"] for row in truth.objects)
        if count:
            figures = (precision[..., k], precision[IOU_50, :, k], recall[:, k])
            yield ClassFigures(category, truth.categories[category], count, *map(_mean, figures))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())
