"""`detr-onnx verify` of an official name: its published outputs, with a small model in place of the official one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detector
from detr_onnx.verify import published
from detr_onnx.verify.published import PUBLISHED, Detected, Outputs, Panoptic, Published
from tests.small_model import patches, sample_image, write_panoptic_checkpoint, write_small_checkpoint
from tests.verify.pinned import FILES, OFFICIAL, cached
from tests.verify.test_verify import lines_of

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

IMAGE = "golden.png"
OF_ENGINES = ("logits", "boxes", "labels", "scores", "first box, px", "whole pixels")


def rounded(array) -> tuple[tuple[float, ...], ...]:
    """The part that is published, to four digits."""
    return tuple(tuple(round(float(value), 4) for value in row) for row in array[0, :3, :3])


def outputs_of(model: Path, image: Image.Image) -> Outputs:
    """The published outputs, were they of this model."""
    detector = Detector(model, engine="numpy")
    pixels, mask, _ = detector.preprocess([image])
    logits, boxes = detector.network(pixels, mask)
    found = detector(image, published.THRESHOLD)
    boxes_px = [[float(value) for value in row] for row in found.xyxy]
    detected = Detected(
        tuple(round(float(score), 4) for score in found.scores),
        tuple(found.labels),
        tuple(round(value, 4) for value in boxes_px[0]),
        tuple(tuple(map(int, row)) for row in boxes_px),
    )
    return Outputs(rounded(logits), rounded(boxes), detections=detected)


def panoptic_of(model: Path, image: Image.Image) -> Panoptic:
    """The published masks and segments, were they of this model."""
    detector = Detector(model, engine="numpy")
    pixels, mask, _ = detector.preprocess([image])
    masks = detector.segment(pixels, mask, 0.0).masks
    found = detector.panoptic(image, published.THRESHOLD)
    first = found.segments_info[0]
    return Panoptic(
        masks.shape,
        rounded(masks),
        len(found.segments_info),
        (first["id"], first["label_id"], first["was_fused"]),
        round(first["score"], 4),
        int(found.segmentation[0, 0]),
    )


@pytest.fixture
def publish(few_images, monkeypatch):
    """Saves `IMAGE` into the working directory, and makes these outputs the published ones of an official name."""

    def publish(name: str, model: Path, image: Image.Image, values: Outputs) -> None:
        image.save(IMAGE)
        pixels = Detector(model, engine="numpy").preprocess([image])[0]
        monkeypatch.setattr(published, "PIXELS_SHAPE", pixels.shape)
        monkeypatch.setattr(published, "PIXELS", tuple(round(float(value), 4) for value in pixels[0, 0, 0, :3]))
        monkeypatch.setitem(PUBLISHED, name, Published(values))

    return publish


@pytest.fixture
def values(small, publish) -> Outputs:
    """Published outputs of the small model under the official name."""
    image = sample_image(90, 60, 5)
    values = outputs_of(small, image)
    publish(OFFICIAL, small, image, values)
    return values


def test_another_model_under_the_official_name_fails_on_the_published_numbers(verify, stand_in):
    status, out, _ = verify(OFFICIAL)
    assert (status, lines_of(out, "FAILED").keys()) == (1, {"tensors", "parameters"})
    assert set(FILES) <= lines_of(out, "ok").keys()
    assert "--golden-image must name 000000039769.png" in lines_of(out, "not tried")["outputs"]


def test_a_damaged_config_of_the_official_model_is_named_offline(verify, stand_in, tmp_path):
    verify(OFFICIAL)
    config = cached(tmp_path, "config.json", OFFICIAL)
    config.write_bytes(config.read_bytes() + b" ")
    status, out, _ = verify(OFFICIAL, "--offline")
    assert (status, lines_of(out, "FAILED").keys()) == (1, {"config.json"})
    assert "the pinned file" in lines_of(out, "FAILED")["config.json"]


def test_another_revision_of_the_official_name_is_not_compared_with_the_pinned_files(verify, stand_in, small):
    content = {name: (small / name).read_bytes() for name in FILES}
    content["config.json"] += b"\n"
    stand_in.add(OFFICIAL, content, commit="c" * 40, revision="later")
    status, out, _ = verify(f"{OFFICIAL}@later")
    assert (status, lines_of(out, "FAILED").keys()) == (1, {"tensors", "parameters"})
    assert all("as the hub announced it" in lines_of(out, "ok")[file] for file in FILES)


@pytest.mark.parametrize("variable", [False, True])
def test_the_model_of_the_published_outputs_agrees(verify, stand_in, values, monkeypatch, variable):
    if variable:
        monkeypatch.setenv("DETR_ONNX_GOLDEN_IMAGE", IMAGE)
    status, out, _ = verify(OFFICIAL, *([] if variable else ["--golden-image", IMAGE]))
    assert (status, lines_of(out, "FAILED")) == (0, {}), out
    assert values.detections
    of_engines = {f"{engine} fp32, {name}" for engine in ("numpy", "onnxruntime") for name in OF_ENGINES}
    assert of_engines | {"pixels", "pixels, shape"} <= lines_of(out, "ok").keys()


def test_other_weights_fail_on_the_published_outputs(verify, values, tmp_path):
    other = write_small_checkpoint(tmp_path / "other", seed=8)
    status, out, _ = verify(other, "--published", OFFICIAL, "--golden-image", IMAGE)
    assert status == 1
    assert {"numpy fp32, logits", "onnxruntime fp32, logits", "numpy fp32, boxes"} <= lines_of(out, "FAILED").keys()
    assert {"pixels", "pixels, shape"} <= lines_of(out, "ok").keys()


def test_another_image_fails_on_the_pixels(verify, small, values):
    sample_image(80, 60, 6).save("another.png")
    status, out, _ = verify(small, "--published", OFFICIAL, "--golden-image", "another.png")
    assert status == 1
    assert {"pixels", "pixels, shape", "numpy fp32, logits"} <= lines_of(out, "FAILED").keys()


def test_masks_and_segments_are_compared_and_those_of_others_fail(verify, publish, tmp_path):
    model, image = write_panoptic_checkpoint(tmp_path / "panoptic"), patches(160, 120)
    name = f"{OFFICIAL}-panoptic"
    right = replace(outputs_of(model, image), detections=None, panoptic=panoptic_of(model, image))
    publish(name, model, image, right)
    arguments = (model, "--published", name, "--golden-image", IMAGE)
    status, out, _ = verify(*arguments)
    assert status == 0, out
    of_numpy = {"numpy, shape of the masks", "numpy, masks"}
    of_engine = {f"onnxruntime fp32, {what}" for what in ("segments", "first segment", "its score", "corner")}
    assert of_numpy | of_engine <= lines_of(out, "ok").keys()
    masks = tuple(map(tuple, np.array(right.panoptic.masks) + 0.01))
    wrong = Panoptic((1, 2, 3), masks, 99, (7, 7, True), right.panoptic.first_score + 0.01, right.panoptic.corner + 1)
    publish(name, model, image, replace(right, panoptic=wrong))
    status, out, _ = verify(*arguments)
    assert status == 1
    assert of_numpy | of_engine <= lines_of(out, "FAILED").keys()
