"""Evaluations and agreements as text with aligned columns, and as JSON."""

from __future__ import annotations

import json

from detr_onnx.evaluation.agreement import Agreement
from detr_onnx.evaluation.average_precision import FIGURES, ClassFigures, Evaluation
from detr_onnx.evaluation.report import format_agreement, format_evaluation, format_json

EVALUATION = Evaluation(
    5,
    12,
    dict.fromkeys(FIGURES, 0.25) | {"AP_small": None},
    0.75,
    1.5,
    (ClassFigures(1, "person", 10, 0.125, 0.5, 0.25), ClassFigures(7, "a\x1b[31m cat", 2, 0.375, 0.75, 0.5)),
)


def test_the_twelve_metrics_are_one_column():
    lines = format_evaluation({"model": "demo"}, EVALUATION).splitlines()
    assert lines[:3] == ["model: demo", "5 images, 12 objects", ""]
    numbers = lines[3:17]
    assert {line.rindex(" ") for line in numbers if line[-1] != "-"} == {31}
    assert {len(line) for line in numbers} == {38}
    assert numbers[3].split() == ["AP", "IoU", "0.50:0.95", "small", "-"]
    assert [line.split()[-1] for line in numbers[-2:]] == ["0.7500", "1.5000"]


def test_classes_are_sorted_by_ap_and_control_characters_are_escaped():
    assert format_evaluation({}, EVALUATION).splitlines()[-3:] == [
        "class          objects      AP    AP50  AR_100",
        "a\\x1b[31m cat        2  0.3750  0.7500  0.5000",
        "person              10  0.1250  0.5000  0.2500",
    ]


def test_agreement_has_five_digits_since_it_should_be_near_1():
    text = format_agreement({"model": "a", "reference_engine": "b"}, Agreement(3, 9, 8, 0.98765, None, 0.00012, 1.0))
    assert text.splitlines()[:3] == [
        "model: a",
        "reference engine: b",
        "3 images, 9 detections of the reference, 8 of the model",
    ]
    assert [line.split()[-1] for line in text.splitlines()[4:]] == ["0.98765", "-", "1.00000", "0.00012"]


def test_json_has_every_attribute_under_its_name():
    found = json.loads(format_json({"model": "demo"}, EVALUATION))
    assert list(found) == ["model", "images", "objects", "figures", "recall_at_half", "false_at_half", "classes"]
    assert found["figures"]["AP_small"] is None
    assert found["classes"][0] == {
        "id": 1, "label": "person", "objects": 10, "AP": 0.125, "AP50": 0.5, "AR_100": 0.25
    }  # fmt: skip
