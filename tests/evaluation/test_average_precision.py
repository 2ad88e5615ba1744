"""COCO metrics: of results with known metrics, of a model, and on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from detr_onnx import Detector
from detr_onnx.evaluation.average_precision import FIGURES, detect_rows, evaluate
from detr_onnx.evaluation.coco import parse_annotations, read_annotations
from tests.cli.command_line import complaint, outcome
from tests.small_model import CONFIG, LABELS, sample_image

pytest.importorskip("pycocotools")
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


def test_each_class_has_its_own_metrics_and_ap_is_their_mean():
    result = evaluate(truth_of((1, CAT, BOX), (2, DOG, BOX)), [row(1, CAT, BOX, 0.9)])
    assert [(row.id, row.label, row.objects) for row in result.classes] == [(CAT, "cat", 1), (DOG, "dog", 1)]
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
    """A directory to stand in: images and their annotations, in which category ids are not the model's."""
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for seed, (name, size) in enumerate([("a.png", (64, 48)), ("b.png", (90, 40)), ("c.png", (64, 48))]):
        sample_image(*size, seed).save(f"images/{name}")
    content = {
        "images": [{"id": n, "file_name": f"{name}.png"} for n, name in ((30, "c"), (10, "a"), (20, "b"))],
        "categories": [{"id": 1, "name": "Traffic light"}, {"id": 2, "name": "salt, pepper"}],  # what it does find
        "annotations": [{"image_id": 10, "category_id": 1, "bbox": [0, 0, 30, 30]}],
    }
    Path("truth.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def run(album, graph, capsys):
    """Runs `evaluate` on the small graph; its exit status, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        return outcome(["evaluate", "-m", graph, "--engine", "onnxruntime", *arguments], capsys)

    return run


@pytest.fixture
def refused(run):
    """The one line that a command line ends with."""

    def refused(*arguments: object, status: int = 1) -> str:
        return complaint(run(*arguments), status)

    return refused


MEASURED = ("--images", "images", "--annotations", "truth.json")


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


# The command line


def test_a_table_shows_the_figures_and_every_class(run):
    status, out, err = run(*MEASURED)
    assert (status, err) == (0, "")
    assert "3 images, 1 objects" in out
    assert "AP    IoU 0.50:0.95  all" in out
    assert out.splitlines()[-2].split() == ["class", "objects", "AP", "AP50", "AR_100"]
    assert out.splitlines()[-1].startswith("Traffic light")


def test_json_has_the_same(run, graph):
    status, out, _ = run(*MEASURED, "--format", "json")
    found = json.loads(out)
    assert (status, found["model"], found["images"], found["objects"]) == (0, str(graph), 3, 1)
    assert tuple(found["figures"]) == FIGURES
    assert [one["label"] for one in found["classes"]] == ["Traffic light"]
    assert found["engine"].startswith("onnxruntime ")


def test_saved_results_are_measured_the_same_without_the_model(run):
    _, first, _ = run(*MEASURED, "--save-results", "rows.json", "--format", "json", "--batch", "2")
    assert len(json.loads(Path("rows.json").read_text())) == 3 * CONFIG.queries
    status, second, err = run("--results", "rows.json", "--annotations", "truth.json", "--format", "json")
    assert err == ""
    figures = [json.loads(text)["figures"] for text in (first, second)]
    assert (status, figures[0]) == (0, figures[1])


def test_a_model_agrees_with_itself_on_another_engine(run, small):
    status, out, err = run(
        "--images", "images", "--against", small, "--against-engine", "numpy", "--threshold", 0.1, "--format", "json"
    )
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert (found["images"], found["reference"]) == (3, found["tested"])
    assert found["reference"] > 0
    assert (found["recall_50"], found["recall_95"], found["identical"]) == (1.0, 1.0, 1.0)
    assert found["reference_engine"].startswith("numpy")
    assert found["engine"].startswith("onnxruntime")


def test_agreement_has_a_table_too_with_a_dash_for_nothing(run, graph):
    status, out, _ = run("--images", "images", "--against", graph, "--threshold", 1)
    assert status == 0
    assert "identical detections, IoU 0.5" in out
    assert out.splitlines()[-1].split()[-1] == "-"


@pytest.mark.parametrize(
    "arguments",
    [(), ("--images", "images"), ("--annotations", "truth.json"), (*MEASURED, "--against", "demo"),
     (*MEASURED, "--results", "rows.json"), (*MEASURED, "--format", "xml")],
)  # fmt: skip
def test_options_that_do_not_go_together_are_wrong_usage(run, arguments):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: detr-onnx evaluate")


def test_wrong_options_are_told_before_anything_is_read(refused):
    assert refused(*MEASURED, "--against-engine", "numpy", status=2).startswith("--against-engine can be used only")
    compared = ("--images", "none", "--against", "demo")
    assert refused(*compared, "--save-results", "x", status=2).startswith("--save-results can be used only with --ann")
    assert refused(*MEASURED, "--batch", 0, status=2).startswith("the batch is wrong: found 0")
    assert refused(*compared, "--threshold", 7, status=2).startswith("the threshold is out of range")
    assert "found no directory none" in refused(*MEASURED, "--save-results", "none/rows.json")
    assert "found a directory" in refused(*MEASURED, "--save-results", "images")


def test_bad_data_is_told_in_one_line(refused):
    assert "no such file" in refused("--images", "none", "--against", "demo")
    assert "without c.png, a.png, b.png" in refused("--images", ".", "--annotations", "truth.json")
    assert refused("--images", "images", "--annotations", "none.json").startswith("cannot read none.json")
    content = json.loads(Path("truth.json").read_text())
    content["categories"][0]["name"] = "wolf"
    Path("wolves.json").write_text(json.dumps(content))
    assert "does not know: found 'wolf'" in refused("--images", "images", "--annotations", "wolves.json")
    Path("rows.json").write_text(json.dumps([row(1, 1, BOX, 0.5)]))
    assert "has results of other images" in refused("--results", "rows.json", "--annotations", "truth.json")


def test_an_image_that_cannot_be_read_ends_it(refused):
    Path("images/a.png").write_bytes(b"no image")
    assert "a.png" in refused(*MEASURED)
    assert "a.png" in refused("--images", "images", "--against", "demo")


@pytest.mark.parametrize("package", ["pycocotools", "tqdm"])
def test_a_missing_package_is_told_with_the_line_that_installs_it(refused, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.coco", None)
    assert refused(*MEASURED).endswith("; run pip install 'detr-onnx[eval]'")
