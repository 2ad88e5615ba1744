"""COCO's average precision on many resamples of the images, from one evaluation by pycocotools.

    objects, detections ── COCOeval.evaluate, once ──► Matches ── weights of the images ──► AP of each resample

pycocotools matches detections with objects image by image. Only the second half of its work, the curve of precision
over recall, depends on which images there are; it is done here, with each image as often as a resample draws it. The
result is that of pycocotools on copies of the images, but for detections of equal score in one image, whose order is
arbitrary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.evaluation.average_precision import coco_eval_of, without_stdout
from detr_onnx.evaluation.coco import Annotations, Row

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

IOU_50 = 0  # index among COCO's ten IoUs
RECALLS = np.linspace(0, 1, 101)  # at which COCO reads the precision
CHUNK_NUMBERS = 4_000_000  # at a time: 32 MB an array


@dataclass(frozen=True)
class CategoryMatches:
    """Which detections of a category found an object.

    Attributes:
        objects: [I] objects in each image; crowds do not count.
        image: [D] index of each detection's image, by falling score.
        found: [T, D] whether it found an object, at each of T IoUs.
        counted: [T, D] False for those that found a crowd, which neither help nor harm.
    """

    objects: Integers
    image: Integers
    found: Booleans
    counted: Booleans


def match(truth: Annotations, rows: Sequence[Row]) -> list[CategoryMatches]:
    """Evaluates results with pycocotools, for objects of any size and 100 detections per image.

    Returns:
        One item for each category, in the order of ids; images are in the order of ids.

    Raises:
        EngineError: pycocotools is not installed.
    """
    with without_stdout():
        evaluation = coco_eval_of(truth, rows)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
    count, found = len(truth.files), evaluation.evalImgs  # by category, then image
    thresholds = len(evaluation.params.iouThrs)
    return [_category(found[first : first + count], thresholds) for first in range(0, len(found), count)]


def average_precisions(categories: Sequence[CategoryMatches], weights: Integers) -> tuple[Floats, Floats]:
    """AP and AP50 of each resample, in 0..1; NaN for one without objects.

    Args:
        categories: of `match`.
        weights: [S, I] how often each of S resamples has each image.
    """
    thresholds = len(categories[0].found)
    total, present = np.zeros((len(weights), thresholds)), np.zeros(len(weights))
    for category in categories:
        objects = weights @ category.objects  # [S]
        has_objects = objects > 0
        present += has_objects
        chunk = max(1, CHUNK_NUMBERS // max(1, len(category.image)))
        for first in range(0, len(weights), chunk):
            part = slice(first, first + chunk)
            precision = _precision(category, weights[part], objects[part])
            total[part] += np.where(has_objects[part, None], precision, 0)
    by_iou = np.divide(total, present[:, None], out=np.full_like(total, np.nan), where=present[:, None] > 0)  # [S,T]
    return by_iou.mean(axis=1), by_iou[:, IOU_50]


def _precision(category: CategoryMatches, weights: Integers, objects: Integers) -> Floats:
    """[S, T] precision, as the mean over the recalls."""
    sampled = weights[:, category.image]  # [S,D] how often each detection occurs
    counted_so_far = _once_per_row(category.counted, lambda row: np.cumsum(sampled * row, axis=1))
    columns = []
    for found, counted in zip(category.found, counted_so_far, strict=True):
        hits = np.flatnonzero(found)
        true = np.cumsum(sampled[:, hits], axis=1)  # [S,P] true positives up to each of P
        precision = true / (counted[:, hits] + np.spacing(1))
        columns.append(_mean_at_recalls(precision, true, objects))
    return np.stack(columns, axis=1)


def _mean_at_recalls(precision: Floats, true: Integers, objects: Integers) -> Floats:
    """[S] mean over COCO's recalls of the best precision at that recall or beyond, 0 where it is not reached.

    Args:
        precision, true: [S, P] at each true positive.
        objects: [S] to be found.
    """
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, true / np.maximum(objects, 1)[:, None], side="right")  # [S,P] how many recalls
    newly_reached = np.diff(reached, axis=1, prepend=0)
    mean: Floats = (best * newly_reached).sum(axis=1) / len(RECALLS)
    return mean


def _once_per_row(rows: Booleans, function: Callable[[Booleans], Integers]) -> list[Integers]:
    """The function's value for each row, computed once for equal rows: few IoUs tell crowds apart."""
    values: dict[bytes, Integers] = {}
    return [values[key] if (key := row.tobytes()) in values else values.setdefault(key, function(row)) for row in rows]


def _category(images: Sequence[Any], thresholds: int) -> CategoryMatches:
    """Joins the images' evaluations; an image without objects and detections has none."""
    present = [(index, image) for index, image in enumerate(images) if image is not None]
    objects = np.zeros(len(images), np.int64)
    for index, image in present:
        objects[index] = len(image["gtIgnore"]) - int(np.sum(image["gtIgnore"]))
    scores = np.concatenate([np.zeros(0), *(image["dtScores"] for _, image in present)])
    numbers = np.concatenate(
        [np.zeros(0, np.int64), *(np.full(len(image["dtScores"]), index) for index, image in present)]
    )
    empty = np.zeros((thresholds, 0), bool)
    matched = np.concatenate([empty, *(image["dtMatches"] > 0 for _, image in present)], axis=1)
    counted = ~np.concatenate([empty, *(image["dtIgnore"].astype(bool) for _, image in present)], axis=1)
    order = np.argsort(-scores, kind="mergesort")
    return CategoryMatches(objects, numbers[order], (matched & counted)[:, order], counted[:, order])
