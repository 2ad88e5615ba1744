"""`Detector.attention`: the same maps in every engine, at the right place of the image; figures; what it refuses."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detector, DetrError, UsageError
from detr_onnx.attention import checked_points
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from detr_onnx.engines.table import ENGINES
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.exporter.ort_file import write_ort
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.open import demo_directory, demo_image
from tests.parity.seeded import CONFIGS, write_checkpoint
from tests.small_model import LABELS, sample_image

THRESHOLD = 0.4
GRAPH_ENGINES = [name for name, row in ENGINES.items() if not row.missing_packages(has_graph=False) and row.graphs]
TOLERANCE = 2e-5  # of weights in 0..1: float32 in another order
HALF = 0.05  # the same in float16
POINTS = [(0, 0), (89, 60), (45.5, 30)]


@pytest.fixture(scope="module")
def detector(small) -> Detector:
    return Detector(small, engine="numpy")


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return sample_image(90, 61)


@pytest.fixture(scope="module")
def maps(detector, image):
    return detector.attention(image, THRESHOLD, points=POINTS)


def assert_same(found, expected, tolerance=TOLERANCE) -> None:
    assert found.detections.labels == expected.detections.labels
    assert np.array_equal(found.queries, expected.queries)
    for one, other in ((found.decoder, expected.decoder), (found.encoder, expected.encoder)):
        assert one.shape == other.shape
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=tolerance)


# What comes out


def test_maps_belong_to_the_detections_of_the_detector(detector, image, maps):
    expected = detector(image, THRESHOLD)
    assert len(maps) == len(expected) > 1
    np.testing.assert_array_equal(maps.detections.xyxy, expected.xyxy)
    assert maps.detections.labels == expected.labels
    assert maps.queries.shape == (len(expected),)
    assert maps.image.size == image.size


def test_maps_have_the_cells_of_the_image_and_each_head_sums_to_one(maps, image):
    assert maps.decoder.shape == (len(maps), 2, 2, 2, 3)  # 64x94 pixels after the resize
    assert maps.encoder.shape == (len(POINTS), 2, 4, 2, 3)
    for each in (maps.decoder, maps.encoder):
        np.testing.assert_allclose(each.sum(axis=(-1, -2)), 1, atol=1e-5)
    assert repr(maps) == f"<AttentionMaps: {len(maps)} objects, 3 points, 2x3 cells>"


@pytest.mark.parametrize("engine", GRAPH_ENGINES)
def test_every_engine_has_the_same_maps(engine, small, image, maps, tmp_path):
    precision = {"precision": "fp32"} if engine == "openvino" else {}
    other = Detector(small, engine=engine, cache_dir=tmp_path, **precision)
    assert_same(other.attention(image, THRESHOLD, points=POINTS), maps)
    assert other.attention(image, 1.0).decoder.shape == (0, 2, 2, 2, 3)


@pytest.mark.parametrize("engine", ["numpy", *GRAPH_ENGINES])
def test_a_panoptic_model_has_maps_too(engine, image, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "panoptic", CONFIGS["small-panoptic"], seed=1)
    detector = Detector(checkpoint, engine=engine, shortest_edge=64, cache_dir=tmp_path / "cache")
    found = detector.attention(image, 0.3, points=[(3, 4)])
    assert found.decoder.shape == (len(detector(image, 0.3)), 2, 2, 2, 3)
    assert found.encoder.shape == (1, 2, 8, 2, 3)


def test_the_graph_of_detection_stays_as_it_is_until_maps_are_asked_for(small, image, tmp_path):
    pytest.importorskip("onnx")
    detector = Detector(small, engine="onnxruntime", cache_dir=tmp_path)
    (entry,) = filter(Path.is_dir, (tmp_path / "built").iterdir())
    before = {file.name: file.read_bytes() for file in entry.iterdir()}
    detector.attention(image, THRESHOLD)
    detector.attention(image, THRESHOLD)
    assert len([*filter(Path.is_dir, (tmp_path / "built").iterdir())]) == 2
    assert {file.name: file.read_bytes() for file in entry.iterdir()} == before


def test_a_point_is_in_the_cell_that_covers_it(detector, image):
    centres = [((c + 0.5) * 30, (r + 0.5) * 30.5) for r in range(2) for c in range(3)]
    by_cell = detector.attention(image, points=centres).encoder
    corners = detector.attention(image, points=[(0, 0), (89.9, 0), (0, 60.9), (89.9, 60.9), (29.9, 30.4), (30, 30.6)])
    np.testing.assert_array_equal(corners.encoder, by_cell[[0, 2, 3, 5, 0, 4]])
    assert np.abs(np.diff(by_cell, axis=0)).max() > TOLERANCE


def test_padding_is_cut_away(small, image, maps, tmp_path):
    pytest.importorskip("onnx")
    for batch in (None, 2):
        options = ExportOptions(attention=True, shape_hw=(160, 192), batch=batch)
        write_onnx(tmp_path / "m.onnx", load_checkpoint(small), Preprocessing(64, 107), options)
        padded = Detector(tmp_path / "m.onnx", labels=LABELS).attention(image, 0.0, points=POINTS)
        assert padded.decoder.shape[-2:] == maps.decoder.shape[-2:]
        np.testing.assert_allclose(padded.decoder.sum(axis=(-1, -2)), 1, atol=1e-5)
        np.testing.assert_allclose(padded.encoder.sum(axis=(-1, -2)), 1, atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "fp16-weights", "int8-weights"])
def test_exported_graphs_have_maps(precision, fused, small, detector, image, tmp_path):
    pytest.importorskip("onnx")
    options = ExportOptions(attention=True, precision=precision, fused_attention=fused)
    write_onnx(tmp_path / "m.onnx", load_checkpoint(small), Preprocessing(64, 107), options)
    exported = Detector(tmp_path / "m.onnx", engine="onnxruntime")
    expected, found = (each.attention(image, 0.0, points=POINTS) for each in (detector, exported))
    error = np.abs(found.decoder - expected.decoder).max(), np.abs(found.encoder - expected.encoder).max()
    assert max(error) < (TOLERANCE if precision == "fp32" else HALF if precision.startswith("fp16") else 1)
    assert exported(image, THRESHOLD).xyxy.shape[1] == 4


def test_an_ort_file_has_maps(small, image, maps, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("flatbuffers")
    write_ort(tmp_path / "m.ort", load_checkpoint(small), Preprocessing(64, 107), ExportOptions(attention=True))
    assert_same(Detector(tmp_path / "m.ort").attention(image, THRESHOLD, points=POINTS), maps)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1)])
def test_images_of_any_shape_have_maps_and_figures(detector, width, height):
    found = detector.attention(Image.new("RGB", (width, height), "teal"), 0.0, points=[(0, 0)])
    assert found.heat(0).shape == (height, width)
    assert found.point_heat(0).shape == (height, width)
    for drawn in (found.draw(0), found.draw(point=0), found.draw()):
        assert drawn.mode == "RGB"
        assert min(drawn.size) > 100


# Choosing from the maps


def test_maps_are_reduced_over_heads_and_layers(maps):
    own = maps.decoder[1]
    np.testing.assert_allclose(maps.object_map(1), own[-1].mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(maps.object_map(1, layer=0, head=1), own[0, 1], atol=1e-7)
    np.testing.assert_allclose(maps.object_map(1, layer=None, head=0), own[:, 0].mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(maps.point_map(-1, layer=-2), maps.encoder[2, 0].mean(axis=0), atol=1e-7)


def test_heat_is_at_the_size_of_the_image_and_highest_where_the_map_is(maps):
    cells, heat = maps.object_map(0), maps.heat(0)
    assert heat.shape == (61, 90)
    assert heat.max() == pytest.approx(cells.max(), rel=0.02)
    assert cells.min() <= heat.min() <= heat.max() <= cells.max()
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (row * 2 // 61, column * 3 // 90) == np.unravel_index(cells.argmax(), cells.shape)


def test_arrays_have_everything_by_name(maps):
    arrays = maps.arrays()
    assert [*arrays] == ["scores", "labels", "xyxy", "queries", "decoder", "points", "encoder"]
    assert arrays["labels"].tolist() == maps.detections.labels
    assert np.array_equal(arrays["points"], np.array(POINTS, np.float32))


# Figures


def test_a_figure_of_each_kind_differs(maps):
    drawn = [maps.draw(), maps.draw(0), maps.draw(1), maps.draw(0, layer=0), maps.draw(0, head=0), maps.draw(point=1)]
    drawn += [maps.draw(point=1, layer=0), maps.draw(point=1, head=0)]
    contents = {figure.tobytes() for figure in drawn}
    assert len(contents) == len(drawn)
    assert maps.draw(0, title="A title of one's own").tobytes() not in contents


def test_a_figure_has_at_most_twelve_panels(detector, image):
    every = detector.attention(image, 0.0)
    assert len(every) > 12
    assert every.draw().size == detector.attention(image, float(np.sort(every.detections.scores)[-13])).draw().size


def test_without_objects_there_is_nothing_to_draw(detector, image):
    empty = detector.attention(image, 1.0)
    assert (len(empty), empty.decoder.shape, empty.queries.shape) == (0, (0, 2, 2, 2, 3), (0,))
    with pytest.raises(DetrError, match="nothing to draw: found no object above the threshold; lower the threshold"):
        empty.draw()
    with pytest.raises(UsageError, match="no such object: found 0, expected none, as there is no object"):
        empty.draw(0)


# What is refused


@pytest.mark.parametrize(("arguments", "message"), [
    ({"number": 99}, "no such object: found 99, expected 0 to "),
    ({"number": 0, "layer": 2}, "no such layer: found 2, expected 0 to 1"),
    ({"number": 0, "layer": -3}, "no such layer: found -3"),
    ({"number": 0, "head": 2}, "no such head: found 2, expected 0 to 1"),
    ({"number": True}, "no such object: found True"),
    ({"number": "0"}, "no such object: found 0"),
    ({"point": 3}, "no such point: found 3, expected 0 to 2"),
    ({"number": 0, "point": 0}, "draw takes a detection or a point"),
])  # fmt: skip
def test_missing_detections_points_layers_and_heads_are_refused(maps, arguments, message):
    with pytest.raises(UsageError, match=message):
        maps.draw(**arguments)


@pytest.mark.parametrize(("points", "message"), [
    ([(90, 0)], "outside the image: found 90,0, expected x from 0 to 89 and y from 0 to 60"),
    ([(1, 1), (-1, 0)], "found -1,0"),
    ([(0, float("nan"))], "outside the image: found 0,nan"),
    ([(0, float("inf"))], "outside the image: found 0,inf"),
    ([(1, 2, 3)], "points must be pairs of numbers"),
    ([1, 2], "points must be pairs of numbers"),
    (["ab"], "points must be pairs of numbers"),
    (7, "points must be pairs of numbers"),
])  # fmt: skip
def test_points_outside_the_image_are_refused(detector, image, points, message):
    with pytest.raises(UsageError, match=message):
        detector.attention(image, points=points)


def test_a_graph_file_without_maps_says_what_to_do(image, tmp_path):
    pytest.importorskip("onnxruntime")
    detector = Detector(demo_directory() / "model.onnx")
    with pytest.raises(UsageError, match=r"no attention maps: found .*model.onnx; use the checkpoint, or export it"):
        detector.attention(image)


def test_a_graph_with_damaged_metadata_is_refused(small, image, tmp_path):
    onnx = pytest.importorskip("onnx")
    write_onnx(tmp_path / "m.onnx", load_checkpoint(small), Preprocessing(64, 107), ExportOptions(attention=True))
    model = onnx.load(tmp_path / "m.onnx")
    for entry in model.metadata_props:
        entry.value = "{}" if entry.key == "detr_onnx.config" else entry.value
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(DetrError, match="metadata that cannot be read"):
        Detector(tmp_path / "m.onnx", labels=LABELS).attention(image)


def test_a_model_without_layers_has_no_maps(small):
    pytest.importorskip("onnx")
    checkpoint = load_checkpoint(small)
    bare = replace(checkpoint, config=replace(checkpoint.config, encoder_layers=0))
    with pytest.raises(UsageError, match="no attention maps: found 0 encoder and 2 decoder layers"):
        write_onnx(small / "never.onnx", bare, Preprocessing(), ExportOptions(attention=True))


def test_the_shipped_graph_has_maps_without_the_package_that_writes_graphs(monkeypatch, tmp_path):
    """The demo model on "auto", with nothing but the core installed: detection by its graph, maps by numpy."""
    find = importlib.util.find_spec
    hidden = ("onnx", "openvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in hidden else find(name, *rest))
    detector = Detector("demo", cache_dir=tmp_path)
    assert detector.engine == "onnxruntime"
    found = detector.attention(demo_image())
    assert found.detections.labels == detector(demo_image()).labels
    assert found.detections.path == str(demo_image())
    assert not (tmp_path / "built").exists()


def test_each_detection_of_the_demo_scene_is_looked_at_inside_its_box():
    """What the maps are for: most of the attention of a trained model is on the object."""
    maps = Detector("demo", engine="numpy").attention(demo_image())
    assert len(maps) > 4
    rows, columns = maps.decoder.shape[-2:]
    y, x = ((np.arange(n) + 0.5) / n for n in (rows, columns))
    for number, (left, top, right, bottom) in enumerate(maps.detections.xyxy / [640, 480, 640, 480]):
        inside = ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))
        assert maps.object_map(number)[inside].sum() > 0.6


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "attention.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1].replace("facebook/detr-resnet-50", "demo")
    (tmp_path / "street.jpg").write_bytes(demo_image().read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "first.png").is_file()


def test_detection_on_a_graph_with_maps_ignores_them(small, image, tmp_path, detector):
    pytest.importorskip("onnx")
    write_onnx(tmp_path / "m.onnx", load_checkpoint(small), Preprocessing(64, 107), ExportOptions(attention=True))
    pixels, mask, _ = detector.preprocess([image])
    logits, boxes = onnxruntime_engine(tmp_path / "m.onnx").network(pixels, mask)
    expected_logits, expected_boxes = detector.network(pixels, mask)
    np.testing.assert_allclose(logits, expected_logits, atol=1e-3)
    np.testing.assert_allclose(boxes, expected_boxes, atol=1e-5)


@pytest.mark.parametrize("points", [[(1, 2, 3), (4, 5, 6)], [(1,), (2,)], [()], [(1, 2), (3,)]])
def test_points_that_are_not_pairs_are_refused(points):
    with pytest.raises(UsageError, match="points must be pairs of numbers"):
        checked_points(points, (100, 100))


def test_points_may_come_from_an_array_or_a_generator():
    expected = np.array([[1, 2], [3, 4]], np.float32)
    for points in (expected, (pair for pair in ((1, 2), (3, 4)))):
        np.testing.assert_array_equal(checked_points(points, (100, 100)), expected)
    assert checked_points([], (9, 9)).shape == (0, 2)
