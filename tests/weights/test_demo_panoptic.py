"""The shipped panoptic model on the shipped image: the demo's detections, with the pixels of each object."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detector
from detr_onnx.cli import main as cli
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import PANOPTIC_INDEX, demo_directory, demo_image
from tests.weights.test_demo import assert_same

SEGMENTS = Path(__file__).parent / "demo-scene-segments.png"  # by weights/training/example.py: exact, not predicted
MASK_IOU = 0.7  # of each object with its true pixels; PQ on many scenes is in weights/README.md
ENGINE_IOU = 0.999  # a few pixels at an edge are rounded to the other side
MASK_LOGITS_TOLERANCE = 1e-3  # of their standard deviation: float32 sums in another order


@pytest.fixture(scope="module", params=["numpy", "onnxruntime", "openvino"])
def detector(request, tmp_path_factory) -> Detector:
    if request.param != "numpy":
        pytest.importorskip("onnx")
        pytest.importorskip(request.param)
    return Detector("demo-panoptic", engine=request.param, precision="fp32", cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def expected():
    return Detector("demo-panoptic", engine="numpy")(demo_image())


def intersection_over_union(mask: np.ndarray, other: np.ndarray) -> float:
    return (mask & other).sum() / (mask | other).sum()


def test_the_detections_are_those_of_the_demo(expected):
    assert_same(expected, Detector("demo", engine="numpy")(demo_image()))


def test_the_masks_are_the_objects_of_the_scene(expected):
    with Image.open(SEGMENTS) as image:
        coco_ids = np.asarray(image)
    assert sorted(np.unique(coco_ids).tolist()) == [0, *sorted(expected.class_ids.tolist())]
    ious = [
        intersection_over_union(mask, coco_ids == coco_id)
        for mask, coco_id in zip(expected.masks, expected.class_ids, strict=True)
    ]
    assert min(ious) > MASK_IOU, ious


def test_every_engine_has_the_same_masks(detector, expected):
    found = detector(demo_image())
    assert [d.label for d in found] == [d.label for d in expected]
    ious = [intersection_over_union(*pair) for pair in zip(found.masks, expected.masks, strict=True)]
    assert min(ious) > ENGINE_IOU, ious


def test_without_a_detection_there_is_no_mask(detector):
    found = detector(np.full((240, 320, 3), 124, np.uint8), threshold=0.9)
    assert found.masks.shape == (0, 240, 320)


def test_the_index_has_the_tensors_of_the_demo_and_of_the_mask_head_in_half_precision():
    checkpoint, preprocessing = read_model(demo_directory() / PANOPTIC_INDEX)
    demo, demo_preprocessing = read_model(demo_directory())
    head = checkpoint.tensors.keys() - demo.tensors.keys()
    assert {name.partition(".")[0] for name in head} == {"bbox_attention", "mask_head"}
    assert all(np.array_equal(checkpoint.tensors[name], tensor) for name, tensor in demo.tensors.items())
    assert all(np.array_equal(checkpoint.tensors[name], checkpoint.tensors[name].astype(np.float16)) for name in head)
    assert preprocessing == demo_preprocessing


def test_the_command_prints_what_the_demo_prints_and_draws_the_masks(capsys, tmp_path):
    pictures, printed = [tmp_path / "demo.png", tmp_path / "panoptic.png"], []
    for options, picture in zip(([], ["--panoptic"]), pictures, strict=True):
        assert cli.main(["demo", "--engine", "numpy", "--save", str(picture), *options]) == 0
        streams = capsys.readouterr()
        printed.append(json.loads(streams.out))
        assert streams.err == ""
    assert printed[1] == printed[0]
    plain, masked = (np.asarray(Image.open(picture).convert("RGB"), np.int16) for picture in pictures)
    with Image.open(SEGMENTS) as image:
        is_object = np.asarray(image) > 0
    differs = np.abs(masked - plain).max(axis=2) > 0
    assert differs[is_object].mean() > 0.7
    assert differs[~is_object].mean() < 0.2  # boxes and labels have other colours


def test_it_is_for_drawings_and_says_so_of_other_images(capsys, tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "black.png")
    for image, noted in ((demo_image(), False), (tmp_path / "black.png", True)):
        assert cli.main(["detect", str(image), "-m", "demo-panoptic", "--engine", "numpy"]) == 0
        assert ("recognises drawings" in capsys.readouterr().err) == noted


@pytest.mark.oracle
def test_the_masks_are_those_of_transformers(expected):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests.parity.oracle import torch_model, torch_stages

    torch.set_num_threads(1)
    checkpoint, _ = read_model(demo_directory() / PANOPTIC_INDEX)
    pixels, mask, _ = Detector("demo-panoptic", engine="numpy").preprocess([demo_image()])
    stages = torch_stages(torch_model(checkpoint.config, checkpoint.tensors), pixels, mask)
    for logits in expected.mask_logits.logits:
        differences = np.abs(stages["masks"] - logits).max(axis=(1, 2))  # of each query
        assert differences.min() < MASK_LOGITS_TOLERANCE * logits.std()
