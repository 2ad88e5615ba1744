"""How good a model is on annotated images: COCO's twelve numbers, by COCO's own code (pycocotools).

images ── detector, every query kept ──► rows of COCO's results format ── pycocotools ──► Evaluation
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
"""The twelve numbers in pycocotools' order."""

SCORE = 0.5  # from which on a detection counts in `recall_at_half` and `false_at_half`
IOU_50, ALL_AREAS, MOST_DETECTIONS = 0, 0, -1  # positions in pycocotools' tables

Watch = Callable[[list[Path]], Iterable[Path]]
"""Passes on the images, one at a time, and may show how far it is."""


@dataclass(frozen=True)
class ClassFigures:
    """AP, AP50 and AR (at most 100 detections an image) of one category that occurs."""

    id: int
    label: str
    objects: int
    AP: float
    AP50: float
    AR_100: float


@dataclass(frozen=True)
class Evaluation:
    """How good some results are.

    Attributes:
        images, objects: how many were annotated.
        figures: the twelve numbers by the names of `FIGURES`, in 0..1; None where no object has that size.
        recall_at_half: share of the objects that a detection with a score above 0.5 has found, at an IoU of 0.5.
        false_at_half: how many such detections found nothing, for each object.
        classes: the figures of each category that occurs, by id.
    """

    images: int
    objects: int
    figures: dict[str, float | None]
    recall_at_half: float
    false_at_half: float
    classes: tuple[ClassFigures, ...]


def detect_rows(
    detector: Detector, truth: Annotations, images: Mapping[int, Path], *, batch_size: int = 1, watch: Watch = iter
) -> list[Row]:
    """Rows of a COCO results file: one for each query of each image, whatever its score.

    Args:
        detector: the model.
        truth: its categories must be among the model's labels.
        images: by image id, as `truth.images` gives them.
        batch_size: images at a time, as `Detector.batch` takes it.
        watch: shows progress.

    Raises:
        DatasetError: when the categories are not the model's.
        ImageError: when an image cannot be read.
    """
    category_of = truth.category_of(detector.class_names)
    answers = detector.batch(watch([*images.values()]), 0.0, batch_size=batch_size)
    rows = (row for image_id, found in zip(images, answers, strict=True) for row in found.to_coco(image_id))
    return [{**row, "category_id": c} for row in rows if (c := category_of[row["category_id"]]) is not None]


def evaluate(truth: Annotations, rows: Sequence[Row]) -> Evaluation:
    """What pycocotools says of the rows of a results file.

    Raises:
        EngineError: when pycocotools is not installed.
    """
    with _silence():
        judged = _judged(truth, rows)
    stats = [None if value < 0 else float(value) for value in judged.stats]  # -1: there are no such objects
    objects, found, false = _counts_at_half(judged)
    return Evaluation(
        len(truth.files),
        objects,
        dict(zip(FIGURES, stats, strict=True)),
        found / objects if objects else 0.0,
        false / objects if objects else 0.0,
        tuple(_classes(truth, judged)),
    )


def import_pycocotools() -> tuple[Any, Any]:
    """`COCO` and `COCOeval`.

    Raises:
        EngineError: when pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise EngineError(
            "COCO's figures need the package pycocotools",
            found=str(error),
            remedy="run pip install 'detr-onnx[eval]'",
        ) from error
    return COCO, COCOeval


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """pycocotools tells its progress on stdout, which is for results."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _judged(truth: Annotations, rows: Sequence[Row]) -> Any:
    """The `COCOeval` after all its steps."""
    COCO, COCOeval = import_pycocotools()
    sized = [_sized(number, row) for number, row in enumerate(rows, start=1)]
    images, categories = ([{"id": number} for number in numbers] for numbers in (truth.files, truth.categories))
    files = []
    for objects in ([dict(row) for row in truth.objects], sized):
        file = COCO()
        file.dataset = {"images": images, "categories": categories, "annotations": objects}
        file.createIndex()
        files.append(file)
    judged = COCOeval(*files, "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return judged


def _sized(number: int, row: Row) -> Row:
    """A result as `COCO.loadRes` makes it ready."""
    _, _, width, height = row["bbox"]
    return {**row, "id": number, "area": width * height, "iscrowd": 0}


def _counts_at_half(judged: Any) -> tuple[int, int, int]:
    """Objects, those found and detections that found none, at a score above 0.5 and an IoU of 0.5; crowds left out."""
    objects = found = false = 0
    for one in judged.evalImgs:
        if one is None or one["aRng"] != judged.params.areaRng[ALL_AREAS]:
            continue
        counts = (np.array(one["dtScores"]) > SCORE) & ~one["dtIgnore"][IOU_50].astype(bool)
        hits = one["dtMatches"][IOU_50] > 0
        objects += len(one["gtIgnore"]) - int(np.sum(one["gtIgnore"]))
        found += int(np.sum(counts & hits))
        false += int(np.sum(counts & ~hits))
    return objects, found, false


def _classes(truth: Annotations, judged: Any) -> Iterator[ClassFigures]:
    """The figures of each category that has objects to find."""
    precision = judged.eval["precision"][..., ALL_AREAS, MOST_DETECTIONS]  # [IoUs,recalls,categories]
    recall = judged.eval["recall"][..., ALL_AREAS, MOST_DETECTIONS]  # [IoUs,categories]
    for k, category in enumerate(map(int, judged.params.catIds)):
        count = sum(row["category_id"] == category and not row["iscrowd"] for row in truth.objects)
        if count:
            figures = (precision[..., k], precision[IOU_50, :, k], recall[:, k])
            yield ClassFigures(category, truth.categories[category], count, *map(_mean, figures))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())
