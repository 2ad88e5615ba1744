"""The four output formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detr_onnx.cli.formats import FORMATS, formatter
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


def output(form: str | None, *results: tuple[ImageFile, Detections], one: bool = False) -> str:
    return "".join(formatter(form, one)(results))


@pytest.mark.parametrize(("form", "text"), [("json", "[]\n"), ("ndjson", ""), ("coco", "[]\n"), ("table", "")])
def test_no_images_give_the_empty_output_of_the_format(form, text):
    assert output(form) == text


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("json", '[{"file": "a.jpg", "detections": []}]\n'),
        ("ndjson", '{"file": "a.jpg", "detections": []}\n'),
        ("coco", "[]\n"),
        ("table", "a.jpg: 0 found\n"),
    ],
)
def test_an_image_without_detections_is_shown(form, text):
    assert output(form, (A, NOTHING)) == text
    assert output(form, (A, NOTHING), one=True) == ("[]\n" if form == "json" else text)


@pytest.mark.parametrize("form", [None, "json"])
def test_one_image_gives_the_hosted_apis_json(form):
    assert output(form, (A, NOTHING), one=True) == "[]\n"
    text = output(form, (A, TWO), one=True)
    assert json.loads(text) == TWO.to_api()
    assert text.count("\n") == 1


def test_several_images_give_one_json_object_per_line():
    rows = [json.loads(line) for line in output(None, (A, TWO), (B, NOTHING)).splitlines()]
    assert rows == [{"file": A.name, "detections": TWO.to_api()}, {"file": B.name, "detections": []}]


def test_several_images_can_be_one_json_array():
    assert json.loads(output("json", (A, TWO), (B, NOTHING))) == [
        {"file": A.name, "detections": TWO.to_api()},
        {"file": B.name, "detections": []},
    ]


def test_coco_results_have_the_image_ids():
    assert json.loads(output("coco", (A, TWO), (B, TWO))) == TWO.to_coco(7) + TWO.to_coco(9)


def test_the_table_is_aligned_and_control_characters_are_escaped():
    assert output("table", (A, TWO), (B, NOTHING)) == (
        "a.jpg: 2 found\n"
        "  0.750  bücher\\x1bregal      1     2     3  1234\n"
        "  0.250  cat                  0     1    10    20\n"
        "d\\n/é\\udcff.jpg: 0 found\n"
    )


@pytest.mark.parametrize("form", FORMATS)
def test_each_result_is_printed_before_the_next_image(form):
    def results():
        yield A, TWO
        raise AssertionError("the second image was processed before the first was printed")

    assert next(formatter(form, False)(results()))


@pytest.mark.parametrize("form", ["json", "ndjson", "coco"])
def test_json_is_ascii(form):
    assert output(form, (B, TWO)).isascii()
