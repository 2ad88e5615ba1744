"""The end-to-end graph agrees with `Detector`: size, pixels, scores, labels and boxes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from detr_onnx import Detector
from detr_onnx.cli import main as cli
from detr_onnx.engines.providers import CPU
from detr_onnx.errors import ModelFileError, UsageError
from detr_onnx.exporter.end_to_end import Scope, resized, size
from detr_onnx.exporter.onnx_file import ExportOptions, onnx_model, write_onnx
from detr_onnx.exporter.proto import model_proto
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import demo_directory, demo_image
from detr_onnx.network.graph import INT64, UINT8, Graph, Symbol
from tests.small_model import CONFIG, LABELS, sample_image

onnxruntime = pytest.importorskip("onnxruntime")

RESIZE_LEVELS = 1  # of 255: both round after each axis, and Pillow resizes the axes of tall images in the other order
SCORE_TOLERANCE, BOX_TOLERANCE_PX = 1e-4, 0.01  # attention is several nodes here, one node in the detector's graph
HALF_SCORE_TOLERANCE = 0.02  # fp16 with seeded weights; a tenth of it with trained ones
Run = Callable[[Any], Any]


def running(record: Callable[[Scope, Symbol], Symbol], dtype: np.dtype[Any]) -> Run:
    """Runs what `record` records for an input `x` of a type."""
    graph = Graph()
    graph.add_output(record(Scope(graph, "part"), graph.input("x", dtype)), "result")
    session = onnxruntime.InferenceSession(model_proto(graph).SerializeToString(), providers=[CPU])
    return lambda x: session.run(None, {"x": x})[0]


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(64, 107),
        Preprocessing(333, 500),
        Preprocessing(800, 700),
        Preprocessing(480, 640, max_hw=(480, 640)),
    ],
)
def test_the_size_rule_is_transformers_own_to_the_pixel(preprocessing):
    run = running(lambda scope, hw: size(scope, hw, preprocessing), INT64)
    random = np.random.default_rng(3)
    chosen = [(1, 1), (1, 5000), (5000, 1), (1, 2000), (800, 800), (480, 640), (640, 480), (800, 1333), (64, 107)]
    limits = [
        (n, max(1, n * preprocessing.longest_edge // preprocessing.shortest_edge + k))
        for n in range(1, 60)
        for k in (0, 1)
    ]
    anywhere = random.integers(1, 6000, (1500, 2)).tolist()
    for h, w in itertools.chain(chosen, limits, anywhere):
        assert tuple(run(np.array([h, w]))) == preprocessing.resized_hw(h, w), (h, w)


def test_a_graph_that_would_have_to_pad_is_refused(small):
    preprocessing = Preprocessing(48, 64, max_hw=(48, 64), pad_hw=(64, 64))
    with pytest.raises(UsageError, match="an end-to-end graph cannot pad images: found pad_size 64x64"):
        onnx_model(read_model(small)[0], preprocessing, ExportOptions(end_to_end=True))


def test_a_fixed_size_is_a_constant():
    assert size(Scope(Graph(), "size"), Symbol(INT64), Preprocessing(fixed_hw=(30, 40))).tolist() == [30, 40]


@pytest.mark.parametrize("wh", [(64, 48), (300, 200), (48, 64), (107, 64), (999, 333), (31, 17), (5, 3), (1, 1)])
@pytest.mark.parametrize("target_hw", [(64, 85), (33, 21), (107, 64), (1, 1)])
def test_the_resize_is_pillows_bit_for_bit(wh, target_hw):
    found, expected = both_resized(sample_image(*wh, seed=wh[0]), target_hw)
    np.testing.assert_array_equal(found, expected)


def test_in_tall_images_the_resize_differs_from_pillows_by_one_level_at_most():
    found, expected = both_resized(sample_image(100, 350), (107, 31))
    assert np.abs(found.astype(int) - expected).max() <= RESIZE_LEVELS


def both_resized(image: Image.Image, target_hw: tuple[int, int]) -> tuple[Any, Any]:
    run = running(lambda scope, x: resized(scope, x, np.array(target_hw)), UINT8)
    return run(np.asarray(image)), np.asarray(image.resize(target_hw[::-1], Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def end_to_end(small, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("end") / "end.onnx"
    write_onnx(path, *read_model(small), ExportOptions(end_to_end=True))
    return path


def run_file(path: Path, image: Image.Image, threshold: float) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=[CPU])
    feeds = {"image": np.asarray(image), "threshold": np.array([threshold], np.float32)}
    return session.run(["scores", "labels", "boxes"], feeds)


@pytest.mark.parametrize("wh", [None, (300, 200), (200, 300)])
def test_the_shipped_model_finds_what_the_detector_finds_best_first(tmp_path, wh):
    path = tmp_path / "demo.onnx"
    write_onnx(path, *read_model(demo_directory()), ExportOptions(end_to_end=True))
    image = Image.open(demo_image()).convert("RGB")
    image = image.crop((100, 0, 100 + wh[0], wh[1])) if wh else image
    scores, labels, boxes = run_file(path, image, 0.0)
    expected = Detector("demo", engine="onnxruntime")(image, 0.0).by_score()
    assert (np.diff(scores) <= 0).all()
    order = [np.abs(boxes - box).max(axis=1).argmin() for box in expected.xyxy]  # similar scores may swap
    np.testing.assert_array_equal(labels[order], expected.class_ids)
    np.testing.assert_allclose(scores[order], expected.scores, rtol=0, atol=SCORE_TOLERANCE)
    np.testing.assert_allclose(boxes[order], expected.xyxy, rtol=0, atol=BOX_TOLERANCE_PX)


def test_scores_have_to_exceed_the_threshold(end_to_end):
    scores, labels, boxes = run_file(end_to_end, sample_image(64, 48), 0.0)
    middle = float(scores[len(scores) // 2])
    fewer = run_file(end_to_end, sample_image(64, 48), middle)
    assert [len(values) for values in fewer] == [int(np.sum(scores > middle))] * 3
    for part, whole in zip(fewer, (scores, labels, boxes), strict=True):
        np.testing.assert_array_equal(part, whole[: len(part)])
    assert [values.shape for values in run_file(end_to_end, sample_image(64, 48), 1.0)] == [(0,), (0,), (0, 4)]


@pytest.mark.parametrize("options", [ExportOptions(end_to_end=True, precision=p) for p in ("fp16", "fp16-weights")])
def test_every_precision_can_be_end_to_end(small, end_to_end, tmp_path, options):
    path = tmp_path / "half.onnx"
    write_onnx(path, *read_model(small), options)
    found, expected = (run_file(file, sample_image(90, 60), 0.0)[0] for file in (path, end_to_end))
    np.testing.assert_allclose(found, expected, rtol=0, atol=HALF_SCORE_TOLERANCE)
    assert path.stat().st_size < end_to_end.stat().st_size


def test_without_resizing_no_resize_is_recorded(small):
    model = onnx_model(read_model(small)[0], Preprocessing(resize=False), ExportOptions(end_to_end=True))
    assert "Gather" not in {node.op_type for node in model.graph.node if node.name.startswith("/image")}


def test_the_file_is_valid_and_has_the_labels(end_to_end):
    model = onnx.load(end_to_end)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == [
        "image", "threshold", "scores", "labels", "boxes"
    ]  # fmt: skip
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert tuple(json.loads(metadata["detr_onnx.labels"])) == LABELS == CONFIG.labels


def test_openvino_runs_it_also_where_nothing_is_found(end_to_end):
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(str(end_to_end), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = np.asarray(sample_image(90, 60, 1))
    for threshold, count in ((1.0, 0), (0.0, CONFIG.queries)):
        found = compiled({"image": image, "threshold": np.full(1, threshold, np.float32)})
        shapes = [found[name].shape for name in ("scores", "labels", "boxes")]
        assert shapes == [(count,), (count,), (count, 4)]


def test_the_detector_refuses_such_a_file(end_to_end):
    with pytest.raises(ModelFileError, match=r"is an end-to-end graph, which needs no detector around it; run"):
        Detector(end_to_end, engine="onnxruntime")


def test_the_command_writes_one_and_refuses_a_shape(small, tmp_path, capsys):
    path = tmp_path / "end.onnx"
    export = ["export", str(small), "-o", str(path), "--end-to-end"]
    assert cli.main(export) == 0
    assert [value.name for value in onnx.load(path).graph.output] == ["scores", "labels", "boxes"]
    assert cli.main([*export, "--shape", "64x64"]) == 2
    assert "--end-to-end takes one image of any size" in capsys.readouterr().err
