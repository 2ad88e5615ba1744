"""The four forms of an answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detr_onnx.cli.formats import FORMATS, writer
from detr_onnx.detections import Detections
from detr_onnx.image.files import ImageFile

LABELS = ("cat", "bücher\x1bregal")
NOTHING = Detections(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32), LABELS)
TWO = Detections(
    np.array([0.25, 0.75], np.float32),
    np.array([0, 1]),
    np.array([[-0.4, 0.6, 10, 20.5], [1, 2, 3, 1234.5]], np.float32),
    LABELS,
)
A, B = ImageFile("a.jpg", Path("a.jpg"), 7), ImageFile("d\n/é\udcff.jpg", Path("b.jpg"), 9)


def answer(form: str | None, *found: tuple[ImageFile, Detections], one: bool = False) -> str:
    return "".join(writer(form, one)(found))


@pytest.mark.parametrize(("form", "text"), [("json", "[]\n"), ("ndjson", ""), ("coco", "[]\n"), ("table", "")])
def test_no_images_are_still_an_answer_of_the_form(form, text):
    assert answer(form) == text


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("json", '[{"file": "a.jpg", "detections": []}]\n'),
        ("ndjson", '{"file": "a.jpg", "detections": []}\n'),
        ("coco", "[]\n"),
        ("table", "a.jpg: 0 found\n"),
    ],
)
def test_an_image_without_detections_is_an_answer_too(form, text):
    assert answer(form, (A, NOTHING)) == text


@pytest.mark.parametrize("form", [None, "json"])
def test_one_image_is_answered_as_the_api_does(form):
    assert answer(form, (A, NOTHING), one=True) == "[]\n"
    text = answer(form, (A, TWO), one=True)
    assert json.loads(text) == TWO.to_api()
    assert text.count("\n") == 1


def test_several_images_are_objects_a_line():
    rows = [json.loads(line) for line in answer(None, (A, TWO), (B, NOTHING)).splitlines()]
    assert rows == [{"file": A.name, "detections": TWO.to_api()}, {"file": B.name, "detections": []}]


def test_several_images_can_be_one_array():
    assert json.loads(answer("json", (A, TWO), (B, NOTHING))) == [
        {"file": A.name, "detections": TWO.to_api()},
        {"file": B.name, "detections": []},
    ]


def test_results_of_coco_are_rows_with_the_images_number():
    assert json.loads(answer("coco", (A, TWO), (B, TWO))) == TWO.to_coco(7) + TWO.to_coco(9)


def test_the_table_is_aligned_and_cannot_steer_the_terminal():
    assert answer("table", (A, TWO), (B, NOTHING)) == (
        "a.jpg: 2 found\n"
        "  0.750  bücher\\x1bregal      1     2     3  1234\n"
        "  0.250  cat                  0     1    10    20\n"
        "d\\n/é\\udcff.jpg: 0 found\n"
    )


@pytest.mark.parametrize("form", FORMATS)
def test_results_come_as_soon_as_they_are_there(form):
    def found():
        yield A, TWO
        raise AssertionError("the second image is looked at before the first is told")

    assert next(writer(form, False)(found()))


@pytest.mark.parametrize("form", ["json", "ndjson", "coco"])
def test_json_is_ascii_so_that_any_encoding_can_carry_it(form):
    assert answer(form, (B, TWO)).isascii()
