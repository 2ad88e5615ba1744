"""`detr-onnx evaluate`: COCO's figures from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from detr_onnx.evaluation.average_precision import FIGURES
from tests.annotated_images import CONTENT, write_annotated_images
from tests.cli.command_line import outcome
from tests.small_model import CONFIG

pytest.importorskip("pycocotools")
pytest.importorskip("onnxruntime")

MEASURED = ("--images", "images", "--annotations", "truth.json")
RESULT = {"image_id": 1, "category_id": 1, "bbox": [10.0, 10.0, 100.0, 100.0], "score": 0.5}


@pytest.fixture
def run(tmp_path, monkeypatch, graph, capsys):
    """Runs `evaluate` on the small graph in a directory with annotated images."""
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_annotated_images(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        model = () if "--results" in arguments else ("-m", graph, "--engine", "onnxruntime")
        return outcome(["evaluate", *model, *arguments], capsys)

    return run


def test_a_table_shows_the_figures_and_every_class(run):
    status, out, err = run(*MEASURED)
    assert (status, err) == (0, "")
    assert "3 images, 1 objects" in out
    assert "AP    IoU 0.50:0.95  all" in out
    assert out.splitlines()[-2].split() == ["class", "objects", "AP", "AP50", "AR_100"]
    assert out.splitlines()[-1].startswith("Traffic light")


def test_json_has_the_same(run, graph):
    status, out, _ = run(*MEASURED, "--format", "json")
    report = json.loads(out)
    assert (status, report["model"], report["images"], report["objects"]) == (0, str(graph), 3, 1)
    assert tuple(report["figures"]) == FIGURES
    assert [row["label"] for row in report["classes"]] == ["Traffic light"]
    assert report["engine"].startswith("onnxruntime ")


def test_saved_results_give_the_same_figures_without_the_model(run):
    _, first, _ = run(*MEASURED, "--save-results", "rows.json", "--format", "json", "--batch", "2")
    assert len(json.loads(Path("rows.json").read_text())) == 3 * CONFIG.queries
    status, second, err = run("--results", "rows.json", "--annotations", "truth.json", "--format", "json")
    assert err == ""
    figures = [json.loads(text)["figures"] for text in (first, second)]
    assert (status, figures[0]) == (0, figures[1])


@pytest.mark.parametrize("options", [
    ("-m", "demo"), ("--engine", "numpy"), ("--batch", "2"), ("--size", "64"), ("--offline",),
    ("--panoptic", "--threshold", "0.3"),
])  # fmt: skip
def test_results_refuse_the_options_of_a_model_that_is_not_run(run, options):
    status, out, err = run("--results", "rows.json", "--annotations", "truth.json", *options)
    option = {"-m": "--model", "--panoptic": "--threshold"}.get(options[0], options[0])
    assert (status, out) == (2, "")
    assert f"--results runs no model: found {option}; leave the options of a model out, or give --images" in err


def test_results_go_with_verbose(run):
    run(*MEASURED, "--save-results", "rows.json")
    assert run("--results", "rows.json", "--annotations", "truth.json", "--verbose")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [(), ("--images", "images"), ("--annotations", "truth.json"), (*MEASURED, "--against", "demo"),
     (*MEASURED, "--results", "rows.json"), (*MEASURED, "--format", "xml")],
)  # fmt: skip
def test_options_that_contradict_each_other_are_wrong_usage(run, arguments):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: detr-onnx")


def test_wrong_options_are_refused_before_anything_is_read(refused):
    assert refused(*MEASURED, "--batch", 0, status=2).startswith("the batch is wrong: found 0")
    assert "found no directory none" in refused(*MEASURED, "--save-results", "none/rows.json")
    assert "found a directory" in refused(*MEASURED, "--save-results", "images")


def test_results_never_replace_what_is_read(run, refused):
    truth = Path("truth.json").read_bytes()
    assert "--save-results would overwrite truth.json" in refused(*MEASURED, "--save-results", "truth.json")
    Path("link.json").symlink_to("truth.json")
    assert "would overwrite link.json" in refused(*MEASURED, "--save-results", "link.json")
    assert Path("truth.json").read_bytes() == truth
    assert "would overwrite images/a.png" in refused(*MEASURED, "--save-results", "images/a.png")
    assert run(*MEASURED, "--save-results", "rows.json")[0] == 0
    assert run(*MEASURED, "--save-results", "rows.json")[0] == 0  # results may replace results


def test_unusable_data_is_one_line(refused):
    assert "without c.png, a.png, b.png" in refused("--images", ".", "--annotations", "truth.json")
    assert refused("--images", "images", "--annotations", "none.json").startswith("none.json cannot be read")
    categories = [{"id": 1, "name": "wolf"}, *CONTENT["categories"][1:]]
    Path("wolves.json").write_text(json.dumps({**CONTENT, "categories": categories}))
    assert "does not know: found 'wolf'" in refused("--images", "images", "--annotations", "wolves.json")
    Path("rows.json").write_text(json.dumps([RESULT]))
    assert "has results of other images" in refused("--results", "rows.json", "--annotations", "truth.json")


def test_an_unreadable_image_is_an_error(refused):
    Path("images/a.png").write_bytes(b"no image")
    assert "a.png" in refused(*MEASURED)


@pytest.mark.parametrize("package", ["pycocotools", "tqdm"])
def test_a_missing_package_is_an_error_that_says_how_to_install_it(refused, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.coco", None)
    assert refused(*MEASURED).endswith("; run pip install 'detr-onnx[eval]'")
