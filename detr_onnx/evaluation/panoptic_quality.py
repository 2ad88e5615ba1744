"""Panoptic quality: how well predicted segments match those of the ground truth.

PQ = SQ · RQ of each category: SQ is the mean IoU of the matched segments, RQ = TP / (TP + FP/2 + FN/2). Segments match
if they have the same category and an IoU above a half, so each has at most one partner.

Source: Kirillov et al., Panoptic Segmentation (CVPR 2019), and `evaluation.py` of cocodataset/panopticapi.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]

VOID = 0  # the id of pixels that belong to no segment
MATCHING_IOU = IGNORED_SHARE = 0.5
ID_BITS = 24  # of an id in a PNG
MAX_ID = (1 << ID_BITS) - 1


@dataclass(frozen=True)
class Segment:
    """A segment of an image: its category, and whether it is a crowd, of which nothing has to be found."""

    category_id: int
    is_crowd: bool = False


@dataclass
class Counts:
    """The segments of a category: matched ones, false ones, missed ones, and the sum of the IoUs of the matched."""

    matched: int = 0
    false: int = 0
    missed: int = 0
    iou: float = 0.0

    @property
    def PQ(self) -> float:  # noqa: N802 - its name in the paper
        """In 0..1, as the others. There must be a segment."""
        return self.SQ * self.RQ

    @property
    def SQ(self) -> float:  # noqa: N802 - its name in the paper
        return self.iou / self.matched if self.matched else 0.0

    @property
    def RQ(self) -> float:  # noqa: N802 - its name in the paper
        return self.matched / (self.matched + self.false / 2 + self.missed / 2)


@dataclass(frozen=True)
class Category:
    """A category of the ground truth: things are counted, stuff is not."""

    name: str
    is_thing: bool


@dataclass(frozen=True)
class CategoryQuality:
    """PQ, SQ and RQ of a category that has segments, true or predicted."""

    id: int
    label: str
    is_thing: bool
    segments: int
    PQ: float
    SQ: float
    RQ: float


@dataclass(frozen=True)
class PanopticEvaluation:
    """Panoptic quality of some segments.

    Attributes:
        images: number of annotated images.
        segments: number of annotated segments, without crowds.
        figures: PQ, SQ and RQ, in 0..1: the means of all categories, of things ("PQ_things") and of stuff ("PQ_stuff");
            None where no such category has segments.
        classes: those of each category that has segments, sorted by id.
    """

    images: int
    segments: int
    figures: dict[str, float | None]
    classes: tuple[CategoryQuality, ...]


class PanopticQuality:
    """Counts the segments of one image after another."""

    def __init__(self) -> None:
        self._counts: defaultdict[int, Counts] = defaultdict(Counts)
        self._images = 0

    def add(
        self, true_ids: Ids, true_segments: Mapping[int, Segment], ids: Ids, segments: Mapping[int, Segment]
    ) -> None:
        """Counts the segments of an image.

        Args:
            true_ids: [H,W] the segment of each pixel in the ground truth, `VOID` where nobody knows.
            true_segments: the segments by id.
            ids: [H,W] the predicted segments, `VOID` for none.
            segments: these by id.
        """
        overlaps = _overlaps(true_ids, ids)
        true_areas, areas = (_areas(overlaps, side) for side in (0, 1))
        matches: dict[int, int] = {}
        for (true_id, own), common in overlaps.items():
            true, predicted = true_segments.get(true_id), segments.get(own)
            if true is None or predicted is None or true.is_crowd or true.category_id != predicted.category_id:
                continue
            iou = common / (true_areas[true_id] + areas[own] - common - overlaps[VOID, own])
            if iou > MATCHING_IOU:
                matches[true_id] = own
                self._counts[true.category_id].matched += 1
                self._counts[true.category_id].iou += iou
        for true_id, true in true_segments.items():
            if true_id not in matches and not true.is_crowd:
                self._counts[true.category_id].missed += 1
        for own in segments.keys() - set(matches.values()):
            crowds = _crowds(true_segments, segments[own].category_id)
            ignored = overlaps[VOID, own] + sum(overlaps[crowd, own] for crowd in crowds)
            if ignored <= IGNORED_SHARE * areas[own]:
                self._counts[segments[own].category_id].false += 1
        self._images += 1

    def result(self, categories: Mapping[int, Category]) -> PanopticEvaluation:
        """The figures of what was counted; predicted segments of other categories are left out."""
        classes = tuple(
            CategoryQuality(k, category.name, category.is_thing, c.matched + c.missed, c.PQ, c.SQ, c.RQ)
            for k, category in sorted(categories.items())
            if (c := self._counts.get(k, Counts())) != Counts()
        )
        groups = {
            "": classes,
            "_things": [row for row in classes if row.is_thing],
            "_stuff": [row for row in classes if not row.is_thing],
        }
        figures = {f"{name}{group}": value for group, rows in groups.items() for name, value in _means(rows)}
        return PanopticEvaluation(self._images, sum(row.segments for row in classes), figures, classes)


def _overlaps(true_ids: Ids, ids: Ids) -> Counter[tuple[int, int]]:
    """The number of pixels of each pair of ids, true and predicted."""
    pairs, pixels = np.unique(true_ids.astype(np.int64) << ID_BITS | ids, return_counts=True)
    columns = (pairs >> ID_BITS).tolist(), (pairs & MAX_ID).tolist()
    return Counter(dict(zip(zip(*columns, strict=True), pixels.tolist(), strict=True)))


def _areas(overlaps: Counter[tuple[int, int]], side: int) -> Counter[int]:
    areas: Counter[int] = Counter()
    for pair, pixels in overlaps.items():
        areas[pair[side]] += pixels
    return areas


def _crowds(segments: Mapping[int, Segment], category_id: int) -> Collection[int]:
    """The crowd of a category, as COCO has at most one in an image; of several the last, as panopticapi."""
    return [k for k, segment in segments.items() if segment == Segment(category_id, is_crowd=True)][-1:]


def _means(rows: Sequence[CategoryQuality]) -> Iterator[tuple[str, float | None]]:
    for name in ("PQ", "SQ", "RQ"):
        values = [getattr(row, name) for row in rows]
        yield name, sum(values) / len(values) if values else None
