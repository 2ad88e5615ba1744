"""Annotations and results of other people: absurd rows are named or counted, never a crash."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from detr_onnx.errors import DatasetError
from detr_onnx.evaluation.average_precision import evaluate
from detr_onnx.evaluation.coco import parse_annotations, read_annotations, read_results
from tests.attacks.test_json import TRUTH

HUGE = (1e308, -1e308, 10**90, float("nan"), float("inf"), -0.0, True, None, "1", [], {})


def changed(table: str, **fields: Any) -> dict[str, Any]:
    """The annotations with changes in the first row of a table."""
    truth = copy.deepcopy(TRUTH)
    truth[table][0].update(fields)
    return truth


def outcome(read: Callable[[], Any]) -> str:
    """Whether the content is read, or refused in a short sentence."""
    try:
        read()
    except DatasetError as error:
        return "refused" if len(str(error)) < 1500 else "refused at length"
    return "read"


@pytest.mark.parametrize("value", HUGE, ids=repr)
@pytest.mark.parametrize(
    ("table", "field"),
    [("images", "id"), ("images", "width"), ("images", "file_name"), ("categories", "id"), ("categories", "name"),
     ("annotations", "image_id"), ("annotations", "category_id"), ("annotations", "area"), ("annotations", "iscrowd"),
     ("annotations", "bbox"), ("annotations", "id")],
)  # fmt: skip
def test_an_absurd_value_is_read_or_named(table, field, value):
    content = changed(table, **{field: value})
    assert outcome(lambda: parse_annotations(content, "truth.json").category_of(["cat"])) in ("read", "refused")


@pytest.mark.parametrize("value", [value for value in HUGE if value not in (10**90, 0)], ids=repr)
@pytest.mark.parametrize("side", range(4))
def test_an_absurd_side_of_a_box_is_refused(side, value):
    bbox = [1.0, 1.0, 2.0, 2.0]
    bbox[side] = value
    assert outcome(lambda: parse_annotations(changed("annotations", bbox=bbox), "truth.json")) == "refused"


@pytest.mark.parametrize("side", range(4))
def test_pycocotools_takes_a_huge_side_of_a_box(side):
    pytest.importorskip("pycocotools")
    bbox = [1, 1, 2, 2]
    bbox[side] = 10**90
    truth = parse_annotations(changed("annotations", bbox=bbox), "truth.json")
    result = {"image_id": 1, "category_id": 1, "bbox": bbox, "score": 0.5}
    assert evaluate(truth, [result]).objects == len(truth.objects)


@pytest.mark.parametrize("value", HUGE, ids=repr)
@pytest.mark.parametrize("field", ["image_id", "category_id", "score", "bbox"])
def test_an_absurd_value_of_a_result_is_read_or_named(field, value, tmp_path):
    row = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 0.5}
    (tmp_path / "results.json").write_text(json.dumps([row, {**row, field: value}]))
    truth = parse_annotations(TRUTH, "truth.json")
    assert outcome(lambda: read_results(tmp_path / "results.json", truth)) in ("read", "refused")


def test_a_million_wrong_rows_are_counted_in_a_short_sentence(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps({**TRUTH, "annotations": [{}] * 300_000}))
    with pytest.raises(DatasetError) as refusal:
        read_annotations(tmp_path / "truth.json")
    assert len(str(refusal.value)) < 1500
