"""The comparison of an emulated processor's answers notices what it should."""

from __future__ import annotations

import pytest

from tests.arm64.compare import BOX_PX, ROUNDED_BOX_PX, SCORES, report


def detection(label="dog", score=0.9, xmin=10):
    return {"score": score, "label": label, "box": {"xmin": xmin, "ymin": 10, "xmax": 90, "ymax": 90}}


HOST = {"onnxruntime": [detection(), detection("cat", 0.8)], "numpy": [detection()]}


def agrees(name: str, *answers: dict, **others: list[dict]) -> bool:
    lines, all_pass = report(HOST, {name: list(answers), **others}, [name])
    assert len(lines) == 1
    return all_pass


def test_nothing_is_not_an_agreement():
    assert not agrees("numpy")
    assert report(HOST, {}, ["numpy"]) == (["DIFFERS numpy: no answer"], False)
    assert not report({"numpy": []}, {"numpy": []}, ["numpy"])[1]


def test_the_same_answer_agrees_in_any_order():
    assert agrees("onnxruntime", detection("cat", 0.8), detection())


@pytest.mark.parametrize(
    "other",
    [
        detection("cat"),
        detection(score=0.9 + 2 * SCORES),
        detection(xmin=10 + BOX_PX + 1),
    ],
)
def test_another_label_score_or_box_does_not(other):
    assert agrees("numpy", detection(score=0.9 + SCORES / 2, xmin=10 + BOX_PX))
    assert not agrees("numpy", other)


def test_a_missing_or_an_additional_detection_does_not():
    assert not agrees("onnxruntime", detection())
    assert not agrees("numpy", detection(), detection())


def test_a_rounded_precision_may_differ_more_and_must_differ():
    rounded = [detection(score=0.91, xmin=10 + ROUNDED_BOX_PX), detection("cat", 0.8)]
    assert agrees("bf16", *rounded, onnxruntime=HOST["onnxruntime"])
    assert not agrees("bf16", *HOST["onnxruntime"], onnxruntime=HOST["onnxruntime"])
    assert not agrees("int8", detection(score=0.8), detection("cat", 0.9), onnxruntime=HOST["onnxruntime"])
