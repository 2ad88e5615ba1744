"""`detr-onnx agree`: two models, engines or precisions compared from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.annotated_images import write_annotated_images
from tests.cli.command_line import outcome

pytest.importorskip("onnxruntime")
pytest.importorskip("tqdm")


@pytest.fixture
def run(tmp_path, monkeypatch, graph, capsys):
    """Runs `agree` for the small graph, in a directory with three images."""
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_annotated_images(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        return outcome(["agree", "-m", graph, "--engine", "onnxruntime", *arguments], capsys)

    return run


def test_a_model_agrees_with_itself_on_another_engine(run, small):
    options = ("--reference", small, "--reference-engine", "numpy", "--threshold", 0.1, "--format", "json")
    status, out, err = run("--images", "images", *options)
    report = json.loads(out)
    assert (status, err) == (0, "")
    assert (report["images"], report["reference"]) == (3, report["tested"])
    assert report["reference"] > 0
    assert (report["recall_50"], report["recall_95"], report["identical"]) == (1.0, 1.0, 1.0)
    assert report["reference_engine"].startswith("numpy")
    assert report["engine"].startswith("onnxruntime")


def test_the_reference_can_have_another_precision(run, small, monkeypatch):
    from detr_onnx.cli import agree

    opened = []
    monkeypatch.setattr(agree, "open_detector", lambda arguments: opened.append(vars(arguments)) or Nothing())
    run("--images", "images", "--reference", small, "--reference-precision", "fp16", "--precision", "fp32")
    run("--images", "images", "--reference", small, "--reference-engine", "numpy", "--threads", 2)
    assert [(one["precision"], one["engine"], one["threads"]) for one in opened] == [
        ("fp16", "onnxruntime", None),
        ("fp32", "onnxruntime", None),
        (None, "numpy", None),
        (None, "onnxruntime", 2),
    ]


class Nothing:
    """A detector that detects nothing."""

    runtime = "none"

    def batch(self, images, threshold, batch_size):
        return []


def test_a_model_that_cannot_be_opened_costs_no_detection(refused, small, no_detection, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    for missing, options in (("gone.onnx", ()), ("broken.onnx", ())):
        compared = ("--images", "images", "--reference", small, "-m", missing, *options)
        assert missing in refused(*compared)


def test_the_table_has_a_dash_for_figures_without_detections(run, graph):
    status, out, _ = run("--images", "images", "--reference", graph, "--threshold", 1)
    assert status == 0
    assert "identical detections, IoU 0.5" in out
    assert out.splitlines()[-1].split()[-1] == "-"


@pytest.mark.parametrize(
    "arguments",
    [(), ("--images", "images"), ("--reference", "demo"),
     ("--images", "images", "--reference", "demo", "--annotations", "truth.json"),
     ("--images", "images", "--reference", "demo", "--save-results", "x")],
)  # fmt: skip
def test_missing_and_unknown_options_are_wrong_usage(run, arguments):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: detr-onnx")


def test_wrong_values_are_refused_before_anything_is_read(refused):
    compared = ("--images", "none", "--reference", "demo")
    assert refused(*compared, "--threshold", 7, status=2).startswith("the threshold is out of range")
    assert refused(*compared, "--batch", 0, status=2).startswith("the batch is wrong: found 0")


def test_stdin_alone_is_nothing_to_compare_on(refused):
    assert "cannot be compared on stdin" in refused("--images", "-", "--reference", "demo", status=2)


def test_images_that_are_missing_or_unreadable_are_one_line(refused):
    assert "no such file" in refused("--images", "none", "--reference", "demo")
    Path("images/a.png").write_bytes(b"no image")
    assert "a.png" in refused("--images", "images", "--reference", "demo")
