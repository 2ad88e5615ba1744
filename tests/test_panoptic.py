"""A panoptic model through `Detector`: detections with masks, and segments, alike in every engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detections, Detector, ModelFileError, UsageError, rle
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.engines import PanopticOutputs
from detr_onnx.engines.table import ENGINES
from detr_onnx.evaluation.agreement import Agreement
from detr_onnx.evaluation.average_precision import detect_rows
from detr_onnx.evaluation.coco import read_annotations
from detr_onnx.exporter import trial
from detr_onnx.exporter.calibrate import calibrate
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.exporter.ort_file import write_ort
from detr_onnx.exporter.trial import ImageOutputs, Trial
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.masks import MaskLogits
from detr_onnx.models.metadata import read_model
from detr_onnx.panoptic import PanopticRules, combine_masks, panoptic_of, semantic_of
from tests.annotated_images import write_annotated_images
from tests.parity.seeded import CONFIGS, write_checkpoint
from tests.small_model import patches

NAMES = ("cat", "dog", "sky")
THRESHOLD, EVERY_QUERY = 0.35, -1.0
GRAPH_ENGINES = [name for name, row in ENGINES.items() if not row.missing_packages(has_graph=False) and row.graphs]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("panoptic"), CONFIGS["small-panoptic"], seed=1)


@pytest.fixture(scope="module")
def detector(checkpoint) -> Detector:
    return Detector(checkpoint, engine="numpy", shortest_edge=160)


def test_detections_of_a_panoptic_model_have_masks(detector):
    image = patches(90, 61)
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
    for image in (patches(90, 61), patches(31, 200, seed=1)):
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
    prepared = detector.preprocess([patches(192, 160)])[:2]
    expected, found = (d._engine.segment(*prepared, EVERY_QUERY) for d in (detector, exported))
    assert np.array_equal(found.kept, expected.kept)
    error = np.abs(found.masks - expected.masks).mean() / expected.masks.std()
    assert error < (1e-5 if precision == "fp32" else 0.02)


def test_an_ort_file_has_masks(detector, checkpoint, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("flatbuffers")
    write_ort(tmp_path / "m.ort", load_checkpoint(checkpoint), Preprocessing(160, 300), ExportOptions())
    image = patches(90, 61)
    found, expected = Detector(tmp_path / "m.ort")(image, THRESHOLD), detector(image, THRESHOLD)
    assert found.labels == expected.labels
    assert (found.masks != expected.masks).mean() < 1e-4


def test_images_of_a_batch_have_the_masks_that_they_have_alone(detector):
    images = [patches(90, 61, seed) for seed in range(3)]
    for image, found in zip(images, detector.batch(images, THRESHOLD, batch_size=3), strict=True):
        alone = detector(image, THRESHOLD)
        assert found.labels == alone.labels
        assert np.array_equal(found.masks, alone.masks)
    for found, image in zip(detector.stream(images, THRESHOLD), images, strict=True):
        assert np.array_equal(found.masks, detector(image, THRESHOLD).masks)


def test_masks_of_a_padded_image_are_cut_to_the_image(detector):
    images = [patches(90, 61), patches(30, 90, seed=1)]
    _, mask, _ = detector.preprocess(images)
    for image, found, valid in zip(images, detector.batch(images, 0.1, batch_size=2), mask, strict=True):
        assert found.masks.shape == (len(found), *image.size[::-1])
        share = found.mask_logits.share_hw
        assert share == (valid.any(axis=1).mean(), valid.any(axis=0).mean())
        assert min(share) < max(share) == 1


def test_segments_are_at_the_size_of_the_image(detector):
    found = detector.panoptic(patches(90, 61), 0.2)
    assert found.segmentation.shape == (61, 90)
    assert found.segmentation.dtype == np.int32
    assert {*np.unique(found.segmentation)} - {0} <= {segment["id"] for segment in found.segments_info}
    assert [*found.segments_info[0]] == ["id", "label_id", "label", "was_fused", "score"]


@pytest.mark.parametrize("engine", ["numpy", *GRAPH_ENGINES])
def test_with_nothing_above_the_threshold_all_shapes_are_right(engine, checkpoint, tmp_path):
    detector = Detector(checkpoint, engine=engine, shortest_edge=160, cache_dir=tmp_path)
    assert detector(patches(90, 61), 1.0).masks.shape == (0, 61, 90)
    empty = detector.panoptic(patches(90, 61), 1.0)
    assert empty.segments_info == []
    assert np.unique(empty.segmentation).tolist() == [-1]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("engine", ["numpy", *GRAPH_ENGINES])
def test_the_thinnest_images_have_masks(engine, size, checkpoint, tmp_path):
    detector = Detector(checkpoint, engine=engine, shortest_edge=160, cache_dir=tmp_path)
    detections = detector(patches(*size), 0.0)
    assert detections.masks.shape == (len(detections), *size[::-1])
    assert detector.panoptic(patches(*size), 0.0).segmentation.shape == size[::-1]


def test_a_detection_model_has_no_masks(small):
    detector = Detector(small, engine="numpy", shortest_edge=160)
    assert detector(patches(90, 61)).masks is None
    with pytest.raises(UsageError, match=r"the model has no mask head.*facebook/detr-resnet-50-panoptic"):
        detector.panoptic(patches(90, 61))


@pytest.mark.parametrize("name", ["threshold", "mask_threshold", "overlap_mask_area_threshold"])
def test_thresholds_out_of_range_are_refused(name, detector):
    with pytest.raises(UsageError, match="out of range"):
        detector.panoptic(patches(9, 9), **{name: 1.5})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    directory = tmp_path_factory.mktemp("pictures")
    for seed in range(6):
        patches(90, 61, seed).save(directory / f"{seed}.png")
    return sorted(directory.iterdir())


@pytest.fixture(scope="module")
def model(checkpoint):
    pytest.importorskip("onnx")
    return load_checkpoint(checkpoint), Preprocessing(160, 300)


@pytest.fixture(scope="module")
def calibration(model, pictures):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "THRESHOLD", THRESHOLD)
        patch.setattr(trial, "FEWEST_DETECTIONS", 1)
        patch.setattr(trial, "IDENTICAL_AT_LEAST", 0.0)  # of seeded weights, which amplify every rounding
        patch.setattr(trial, "SCORES_AT_MOST", 1.0)
        patch.setattr(trial, "STANDARD_ERRORS", 0)
        return calibrate(model, pictures, lambda _, items: items)


def test_int8_of_a_panoptic_model_compares_masks(calibration):
    for attempt in calibration.trials:
        assert 0 < attempt.mask_iou <= 1
    assert calibration.report()["bounds"]["mask_iou_at_least"] == trial.MASKS_AT_LEAST
    assert calibration.report()["chosen"]["mask_iou"] == round(calibration.chosen.mask_iou, 4)


def test_masks_that_differ_are_refused_even_if_detections_agree():
    agreed = Agreement(100, 500, 500, 1.0, 1.0, 0.0, 1.0)
    attempts = [Trial("minmax", (), False, agreed, 0.01, iou) for iou in (None, 1.0, trial.MASKS_AT_LEAST, 0.94)]
    assert [attempt.refusal() is None for attempt in attempts] == [True, True, True, False]
    found, expected = attempts[-1].refusal()
    assert "a mean IoU of masks of 0.940" in found
    assert expected.endswith(", 0.95")


def test_mask_iou_is_that_of_the_masks_of_identical_detections():
    boxes, masks = np.array([[0, 0, 9, 9], [20, 20, 30, 30]], np.float32), np.zeros((2, 4, 6), np.bool_)
    detections = Detections(np.ones(2, np.float32), np.zeros(2, np.int64), boxes, ("a", "b"))
    masks[0, :2] = True  # the second is empty
    wider = masks.copy()
    wider[0] = True
    packed = (np.packbits(values, axis=-1) for values in (masks, wider))
    expected, found = (ImageOutputs(detections, masks=values) for values in packed)
    assert trial.mask_iou_of([expected], [expected]) == 1.0
    assert trial.mask_iou_of([expected], [found]) == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize("engine", GRAPH_ENGINES)
@pytest.mark.parametrize("precision", ["int8", "int8-weights", "fp16-weights", "fp16"])
def test_every_precision_finds_nearly_the_same_masks(precision, engine, model, detector, calibration, tmp_path):
    options = ExportOptions(precision=precision, quant_params=calibration.quant_params if precision == "int8" else {})
    write_onnx(tmp_path / "m.onnx", *model, options)
    prepared = detector.preprocess([patches(90, 61)])[:2]
    exported = Detector(tmp_path / "m.onnx", engine=engine)
    expected, found = (d._engine.segment(*prepared, EVERY_QUERY).masks >= 0 for d in (detector, exported))
    assert found.shape == expected.shape
    assert (found != expected).mean() < (0.1 if "int8" in precision else 0.02)  # OpenVINO may compute in bfloat16
    assert len(exported(patches(90, 61), THRESHOLD).masks)


def test_only_the_backbone_of_an_int8_file_is_in_8_bits(model, calibration, tmp_path):
    onnx = pytest.importorskip("onnx")
    options = ExportOptions(precision="int8", quant_params=calibration.quant_params)
    write_onnx(tmp_path / "m.onnx", *model, options)
    graph = onnx.load(tmp_path / "m.onnx").graph
    rounded = [node.name for node in graph.node if node.op_type == "QuantizeLinear"]
    assert rounded
    assert all(name.startswith("/backbone") for name in rounded)


@pytest.mark.parametrize("end_to_end", [False, True])
def test_a_panoptic_model_can_be_written_in_onnx_runtime_s_format(end_to_end, model, detector, tmp_path):
    pytest.importorskip("flatbuffers")
    write_ort(tmp_path / "m.ort", *model, ExportOptions(end_to_end=end_to_end))
    if not end_to_end:
        expected, found = (d(patches(90, 61), THRESHOLD) for d in (detector, Detector(tmp_path / "m.ort")))
        assert found.labels == expected.labels
        assert (found.masks != expected.masks).mean() < 1e-3


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8-weights"])
def end_to_end(request, checkpoint, detector, tmp_path_factory):
    """Precision, the file, and a function from an image and a threshold to its outputs."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("end") / "m.onnx"
    options = ExportOptions(end_to_end=True, precision=request.param)
    write_onnx(path, load_checkpoint(checkpoint), detector.preprocessing, options)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(image: Image.Image, threshold: float):
        return session.run(None, {"image": np.asarray(image), "threshold": np.full(1, threshold, np.float32)})

    return request.param, path, run


@pytest.mark.parametrize("size", [(90, 61), (61, 90), (301, 200), (1, 1), (1, 300), (300, 1)])
def test_an_end_to_end_graph_of_a_panoptic_model_has_the_detector_s_masks(size, end_to_end, detector):
    (precision, _, run), image = end_to_end, patches(*size)
    scores, labels, boxes, masks = run(image, THRESHOLD)
    assert masks.shape == (len(scores), *size[::-1])
    assert masks.dtype == np.bool_
    if precision == "fp32":
        expected = detector(image, THRESHOLD).by_score()
        np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
        np.testing.assert_array_equal(labels, expected.class_ids)
        np.testing.assert_allclose(boxes, expected.xyxy, atol=1e-2)
        assert np.count_nonzero(masks != expected.masks) <= 1e-3 * masks.size
    elif min(size) > 1:
        expected = detector(image, THRESHOLD - 0.1)
        nearest = np.abs(expected.xyxy[None] - boxes[:, None]).sum(axis=-1).argmin(axis=1)
        assert np.count_nonzero(masks != expected.masks[nearest]) <= 0.05 * masks.size


def test_an_end_to_end_graph_with_masks_passes_the_full_check_of_onnx(end_to_end):
    pytest.importorskip("onnx").checker.check_model(str(end_to_end[1]), full_check=True)


def test_an_end_to_end_graph_without_a_detection_has_no_masks(end_to_end):
    outputs = end_to_end[2](patches(90, 61), 1.0)
    assert [values.shape for values in outputs] == [(0,), (0,), (0, 4), (0, 61, 90)]


def test_an_end_to_end_graph_with_masks_is_refused_for_what_it_is(end_to_end):
    with pytest.raises(ModelFileError, match="is an end-to-end graph"):
        Detector(end_to_end[1], engine="onnxruntime")


def test_masks_can_be_left_out(detector, monkeypatch):
    image = patches(90, 61)
    expected, prepared = detector(image, THRESHOLD), detector.preprocess([image])
    assert np.array_equal(detector.detect_prepared(*prepared, THRESHOLD)[0].masks, expected.masks)
    refusing = replace(detector._engine, segment=refuse)
    monkeypatch.setattr(detector, "_engine", refusing)
    (found,) = detector.batch([image], THRESHOLD, masks=False)
    assert found.masks is None
    assert found.labels == expected.labels


def refuse(*arguments):
    raise AssertionError("masks were computed")


def test_evaluating_boxes_computes_no_masks(panoptic, tmp_path, monkeypatch):
    write_annotated_images(tmp_path)
    detector = Detector(panoptic, engine="numpy", shortest_edge=160)
    monkeypatch.setattr(detector, "_engine", replace(detector._engine, segment=refuse))
    truth = read_annotations(tmp_path / "truth.json")
    assert detect_rows(detector, truth, truth.images(tmp_path / "images"))


def test_the_raw_outputs_have_a_mask_for_each_kept_query(detector, small):
    pixels, mask, _ = detector.preprocess([patches(90, 61)])
    segments = detector.segment(pixels, mask, THRESHOLD)
    assert len(segments.kept) == len(segments.masks) == len(detector(patches(90, 61), THRESHOLD))
    assert segments.logits.shape[:2] == segments.boxes.shape[:2]
    assert len(detector.segment(pixels, mask, EVERY_QUERY).masks) == segments.logits.shape[1]
    plain = Detector(small, engine="numpy")
    assert (detector.has_masks, plain.has_masks) == (True, False)
    with pytest.raises(UsageError, match="the model has no mask head"):
        plain.segment(pixels, mask)


def test_coco_rows_have_the_masks(detector, small):
    found = detector(patches(90, 61), THRESHOLD)
    for row, mask in zip(found.to_coco(7), found.masks, strict=True):
        assert np.array_equal(rle.decode(row["segmentation"]), mask)
    assert detector(patches(90, 61), 1.0).to_coco(7) == []
    assert "segmentation" not in Detector(small, engine="numpy")(patches(90, 61), 0.0).to_coco(7)[0]


def test_a_graph_of_two_images_takes_one(detector, checkpoint, tmp_path):
    write_onnx(tmp_path / "two.onnx", *read_model(checkpoint), ExportOptions(batch=2))
    two, image = Detector(tmp_path / "two.onnx", engine="onnxruntime", shortest_edge=160), patches(90, 61)
    expected = detector(image, THRESHOLD)
    for found in (two(image, THRESHOLD), *two.stream([image, image, image], THRESHOLD)):
        assert found.labels == expected.labels
        assert (found.masks != expected.masks).mean() < 1e-4
    segments = [d.panoptic(image, THRESHOLD) for d in (detector, two)]
    assert (segments[0].segmentation != segments[1].segmentation).mean() < 1e-3


# From masks to segments


def half_planes(*columns: range, size: int = 8) -> MaskLogits:
    """Masks that are sure of their columns, at the size of the image."""
    logits = np.full((len(columns), size, size), -20, np.float32)
    for mask, own in zip(logits, columns, strict=True):
        mask[:, own] = 20
    return MaskLogits(logits, (1.0, 1.0), (size, size))


def segments_of(masks: MaskLogits, scores, class_ids, **rules):
    return combine_masks(
        masks, np.array(scores, np.float32), np.array(class_ids, np.int64), NAMES, PanopticRules(**rules)
    )


def test_each_pixel_belongs_to_the_best_mask_or_to_none():
    found = segments_of(half_planes(range(3), range(5, 8)), [0.9, 0.8], [0, 1])
    assert found.segmentation.dtype == np.int32
    assert found.segmentation[0].tolist() == [1, 1, 1, 1, 1, 2, 2, 2]  # argmax of equal zeros is the first
    assert found.segments_info == [
        {"id": 1, "label_id": 0, "label": "cat", "was_fused": False, "score": 0.9},
        {"id": 2, "label_id": 1, "label": "dog", "was_fused": False, "score": 0.8},
    ]


def test_a_mask_that_is_mostly_covered_is_left_out():
    found = segments_of(half_planes(range(6), range(5)), [0.9, 0.8], [0, 1])
    assert [segment["label"] for segment in found.segments_info] == ["cat"]
    assert set(np.unique(found.segmentation)) == {1}


def test_segments_of_a_fused_class_are_one_and_ids_stay_apart():
    """transformers counts on from the fused id, so that its third segment would be 2 as well."""
    masks = half_planes(range(2), range(2, 4), range(4, 6), range(6, 8))
    found = segments_of(masks, [0.9, 0.8, 0.7, 0.6], [2, 0, 2, 1], label_ids_to_fuse={2})
    assert found.segmentation[0].tolist() == [1, 1, 2, 2, 1, 1, 3, 3]
    assert [(s["id"], s["label"], s["was_fused"]) for s in found.segments_info] == [
        (1, "sky", True), (2, "cat", False), (3, "dog", False),
    ]  # fmt: skip


def test_without_masks_the_map_is_minus_one():
    found = segments_of(half_planes(), [], [])
    assert found.segments_info == []
    assert np.unique(found.segmentation).tolist() == [-1]


def test_queries_that_find_nothing_have_no_segment_but_a_share_in_the_classes_of_pixels():
    """As in transformers: a kept query may be surer of "no object" than of its class."""
    probabilities = np.array([[[0.9, 0.02, 0.03, 0.05], [0.02, 0.35, 0.03, 0.6], [0.02, 0.03, 0.4, 0.55]]], np.float32)
    masks = half_planes(range(3), range(3, 6), range(6, 8)).logits
    kept = np.array([[0, 0], [0, 1], [0, 2]])
    outputs = PanopticOutputs(np.log(probabilities), np.zeros((1, 3, 4), np.float32), kept, masks)
    mask, sizes_hw = np.ones((1, 32, 32), bool), np.array([[8, 8]])
    found = panoptic_of(outputs, mask, sizes_hw, NAMES, PanopticRules(threshold=0.3))
    assert [segment["label"] for segment in found.segments_info] == [NAMES[0]]
    assert semantic_of(outputs, mask, sizes_hw)[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
