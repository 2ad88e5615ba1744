"""COCO metrics of results with known metrics, and of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detr_onnx import Detector
from detr_onnx.evaluation.average_precision import FIGURES, detect_rows, evaluate
from detr_onnx.evaluation.coco import parse_annotations, read_annotations, read_results
from tests.annotated_images import write_annotated_images
from tests.small_model import CONFIG, LABELS

COCO = pytest.importorskip("pycocotools.coco").COCO
COCOeval = pytest.importorskip("pycocotools.cocoeval").COCOeval
pytest.importorskip("onnxruntime")

CAT, DOG = 1, 2
BOX, ELSEWHERE = [10.0, 10.0, 100.0, 100.0], [200.0, 200.0, 50.0, 50.0]
EXACT = 1e-6  # sums of at most 101 float64
RECALLS = 101  # 0, 0.01, …, 1, at which COCO reads off precision
BATCH_TOLERANCE = 2e-3  # the mask does not hide padding from convolutions: the seeded weights' worst, times three


def truth_of(*objects: tuple[int, int, list[float]]) -> Any:
    """Annotations of two images, 1 and 2, from image id, category id and box of each object."""
    return parse_annotations(
        {
            "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
            "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}],
            "annotations": [{"image_id": i, "category_id": c, "bbox": box} for i, c, box in objects],
        },
        "truth.json",
    )


def row(image_id: int, category: int, box: list[float], score: float) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category, "bbox": box, "score": score}


# Known metrics


def test_perfect_results_score_1_and_sizes_without_objects_have_no_value():
    result = evaluate(truth_of((1, CAT, BOX), (2, DOG, BOX)), [row(1, CAT, BOX, 0.9), row(2, DOG, BOX, 0.6)])
    assert tuple(result.figures) == FIGURES
    expected = {name: None if name.endswith(("small", "medium")) else 1.0 for name in FIGURES}  # 100x100 is large
    assert result.figures == pytest.approx(expected, abs=EXACT)
    assert (result.images, result.objects, result.recall_at_half, result.false_at_half) == (2, 2, 1.0, 0.0)


def test_no_results_score_0():
    result = evaluate(truth_of((1, CAT, BOX)), [])
    assert (result.figures["AP"], result.figures["AR_100"], result.recall_at_half, result.false_at_half) == (0, 0, 0, 0)


def test_half_of_the_objects_gives_half_of_the_recall_range():
    result = evaluate(truth_of((1, CAT, BOX), (2, CAT, BOX)), [row(1, CAT, BOX, 0.9)])
    assert result.figures["AP"] == pytest.approx(51 / RECALLS, abs=EXACT)
    assert result.figures["AR_100"] == pytest.approx(0.5, abs=EXACT)


def test_a_false_detection_matters_only_above_the_true_one():
    rows = [row(1, CAT, ELSEWHERE, 0.8), row(1, CAT, BOX, 0.6)]
    assert evaluate(truth_of((1, CAT, BOX)), rows).figures["AP"] == pytest.approx(0.5, abs=EXACT)
    rows[0]["score"] = 0.4
    assert evaluate(truth_of((1, CAT, BOX)), rows).figures["AP"] == pytest.approx(1.0, abs=EXACT)


IMPOSSIBLE = (
    [10, 10, 0, 20],
    [-50, 10, 20, 20],
    [700, 10, 20, 20],  # the image is 640 pixels wide
    [0, 0, 2e5, 10],
    [10, 10, -5, 20],
    [110, 110, -100, -100],
    [0, 0, 1e9, 1e9],
    [-1e299, 0, 1e299, 1e299],
)


def by_pycocotools(truth: Path, rows: Path) -> list[float | None]:
    """The figures that pycocotools computes from the two files by itself."""
    annotations = COCO(str(truth))
    coco_eval = COCOeval(annotations, annotations.loadRes(str(rows)), "bbox")
    coco_eval.evaluate()
    coco_eval.accumulate()
    coco_eval.summarize()
    return [None if value < 0 else value for value in coco_eval.stats]


@pytest.mark.parametrize("impossible", IMPOSSIBLE, ids=str)
@pytest.mark.parametrize("of", ["annotations", "results", "both", "everything"])
def test_impossible_boxes_count_as_in_pycocotools(impossible, of, tmp_path):
    boxes = {"annotations": ([impossible], []), "results": ([], [impossible])}.get(of, ([impossible], [impossible]))
    possible = [] if of == "everything" else [BOX]
    objects = [
        {"id": number, "image_id": 1, "category_id": CAT, "bbox": box, "area": 400, "iscrowd": 0}
        for number, box in enumerate([*boxes[0], *possible], start=1)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 640, "height": 480}],
        "categories": [{"id": CAT, "name": "cat"}],
        "annotations": objects,
    }
    results = [row(1, CAT, box, 0.9) for box in boxes[1]] + [row(1, CAT, box, 0.5) for box in possible]
    results = results or [row(1, CAT, BOX, 0.5)]
    for name, value in (("truth.json", content), ("rows.json", results)):
        (tmp_path / name).write_text(json.dumps(value))
    truth = read_annotations(tmp_path / "truth.json")
    found = evaluate(truth, read_results(tmp_path / "rows.json", truth)).figures
    assert [*found.values()] == by_pycocotools(tmp_path / "truth.json", tmp_path / "rows.json")


@pytest.mark.parametrize("impossible", IMPOSSIBLE, ids=str)
def test_an_impossible_box_of_the_annotations_is_missed_also_without_an_area(impossible):
    result = evaluate(truth_of((1, CAT, BOX), (1, CAT, impossible)), [row(1, CAT, BOX, 0.5)])
    assert (result.objects, result.classes[0].objects) == (2, 2)
    assert result.figures["AR_100"] == pytest.approx(0.5, abs=EXACT)


def test_each_class_has_its_own_metrics_and_ap_is_their_mean():
    truth = truth_of((1, CAT, BOX), (1, CAT, ELSEWHERE), (2, DOG, BOX))
    result = evaluate(truth, [row(1, CAT, BOX, 0.9), row(1, CAT, ELSEWHERE, 0.8)])
    assert [(row.id, row.label, row.objects) for row in result.classes] == [(CAT, "cat", 2), (DOG, "dog", 1)]
    assert [(row.AP, row.AP50) for row in result.classes] == [pytest.approx((1, 1)), (0, 0)]
    assert result.figures["AP"] == pytest.approx(0.5, abs=EXACT)


def test_recall_and_false_detections_at_a_threshold_of_a_half():
    rows = [row(1, CAT, BOX, 0.9), row(1, CAT, ELSEWHERE, 0.7), row(2, CAT, BOX, 0.5), row(2, CAT, ELSEWHERE, 0.2)]
    result = evaluate(truth_of((1, CAT, BOX), (2, CAT, BOX)), rows)  # a score of 0.5 is not above it
    assert (result.recall_at_half, result.false_at_half) == (0.5, 0.5)


def test_a_crowd_counts_neither_as_an_object_nor_as_a_false_detection():
    truth = truth_of((1, CAT, BOX), (1, CAT, ELSEWHERE))
    truth.objects[1]["iscrowd"] = 1
    result = evaluate(truth, [row(1, CAT, BOX, 0.9), row(1, CAT, ELSEWHERE, 0.8)])
    assert (result.objects, result.classes[0].objects, result.recall_at_half, result.false_at_half) == (1, 1, 1.0, 0.0)
    assert result.figures["AP"] == pytest.approx(1.0, abs=EXACT)


def test_pycocotools_prints_nothing_to_stdout(capsys):
    evaluate(truth_of((1, CAT, BOX)), [row(1, CAT, BOX, 0.9)])
    assert capsys.readouterr() == ("", "")


# A model


@pytest.fixture
def album(tmp_path, monkeypatch) -> Path:
    """The working directory, with annotated images."""
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_annotated_images(tmp_path)
    return tmp_path


def test_every_query_of_every_image_is_a_row_with_the_ids_of_the_annotations(album, graph):
    truth, detector = read_annotations(album / "truth.json"), Detector(graph, engine="onnxruntime")
    rows = detect_rows(detector, truth, truth.images(album / "images"))
    assert [row["image_id"] for row in rows[:: CONFIG.queries]] == [30, 10, 20]
    assert len(rows) == 3 * CONFIG.queries
    (alone,) = [detector("images/a.png", 0.0).to_coco(10)]
    number = {"traffic light": 1, "salt, pepper": 2}
    expected = [number.get(LABELS[one["category_id"]], one["category_id"]) for one in alone]
    assert [(row["category_id"], row["score"]) for row in rows if row["image_id"] == 10] == [
        (category, one["score"]) for category, one in zip(expected, alone, strict=True)
    ]


def test_a_batch_gives_the_same_rows(album, graph):
    truth, detector = read_annotations(album / "truth.json"), Detector(graph, engine="onnxruntime")
    alone, together = (detect_rows(detector, truth, truth.images(album / "images"), batch_size=size) for size in (1, 2))
    assert [row["image_id"] for row in together] == [row["image_id"] for row in alone]
    assert [row["score"] for row in together] == pytest.approx([row["score"] for row in alone], abs=BATCH_TOLERANCE)


def test_progress_is_shown_image_by_image(album, graph):
    truth, seen = read_annotations(album / "truth.json"), []

    def progress(paths):
        for path in paths:
            seen.append(path.name)
            yield path

    detect_rows(Detector(graph, engine="onnxruntime"), truth, truth.images(album / "images"), progress=progress)
    assert seen == ["c.png", "a.png", "b.png"]
