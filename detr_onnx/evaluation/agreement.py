"""How far two models, or one model on two engines, say the same of the same images; no annotations are needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detr_onnx.detections import Detections, iou

LOOSE_IOU, TIGHT_IOU = 0.5, 0.95


@dataclass(frozen=True)
class Agreement:
    """What two models agree on over some images; shares are None where there is nothing to share.

    Attributes:
        images: how many there were.
        reference, tested: detections of either model.
        recall_50, recall_95: share of the reference's boxes that the tested model has too: a box of the same label
            with an IoU of at least 0.5 or 0.95, each box counting once.
        score_difference: mean of the differences of scores, without sign, over the boxes of `recall_50`.
        identical: share of all detections, a pair of `recall_50` counting as one, that both models have.
    """

    images: int
    reference: int
    tested: int
    recall_50: float | None
    recall_95: float | None
    score_difference: float | None
    identical: float | None


def agreement(answers: Iterable[tuple[Detections, Detections]]) -> Agreement:
    """Compares, image by image, what the reference found with what the tested model found."""
    images = reference = tested = 0
    overlaps, differences = [], []
    for expected, found in answers:
        images, reference, tested = images + 1, reference + len(expected), tested + len(found)
        for i, j, overlap in pairs(expected, found):
            overlaps.append(overlap)
            differences.append(abs(float(expected.scores[i]) - float(found.scores[j])))
    both = len(overlaps)
    return Agreement(
        images,
        reference,
        tested,
        recall_50=both / reference if reference else None,
        recall_95=sum(overlap >= TIGHT_IOU for overlap in overlaps) / reference if reference else None,
        score_difference=sum(differences) / both if both else None,
        identical=both / (reference + tested - both) if reference + tested else None,
    )


def pairs(expected: Detections, found: Detections) -> list[tuple[int, int, float]]:
    """Position in `expected`, position in `found` and IoU of boxes of one label that overlap by at least 0.5.

    The pair that overlaps most is taken first, and no box twice.
    """
    overlaps = iou(expected.xyxy, found.xyxy) * _same_label(expected, found)  # [n,m]
    taken = []
    while overlaps.size and overlaps.max() >= LOOSE_IOU:
        i, j = map(int, np.unravel_index(overlaps.argmax(), overlaps.shape))
        taken.append((i, j, float(overlaps[i, j])))
        overlaps[i, :] = overlaps[:, j] = 0
    return taken


def _same_label(expected: Detections, found: Detections) -> NDArray[np.bool_]:
    """[n, m]: labels are compared by name, since two models may number their classes differently."""
    names = [np.array([d.label for d in some], object) for some in (expected, found)]
    same: NDArray[np.bool_] = names[0][:, None] == names[1]
    return same
