"""How far two answers agree: boxes of one label that overlap, each counted once."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.detections import Detections
from detr_onnx.evaluation.agreement import Agreement, agreement, pairs

LABELS = ("cat", "dog")
FLOAT32 = 1e-6  # the scores are float32

Thing = tuple[str, float, tuple[float, float, float, float]]

CAT: Thing = ("cat", 0.9, (0, 0, 100, 100))
DOG: Thing = ("dog", 0.8, (200, 0, 300, 100))


def seen(*things: Thing, labels: tuple[str, ...] = LABELS) -> Detections:
    return Detections(
        np.array([score for _, score, _ in things], np.float32),
        np.array([labels.index(label) for label, _, _ in things], np.int64),
        np.array([box for _, _, box in things], np.float32).reshape(-1, 4),
        labels,
    )


def moved(thing: Thing, by_px: float, score: float | None = None) -> Thing:
    label, own_score, (xmin, ymin, xmax, ymax) = thing
    return label, own_score if score is None else score, (xmin + by_px, ymin, xmax + by_px, ymax)


def test_no_images_and_nothing_found_have_no_shares():
    assert agreement([]) == Agreement(0, 0, 0, None, None, None, None)
    assert agreement([(seen(), seen())]) == Agreement(1, 0, 0, None, None, None, None)


def test_one_answer_agrees_with_itself():
    assert agreement([(seen(CAT, DOG), seen(DOG, CAT))]) == Agreement(1, 2, 2, 1.0, 1.0, 0.0, 1.0)


def test_what_only_the_tested_model_finds_costs_no_recall_but_is_not_identical():
    found = agreement([(seen(CAT), seen(CAT, DOG))])
    assert (found.recall_50, found.recall_95, found.identical) == (1.0, 1.0, 0.5)


def test_what_only_the_reference_finds_costs_both():
    found = agreement([(seen(CAT, DOG), seen(CAT)), (seen(), seen())])
    assert (found.images, found.recall_50, found.recall_95, found.identical) == (2, 0.5, 0.5, 0.5)


def test_nothing_of_the_reference_and_something_of_the_model_is_no_agreement():
    assert agreement([(seen(), seen(CAT))]) == Agreement(1, 0, 1, None, None, None, 0.0)


@pytest.mark.parametrize(
    ("by_px", "recalls"),
    [(2, (1.0, 1.0)), (3, (1.0, 0.0)), (33, (1.0, 0.0)), (34, (0.0, 0.0))],  # IoU 98/102, 97/103, 67/133, 66/134
)
def test_a_box_is_found_by_how_much_it_overlaps(by_px, recalls):
    found = agreement([(seen(CAT), seen(moved(CAT, by_px)))])
    assert (found.recall_50, found.recall_95) == recalls


def test_scores_differ_by_their_mean_distance():
    found = agreement([(seen(CAT, DOG), seen(moved(CAT, 0, 0.8), moved(DOG, 0, 0.84)))])
    assert found.score_difference == pytest.approx(0.07, abs=FLOAT32)


def test_a_box_of_another_label_is_another_thing():
    assert pairs(seen(CAT), seen(("dog", *CAT[1:]))) == []


def test_labels_are_compared_by_name_whatever_their_numbers():
    assert pairs(seen(CAT), seen(CAT, labels=("N/A", "dog", "cat"))) == [(0, 0, 1.0)]


def test_no_box_is_found_twice_and_the_nearest_pair_comes_first():
    assert [pair[:2] for pair in pairs(seen(CAT, moved(CAT, 10)), seen(moved(CAT, 9)))] == [(1, 0)]
    assert [pair[:2] for pair in pairs(seen(moved(CAT, 9)), seen(CAT, moved(CAT, 10)))] == [(0, 1)]
