"""How far two answers about the same image differ, box by box; and summaries over many images.

Boxes are paired as in `evaluation.agreement`: same label, IoU at least 0.5, the best pair first, each box once. Both
answers are in the API's form, with boxes in whole pixels, both ends included: a box from 7 to 7 is one pixel wide.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detr_onnx.bench.hosted.responses import SIDES, Items
from detr_onnx.boxes import iou
from detr_onnx.detections import Detections
from detr_onnx.evaluation.agreement import pairs


@dataclass(frozen=True)
class Pair:
    """A detection of both sides.

    Attributes:
        local, hosted: its index in either answer.
        iou: 0.5..1.
        score_difference: the hosted score minus the local one.
        box_px: the largest difference of a side, without sign.
    """

    local: int
    hosted: int
    iou: float
    score_difference: float
    box_px: float


@dataclass(frozen=True)
class Comparison:
    """Two answers about one image.

    Attributes:
        pairs: detections of both sides, in the order of the local answer.
        missing: scores of detections of the local side only.
        extra: scores of detections of the hosted side only.
        same_order: whether the pairs have the same order on both sides.
        sorted: whether the hosted scores never rise.
        distance: 0 for equal answers: the sum of the scores of `missing` and `extra`, and for each pair of the
            difference of scores and 1 - IoU.
    """

    pairs: tuple[Pair, ...]
    missing: tuple[float, ...]
    extra: tuple[float, ...]
    same_order: bool
    sorted: bool
    distance: float

    @property
    def identical(self) -> bool:
        """Whether both answers have the same numbers in the same order."""
        exact = all(pair.score_difference == 0 and pair.box_px == 0 for pair in self.pairs)
        return exact and self.same_order and not self.missing and not self.extra


def compare(local: Items, hosted: Items) -> Comparison:
    """The differences of two answers."""
    ours, theirs = as_detections(local), as_detections(hosted)
    matched = [_pair(ours, theirs, i, j) for i, j, _ in pairs(ours, theirs)]
    matched.sort(key=lambda pair: pair.local)
    missing = _unmatched_scores(local, {pair.local for pair in matched})
    extra = _unmatched_scores(hosted, {pair.hosted for pair in matched})
    order, scores = [pair.hosted for pair in matched], [item["score"] for item in hosted]
    return Comparison(
        tuple(matched),
        missing,
        extra,
        same_order=order == sorted(order),
        sorted=scores == sorted(scores, reverse=True),
        distance=sum(missing) + sum(extra) + sum(abs(pair.score_difference) + 1 - pair.iou for pair in matched),
    )


def as_detections(items: Items) -> Detections:
    """An answer in the API's form; boxes reach to the outer edge of their last pixels, labels are those that occur."""
    labels = sorted({item["label"] for item in items})
    boxes = [[item["box"][side] for side in SIDES] for item in items]
    return Detections(
        np.array([item["score"] for item in items], np.float32),
        np.array([labels.index(item["label"]) for item in items], np.int64),
        np.array(boxes, np.float32).reshape(-1, 4) + np.array([0, 0, 1, 1], np.float32),
        labels,
    )


def _pair(ours: Detections, theirs: Detections, i: int, j: int) -> Pair:
    overlap = float(iou(ours.xyxy[i : i + 1], theirs.xyxy[j : j + 1])[0, 0])
    difference = float(theirs.scores[j]) - float(ours.scores[i])
    return Pair(i, j, overlap, difference, float(np.abs(ours.xyxy[i] - theirs.xyxy[j]).max()))


def _unmatched_scores(items: Items, matched: Collection[int]) -> tuple[float, ...]:
    return tuple(item["score"] for index, item in enumerate(items) if index not in matched)


def summary_of(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Counts over all images, and how large the differences are; None where there is nothing to measure."""
    matched = [pair for comparison in comparisons for pair in comparison.pairs]
    missing = [score for comparison in comparisons for score in comparison.missing]
    extra = [score for comparison in comparisons for score in comparison.extra]
    score_differences = [abs(pair.score_difference) for pair in matched]
    return {
        "images": len(comparisons),
        "identical": sum(comparison.identical for comparison in comparisons),
        "other_order": sum(not comparison.same_order for comparison in comparisons),
        "unsorted": sum(not comparison.sorted for comparison in comparisons),
        "boxes_local": len(matched) + len(missing),
        "boxes_hosted": len(matched) + len(extra),
        "boxes_matched": len(matched),
        "missing": len(missing),
        "missing_best_score": max(missing, default=None),
        "extra": len(extra),
        "extra_best_score": max(extra, default=None),
        "iou_mean": _mean(pair.iou for pair in matched),
        "iou_least": min((pair.iou for pair in matched), default=None),
        "score_difference_mean": _mean(score_differences),
        "score_difference_most": max(score_differences, default=None),
        "box_difference_px_mean": _mean(pair.box_px for pair in matched),
        "box_difference_px_most": max((pair.box_px for pair in matched), default=None),
    }


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return statistics.fmean(listed) if listed else None
