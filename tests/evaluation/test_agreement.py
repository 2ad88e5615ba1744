"""Agreement counts overlapping boxes of the same label, each at most once."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.detections import Detections
from detr_onnx.evaluation.agreement import Agreement, agreement, pairs

LABELS = ("cat", "dog")
FLOAT32 = 1e-6  # the scores are float32

Example = tuple[str, float, tuple[float, float, float, float]]

CAT: Example = ("cat", 0.9, (0, 0, 100, 100))
DOG: Example = ("dog", 0.8, (200, 0, 300, 100))


def detections(*examples: Example, labels: tuple[str, ...] = LABELS) -> Detections:
    return Detections(
        np.array([score for _, score, _ in examples], np.float32),
        np.array([labels.index(label) for label, _, _ in examples], np.int64),
        np.array([box for _, _, box in examples], np.float32).reshape(-1, 4),
        labels,
    )


def moved(example: Example, by_px: float, score: float | None = None) -> Example:
    label, own_score, (xmin, ymin, xmax, ymax) = example
    return label, own_score if score is None else score, (xmin + by_px, ymin, xmax + by_px, ymax)


def test_without_images_or_detections_there_are_no_shares():
    assert agreement([]) == Agreement(0, 0, 0, None, None, None, None)
    assert agreement([(detections(), detections())]) == Agreement(1, 0, 0, None, None, None, None)


def test_detections_agree_with_themselves():
    assert agreement([(detections(CAT, DOG), detections(DOG, CAT))]) == Agreement(1, 2, 2, 1.0, 1.0, 0.0, 1.0)


def test_a_detection_of_only_the_tested_model_lowers_identical_but_not_recall():
    result = agreement([(detections(CAT), detections(CAT, DOG))])
    assert (result.recall_50, result.recall_95, result.identical) == (1.0, 1.0, 0.5)


def test_a_detection_of_only_the_reference_lowers_recall_and_identical():
    result = agreement([(detections(CAT, DOG), detections(CAT)), (detections(), detections())])
    assert (result.images, result.recall_50, result.recall_95, result.identical) == (2, 0.5, 0.5, 0.5)


def test_detections_of_only_the_tested_model_are_no_agreement():
    assert agreement([(detections(), detections(CAT))]) == Agreement(1, 0, 1, None, None, None, 0.0)


@pytest.mark.parametrize(
    ("by_px", "recalls"),
    [(2, (1.0, 1.0)), (3, (1.0, 0.0)), (33, (1.0, 0.0)), (34, (0.0, 0.0))],  # IoU 98/102, 97/103, 67/133, 66/134
)
def test_recall_depends_on_the_overlap(by_px, recalls):
    result = agreement([(detections(CAT), detections(moved(CAT, by_px)))])
    assert (result.recall_50, result.recall_95) == recalls


def test_the_score_difference_is_the_mean_absolute_difference():
    result = agreement([(detections(CAT, DOG), detections(moved(CAT, 0, 0.8), moved(DOG, 0, 0.84)))])
    assert result.score_difference == pytest.approx(0.07, abs=FLOAT32)


def test_boxes_of_different_labels_do_not_match():
    assert pairs(detections(CAT), detections(("dog", *CAT[1:]))) == []


def test_labels_are_compared_by_name_not_by_class_id():
    assert pairs(detections(CAT), detections(CAT, labels=("N/A", "dog", "cat"))) == [(0, 0, 1.0)]


def test_each_box_matches_once_and_the_best_pair_first():
    assert [pair[:2] for pair in pairs(detections(CAT, moved(CAT, 10)), detections(moved(CAT, 9)))] == [(1, 0)]
    assert [pair[:2] for pair in pairs(detections(moved(CAT, 9)), detections(CAT, moved(CAT, 10)))] == [(0, 1)]
