"""Agreement of two models, or of one model on two engines, on the same images. No annotations are needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detr_onnx.boxes import iou
from detr_onnx.detections import Detections

LOOSE_IOU, TIGHT_IOU = 0.5, 0.95


@dataclass(frozen=True)
class Agreement:
    """How far two models agree on some images. Shares are in 0..1, or None where there are no detections.

    Attributes:
        images: number of images.
        reference: number of detections of the reference model.
        tested: number of detections of the tested model.
        recall_50: share of the reference's detections that the tested model has too: a box of the same label with an
            IoU of at least 0.5. Each box is matched at most once.
        recall_95: the same at an IoU of 0.95.
        score_difference: mean absolute difference of the scores of the pairs of `recall_50`.
        identical: share of all detections that both models have; a pair of `recall_50` counts as one detection.
    """

    images: int
    reference: int
    tested: int
    recall_50: float | None
    recall_95: float | None
    score_difference: float | None
    identical: float | None


def agreement(answers: Iterable[tuple[Detections, Detections]]) -> Agreement:
    """Compares the detections of two models.

    Args:
        answers: for each image, the detections of the reference and of the tested model.
    """
    images = reference = tested = 0
    overlaps, differences = [], []
    for expected, actual in answers:
        images, reference, tested = images + 1, reference + len(expected), tested + len(actual)
        for i, j, overlap in pairs(expected, actual):
            overlaps.append(overlap)
            differences.append(abs(float(expected.scores[i]) - float(actual.scores[j])))
    matched = len(overlaps)
    return Agreement(
        images,
        reference,
        tested,
        recall_50=matched / reference if reference else None,
        recall_95=sum(overlap >= TIGHT_IOU for overlap in overlaps) / reference if reference else None,
        score_difference=sum(differences) / matched if matched else None,
        identical=matched / (reference + tested - matched) if reference + tested else None,
    )


def pairs(expected: Detections, actual: Detections) -> list[tuple[int, int, float]]:
    """Matches boxes of the same label with an IoU of at least 0.5, the largest IoU first, each box at most once.

    Returns:
        Index in `expected`, index in `actual` and IoU of each pair.
    """
    overlaps = iou(expected.xyxy, actual.xyxy) * _same_label(expected, actual)  # [n,m]
    matches = []
    while overlaps.size and overlaps.max() >= LOOSE_IOU:
        i, j = map(int, np.unravel_index(overlaps.argmax(), overlaps.shape))
        matches.append((i, j, float(overlaps[i, j])))
        overlaps[i, :] = overlaps[:, j] = 0
    return matches


def _same_label(expected: Detections, actual: Detections) -> NDArray[np.bool_]:
    """[n, m]. Labels are compared by name, since two models may number their classes differently."""
    names = [np.array([d.label for d in detections], object) for detections in (expected, actual)]
    same: NDArray[np.bool_] = names[0][:, None] == names[1]
    return same
