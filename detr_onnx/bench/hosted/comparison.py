"""How far two answers about the same image differ, box by box; and about many images, in figures.

Boxes are paired as in `evaluation.agreement`: one label, IoU at least 0.5, the best pair first, no box twice. Both
answers are in the API's form, whole pixels, of which a box holds its last ones too: else one a pixel wide had no area.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detr_onnx.bench.hosted.responses import SIDES, Items
from detr_onnx.bench.timings import quantile
from detr_onnx.detections import Detections, iou
from detr_onnx.evaluation.agreement import pairs

PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Pair:
    """A thing that both have found.

    Attributes:
        local, hosted: its place in either answer.
        iou: 0.5..1.
        score: the hosted score less the local one.
        box_px: the largest difference of a side, without sign.
    """

    local: int
    hosted: int
    iou: float
    score: float
    box_px: float


@dataclass(frozen=True)
class Comparison:
    """Two answers about one image.

    Attributes:
        pairs: what both have, in the order of the local answer.
        missing: scores of what only the local one has.
        extra: scores of what only the hosted one has.
        same_order: whether the pairs come in one order in both.
        sorted: whether the hosted scores never rise.
        distance: 0 for equal answers; the scores of missing and extra, and of each pair the difference of scores and
            what the IoU lacks of 1, all added up.
    """

    pairs: tuple[Pair, ...]
    missing: tuple[float, ...]
    extra: tuple[float, ...]
    same_order: bool
    sorted: bool
    distance: float

    @property
    def identical(self) -> bool:
        """Whether both say the same, number by number, in the same order."""
        exact = all(pair.score == 0 and pair.box_px == 0 for pair in self.pairs)
        return exact and self.same_order and not self.missing and not self.extra


def compare(local: Items, hosted: Items) -> Comparison:
    """The differences of two answers."""
    ours, theirs = as_detections(local), as_detections(hosted)
    found = tuple(sorted((_pair(ours, theirs, i, j) for i, j, _ in pairs(ours, theirs)), key=lambda pair: pair.local))
    missing = _others([item["score"] for item in local], [pair.local for pair in found])
    extra = _others([item["score"] for item in hosted], [pair.hosted for pair in found])
    places, scores = [pair.hosted for pair in found], [item["score"] for item in hosted]
    return Comparison(
        found,
        missing,
        extra,
        same_order=places == sorted(places),
        sorted=scores == sorted(scores, reverse=True),
        distance=sum(missing) + sum(extra) + sum(abs(pair.score) + 1 - pair.iou for pair in found),
    )


def as_detections(items: Items) -> Detections:
    """An answer in the API's form; boxes reach to the far edge of their last pixels, labels are those that occur."""
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
    score = float(theirs.scores[j]) - float(ours.scores[i])
    return Pair(i, j, overlap, score, float(np.abs(ours.xyxy[i] - theirs.xyxy[j]).max()))


def _others(scores: Sequence[float], taken: Sequence[int]) -> tuple[float, ...]:
    return tuple(score for place, score in enumerate(scores) if place not in taken)


def figures_of(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Counts over all images, and how large the differences are; None where there is nothing to measure."""
    every = [pair for one in comparisons for pair in one.pairs]
    missing, extra = ([s for one in comparisons for s in getattr(one, side)] for side in ("missing", "extra"))
    return {
        "images": len(comparisons),
        "identical": sum(one.identical for one in comparisons),
        "other_order": sum(not one.same_order for one in comparisons),
        "unsorted": sum(not one.sorted for one in comparisons),
        "boxes_local": len(every) + len(missing),
        "boxes_hosted": len(every) + len(extra),
        "boxes_matched": len(every),
        "missing": len(missing),
        "missing_best_score": max(missing, default=None),
        "extra": len(extra),
        "extra_best_score": max(extra, default=None),
        "iou_mean": _mean(pair.iou for pair in every),
        "iou_least": min((pair.iou for pair in every), default=None),
        "score_difference_mean": _mean(abs(pair.score) for pair in every),
        "score_difference_most": max((abs(pair.score) for pair in every), default=None),
        "box_difference_px_mean": _mean(pair.box_px for pair in every),
        "box_difference_px_most": max((pair.box_px for pair in every), default=None),
    }


def percentiles(times_ms: Iterable[float]) -> dict[str, float | int]:
    """How many times there are, and p50, p95 and p99 of them, in milliseconds; the count alone for none."""
    ordered = sorted(times_ms)
    named = {name: round(quantile(ordered, share), 1) for name, share in PERCENTILES.items()} if ordered else {}
    return {"count": len(ordered), **named}


def _mean(values: Iterable[float]) -> float | None:
    some = list(values)
    return statistics.fmean(some) if some else None
