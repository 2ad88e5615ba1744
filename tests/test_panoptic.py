"""A panoptic model through `Detector`: detections with masks, and segments, alike in every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detector, UsageError
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.engines.table import ENGINES
from detr_onnx.exporter.calibrate import calibrate
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.exporter.ort_file import write_ort
from detr_onnx.image.preprocess import Preprocessing
from tests.parity.seeded import CONFIGS, write_checkpoint

THRESHOLD, EVERY_QUERY = 0.35, -1.0
GRAPH_ENGINES = [name for name, row in ENGINES.items() if not row.missing_packages(has_graph=False) and row.graphs]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("panoptic"), CONFIGS["small-panoptic"], seed=1)


@pytest.fixture(scope="module")
def detector(checkpoint) -> Detector:
    return Detector(checkpoint, engine="numpy", shortest_edge=160)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Patches of colour that are larger than a cell."""
    patches = np.random.RandomState(seed).randint(0, 255, (7, 9, 3)).astype(np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)


def test_detections_of_a_panoptic_model_have_masks(detector):
    image = picture(90, 61)
    detections = detector(image, THRESHOLD)
    assert len(detections) > 1
    assert detections.masks.shape == (len(detections), 61, 90)
    assert detections.masks.dtype == np.bool_
    assert 0 < detections.masks.mean() < 1
    best = detections.by_score()[:1]
    assert np.array_equal(best.masks[0], detections.masks[detections.scores.argmax()])


@pytest.mark.parametrize("engine", GRAPH_ENGINES)
def test_every_engine_finds_the_same(engine, detector, checkpoint, tmp_path):
    precision = {"precision": "fp32"} if engine == "openvino" else {}
    other = Detector(checkpoint, engine=engine, shortest_edge=160, cache_dir=tmp_path, **precision)
    for image in (picture(90, 61), picture(31, 200, seed=1)):
        expected, found = detector(image, THRESHOLD), other(image, THRESHOLD)
        assert expected.labels == found.labels
        np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=1e-2)
        assert (expected.masks != found.masks).mean() < 1e-4
        segments = [d.panoptic(image, THRESHOLD) for d in (detector, other)]
        assert (segments[0].segmentation != segments[1].segmentation).mean() < 1e-3
        assert [s["label"] for s in segments[0].segments_info] == [s["label"] for s in segments[1].segments_info]


@pytest.mark.parametrize("shape_hw", [None, (160, 192)])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "fp16-weights"])
def test_exported_graphs_have_masks(precision, fused, shape_hw, detector, checkpoint, tmp_path):
    pytest.importorskip("onnx")
    options = ExportOptions(precision=precision, fused_attention=fused, shape_hw=shape_hw)
    write_onnx(tmp_path / "m.onnx", load_checkpoint(checkpoint), Preprocessing(160, 300), options)
    exported = Detector(tmp_path / "m.onnx", engine="onnxruntime")
    prepared = detector.preprocess([picture(192, 160)])[:2]
    expected, found = (d._engine.segment(*prepared, EVERY_QUERY) for d in (detector, exported))
    assert np.array_equal(found.kept, expected.kept)
    error = np.abs(found.masks - expected.masks).mean() / expected.masks.std()
    assert error < (1e-5 if precision == "fp32" else 0.02)


def test_an_ort_file_has_masks(detector, checkpoint, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("flatbuffers")
    write_ort(tmp_path / "m.ort", load_checkpoint(checkpoint), Preprocessing(160, 300), ExportOptions())
    image = picture(90, 61)
    found, expected = Detector(tmp_path / "m.ort")(image, THRESHOLD), detector(image, THRESHOLD)
    assert found.labels == expected.labels
    assert (found.masks != expected.masks).mean() < 1e-4


def test_images_of_a_batch_have_the_masks_that_they_have_alone(detector):
    images = [picture(90, 61, seed) for seed in range(3)]
    for image, found in zip(images, detector.batch(images, THRESHOLD, batch_size=3), strict=True):
        alone = detector(image, THRESHOLD)
        assert found.labels == alone.labels
        assert np.array_equal(found.masks, alone.masks)
    for found, image in zip(detector.stream(images, THRESHOLD), images, strict=True):
        assert np.array_equal(found.masks, detector(image, THRESHOLD).masks)


def test_masks_of_a_padded_image_are_cut_to_the_image(detector):
    images = [picture(90, 61), picture(30, 90, seed=1)]
    for image, found in zip(images, detector.batch(images, 0.1, batch_size=2), strict=True):
        assert found.masks.shape == (len(found), *image.size[::-1])
    _, mask, _ = detector.preprocess(images)
    share = found.mask_logits.share_hw
    assert share == (mask[1].any(axis=1).mean(), mask[1].any(axis=0).mean())
    assert share[1] < 0.5


def test_segments_are_at_the_size_of_the_image(detector):
    found = detector.panoptic(picture(90, 61), 0.2)
    assert found.segmentation.shape == (61, 90)
    assert found.segmentation.dtype == np.int32
    assert {*np.unique(found.segmentation)} - {0} <= {segment["id"] for segment in found.segments_info}
    assert [*found.segments_info[0]] == ["id", "label_id", "label", "was_fused", "score"]


@pytest.mark.parametrize("engine", ["numpy", *GRAPH_ENGINES])
def test_with_nothing_above_the_threshold_all_shapes_are_right(engine, checkpoint, tmp_path):
    detector = Detector(checkpoint, engine=engine, shortest_edge=160, cache_dir=tmp_path)
    assert detector(picture(90, 61), 1.0).masks.shape == (0, 61, 90)
    empty = detector.panoptic(picture(90, 61), 1.0)
    assert empty.segments_info == []
    assert np.unique(empty.segmentation).tolist() == [-1]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("engine", ["numpy", *GRAPH_ENGINES])
def test_the_thinnest_images_have_masks(engine, size, checkpoint, tmp_path):
    detector = Detector(checkpoint, engine=engine, shortest_edge=160, cache_dir=tmp_path)
    detections = detector(picture(*size), 0.0)
    assert detections.masks.shape == (len(detections), *size[::-1])
    assert detector.panoptic(picture(*size), 0.0).segmentation.shape == size[::-1]


def test_a_detection_model_has_no_masks(small):
    detector = Detector(small, engine="numpy", shortest_edge=160)
    assert detector(picture(90, 61)).masks is None
    with pytest.raises(UsageError, match=r"the model has no mask head.*facebook/detr-resnet-50-panoptic"):
        detector.panoptic(picture(90, 61))


@pytest.mark.parametrize("name", ["threshold", "mask_threshold", "overlap_mask_area_threshold"])
def test_thresholds_out_of_range_are_refused(name, detector):
    with pytest.raises(UsageError, match="out of range"):
        detector.panoptic(picture(9, 9), **{name: 1.5})


def test_a_panoptic_model_in_int8_is_refused(checkpoint, tmp_path):
    pytest.importorskip("onnx")
    with pytest.raises(UsageError, match="a panoptic model cannot be written in int8"):
        calibrate(
            (load_checkpoint(checkpoint), Preprocessing()), [tmp_path / "a.png"], progress=lambda items, what: items
        )


def test_an_end_to_end_graph_of_a_panoptic_model_has_its_detections(checkpoint, detector, tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    options = ExportOptions(end_to_end=True)
    write_onnx(tmp_path / "m.onnx", load_checkpoint(checkpoint), detector.preprocessing, options)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    image = picture(90, 61)
    feeds = {"image": np.asarray(image), "threshold": np.full(1, THRESHOLD, np.float32)}
    scores, _, boxes = session.run(None, feeds)
    expected = detector(image, THRESHOLD).by_score()
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(boxes, expected.xyxy, atol=1e-2)
