"""COCO's names stand at COCO's ids."""

from __future__ import annotations

import pytest

from detr_onnx.labels import COCO_LABELS, listed_labels

GAPS = [0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83]  # ids that COCO numbered and never released


def test_ninety_one_ids_of_which_eighty_have_a_name_of_their_own():
    assert len(COCO_LABELS) == 91
    named = [name for name in COCO_LABELS if name != "N/A"]
    assert len(named) == len(set(named)) == 80


def test_unused_ids_are_those_of_coco():
    assert [i for i, name in enumerate(COCO_LABELS) if name == "N/A"] == GAPS


@pytest.mark.parametrize(
    ("class_id", "name"),
    [(1, "person"), (13, "stop sign"), (17, "cat"), (44, "bottle"), (63, "couch"), (75, "remote"), (90, "toothbrush")],
)
def test_names_are_at_their_coco_ids(class_id, name):
    assert COCO_LABELS[class_id] == name


def test_names_need_no_trimming():
    assert all(name == name.strip() and name.isascii() for name in COCO_LABELS)


def test_a_message_lists_each_label_once_and_of_many_the_first_hundred():
    assert listed_labels(["N/A", "cat", "N/A", "dog", "cat"]) == "cat, dog"
    exact, more = (listed_labels([f"class {i}" for i in range(count)]) for count in (100, 101))
    assert exact.endswith("class 99")
    assert more == f"{exact} …"
