"""The shipped model on the shipped image: offline, and the same on every engine, batch size and image mode."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detector
from detr_onnx.cli import main as cli
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from detr_onnx.errors import EngineError
from detr_onnx.exporter.onnx_file import tensors_sha256
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import demo_directory, demo_image

SCORE_TOLERANCE = 1e-3  # float32 sums in another order, amplified by a softmax
BOX_TOLERANCE_PX = 0.1  # the same, of an image of 640 pixels
ENGINES = ("numpy", "onnxruntime")


@pytest.fixture(scope="module", params=ENGINES)
def detector(request, tmp_path_factory) -> Detector:
    return Detector("demo", engine=request.param, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return Detector("demo", engine="numpy")(demo_image())


def assert_same(found, expected) -> None:
    assert [d.label for d in found] == [d.label for d in expected]
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=SCORE_TOLERANCE)
    np.testing.assert_allclose(found.xyxy, expected.xyxy, rtol=0, atol=BOX_TOLERANCE_PX)


def test_the_demo_finds_the_objects_of_the_scene_and_nothing_else(expected):
    assert sorted(d.label for d in expected) == ["banana", "book", "dog", "elephant", "train", "tv", "zebra"]
    assert expected.scores.min() > 0.9


def test_the_shipped_graph_has_the_shipped_weights():
    checkpoint, _ = read_model(demo_directory())
    shipped = onnxruntime_engine(demo_directory() / "model.onnx")
    assert shipped.metadata["detr_onnx.source_sha256"] == tensors_sha256(checkpoint.tensors)


def test_an_empty_image_has_no_detections(detector):
    assert len(detector(np.full((240, 320, 3), 124, np.uint8), threshold=0.9)) == 0


def test_every_engine_finds_the_same(detector, expected):
    assert_same(detector(demo_image()), expected)


def test_another_precision_is_written_from_the_checkpoint(expected, tmp_path):
    half = Detector("demo", engine="onnxruntime", precision="fp16", cache_dir=tmp_path)
    assert "fp16" in half.runtime
    found = half(demo_image())
    assert [d.label for d in found] == [d.label for d in expected]
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=0.01)
    np.testing.assert_allclose(found.xyxy, expected.xyxy, rtol=0, atol=1.0)
    with pytest.raises(EngineError, match="int8 needs images for calibration"):
        Detector("demo", engine="onnxruntime", precision="int8")


def test_a_higher_threshold_keeps_the_detections_above_it(detector):
    everything = detector(demo_image(), threshold=0.1)
    for threshold in (0.3, 0.5, 0.7):
        assert_same(detector(demo_image(), threshold), everything[everything.scores > threshold])


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_batch_gives_the_same_detections_as_one_image_alone(detector, expected, batch_size):
    for found in detector.batch([demo_image()] * 3, batch_size=batch_size):
        assert_same(found, expected)


@pytest.mark.parametrize("mode", ["RGBA", "RGB"])
def test_the_mode_of_the_image_does_not_matter(detector, expected, mode):
    with Image.open(demo_image()) as image:
        assert_same(detector(image.convert(mode)), expected)


def test_the_form_of_the_api_is_sorted_by_score(expected):
    scores = [row["score"] for row in expected.to_api()]
    assert scores == sorted(scores, reverse=True)


def test_the_command_prints_the_form_of_the_api_and_draws(capsys, tmp_path, expected):
    assert cli.main(["demo", "--engine", "numpy", "--save", str(tmp_path / "demo.jpg")]) == 0
    assert json.loads(capsys.readouterr().out) == expected.to_api()
    with Image.open(tmp_path / "demo.jpg") as drawn, Image.open(demo_image()) as image:
        assert drawn.size == image.size


def test_the_checkpoint_is_small_and_has_the_official_labels(expected):
    assert sum(file.stat().st_size for file in demo_directory().iterdir()) < 20e6
    assert expected.class_names[17] == "cat"
    assert len(expected.class_names) == 91
