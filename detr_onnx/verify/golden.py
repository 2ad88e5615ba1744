"""The published outputs of the official models, on their image, by every engine in float32."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.detections import Detections, detections_of
from detr_onnx.engines import PanopticOutputs
from detr_onnx.errors import DetrError
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.preprocess import batch
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import OpenModel
from detr_onnx.network.detr import detr, panoptic_detr, parameters
from detr_onnx.network.numpy_ops import NumpyOps
from detr_onnx.panoptic import PanopticRules, panoptic_of
from detr_onnx.verify import published
from detr_onnx.verify.checks import FAILED, NOT_TRIED, Check, Notice, judged
from detr_onnx.verify.compare import Inputs
from detr_onnx.verify.engines import Subject
from detr_onnx.verify.published import Detected, Panoptic

SECTION = "published values"
PART = np.s_[0, :3, :3]
EVERY_QUERY = -1.0  # a threshold below every score


def close(name: str, found: Any, expected: Any, tolerance: float) -> Check:
    """Whether two arrays agree to a tolerance."""
    actual, wanted = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if actual.shape != wanted.shape:
        return judged(SECTION, name, False, f"shape {list(actual.shape)}", f"shape {list(wanted.shape)}")
    off = float(np.abs(actual - wanted).max(initial=0.0))
    expected_words = f"at most {tolerance:.0e}"
    figures = {"off": off if math.isfinite(off) else None, "at_most": tolerance}  # JSON has no other numbers
    return judged(SECTION, name, off <= tolerance, f"off by {off:.1e}", expected_words, figures)


def same(name: str, found: object, expected: object) -> Check:
    return judged(SECTION, name, found == expected, str(found), str(expected))


def check_golden(
    subject: Subject, values: published.Outputs | None, image: Path | None, notice: Notice
) -> Iterator[Check]:
    """Checks of the published values of a model; without the image, only of the numbers of tensors and parameters."""
    if values is None:
        yield Check(SECTION, "outputs", NOT_TRIED, "none are published for this model")
        return
    checkpoint, preprocessing = read_model(Path(subject.source.checkpoint or ""))
    yield from check_tensors(checkpoint, values)
    if image is None:
        reason = f"--golden-image must name {published.IMAGE_NAME}, which is not part of the package"
        yield Check(SECTION, "outputs", NOT_TRIED, reason)
        return
    inputs = batch([read_rgb(image)], preprocessing)
    yield from check_pixels(inputs)
    notice("published values: numpy, stage by stage")
    yield from check_stages(checkpoint, values, inputs)
    for contender in subject.contenders:
        if contender.precision != "fp32" or contender.reason is not None:
            continue
        notice(f"published values: {contender.engine}")
        try:
            yield from check_engine(contender.name, subject.open(contender.engine, "fp32"), values, inputs)
        except DetrError as error:
            yield Check(SECTION, contender.name, FAILED, str(error))


def check_tensors(checkpoint: Checkpoint, values: published.Outputs) -> Iterator[Check]:
    """The number of tensors, and of the parameters in them."""
    if values.tensors is not None:
        yield same("tensors", len(checkpoint.tensors), values.tensors)
        yield same("parameters", sum(t.size for t in checkpoint.tensors.values()), values.parameters)


def check_pixels(inputs: Inputs) -> Iterator[Check]:
    """The preprocessed image. It does not depend on the weights, so a failure here means that the image is wrong."""
    yield same("pixels, shape", inputs[0].shape, published.PIXELS_SHAPE)
    yield close("pixels", inputs[0][0, 0, 0, :3], published.PIXELS, published.TOLERANCE_PIXELS)


def check_stages(checkpoint: Checkpoint, values: published.Outputs, inputs: Inputs) -> Iterator[Check]:
    """The hidden state and the masks of every query, which only the numpy implementation gives access to."""
    ops = NumpyOps(parameters(checkpoint.tensors), stages={})
    if checkpoint.config.masks:
        panoptic_detr(ops, checkpoint.config, inputs[0], None, np.full(1, EVERY_QUERY, np.float32))
    else:
        detr(ops, checkpoint.config, inputs[0], None)
    stages = ops.stages or {}
    if values.last_hidden_state:
        yield close("numpy, last hidden state", stages["decoder"][PART], values.last_hidden_state, published.TOLERANCE)
    if values.panoptic is not None:
        yield same("numpy, shape of the masks", stages["masks"].shape, values.panoptic.shape)
        found = stages["masks"][PART]
        yield close("numpy, masks", found, values.panoptic.masks, published.TOLERANCE_MASKS)


def check_engine(name: str, model: OpenModel, values: published.Outputs, inputs: Inputs) -> Iterator[Check]:
    """Logits, boxes, and the detections or segments of an engine."""
    pixels, mask, sizes_hw = inputs
    logits, boxes = model.engine.network(pixels, mask)
    yield close(f"{name}, logits", logits[PART], values.logits, published.TOLERANCE)
    yield close(f"{name}, boxes", boxes[PART], values.boxes_cxcywh, published.TOLERANCE)
    if values.detections is not None:
        found = detections_of(logits, boxes, sizes_hw, model.labels, published.THRESHOLD)[0]
        yield from check_detections(name, found, values.detections)
    if values.panoptic is not None and model.engine.segment is not None:
        segments = model.engine.segment(pixels, mask, published.THRESHOLD)
        yield from check_panoptic(name, segments, inputs, model.labels, values.panoptic)


def check_detections(name: str, found: Detections, values: Detected) -> Iterator[Check]:
    """Labels, scores and boxes in pixels."""
    yield same(f"{name}, labels", tuple(d.label for d in found), values.labels)
    yield close(f"{name}, scores", found.scores, values.scores, published.TOLERANCE)
    yield close(f"{name}, first box, px", found.xyxy[:1], [values.first_xyxy_px], published.TOLERANCE_BOX_PX)
    whole = tuple(tuple(row) for row in np.trunc(found.xyxy).astype(int).tolist())
    yield same(f"{name}, whole pixels", whole, values.whole_xyxy_px)


def check_panoptic(
    name: str, segments: PanopticOutputs, inputs: Inputs, labels: tuple[str, ...], values: Panoptic
) -> Iterator[Check]:
    """The segments of the panoptic postprocessing."""
    found = panoptic_of(segments, inputs[1], inputs[2], labels, PanopticRules(published.THRESHOLD))
    yield same(f"{name}, segments", len(found.segments_info), values.segments)
    if found.segments_info:
        first = found.segments_info[0]
        yield same(f"{name}, first segment", (first["id"], first["label_id"], first["was_fused"]), values.first)
        yield close(f"{name}, its score", [first["score"]], [values.first_score], published.TOLERANCE)
    yield same(f"{name}, corner", np.unique(found.segmentation[:3, :3]).tolist(), [values.corner])
