"""From the outputs of a panoptic network to detections with masks, and to segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detr_onnx.detections import Detections, softmax
from detr_onnx.engines import Mask, Segments
from detr_onnx.masks import MaskLogits, PanopticRules, PanopticSegmentation, panoptic

Ints = NDArray[np.int64]


def kept_queries(segments: Segments) -> NDArray[np.bool_]:
    """[B,Q] the queries that have a mask."""
    kept = np.zeros(segments.logits.shape[:2], np.bool_)
    kept[tuple(segments.kept.T)] = True
    return kept


def mask_logits(segments: Segments, mask: Mask, sizes_hw: Ints, number: int) -> MaskLogits:
    """The masks of one image of the batch, in query order.

    Args:
        segments: of the batch.
        mask: [B,H,W], True for image.
        sizes_hw: [B,2] heights and widths of the original images, in pixels.
        number: of the image.
    """
    share_hw = float(mask[number].any(axis=1).mean()), float(mask[number].any(axis=0).mean())
    height, width = sizes_hw[number].tolist()
    return MaskLogits(segments.masks[segments.kept[:, 0] == number], share_hw, (height, width))


def with_masks(detections: Sequence[Detections], segments: Segments, mask: Mask, sizes_hw: Ints) -> list[Detections]:
    """The detections of the kept queries of each image, with their masks."""
    return [
        replace(own, mask_logits=mask_logits(segments, mask, sizes_hw, number)) for number, own in enumerate(detections)
    ]


def panoptic_of(
    segments: Segments, mask: Mask, sizes_hw: Ints, class_names: Sequence[str], rules: PanopticRules
) -> PanopticSegmentation:
    """The segments of the first image. Queries are kept whose most probable class is an object, above the threshold.

    Source: `remove_low_and_no_objects` of transformers' DetrImageProcessor.
    """
    masks = mask_logits(segments, mask, sizes_hw, 0)
    probabilities = softmax(segments.logits[0])[segments.kept[segments.kept[:, 0] == 0, 1]]  # [n,C+1]
    scores, class_ids = probabilities.max(axis=-1), probabilities.argmax(axis=-1)
    objects = (class_ids < len(class_names)) & (scores > rules.threshold)
    return panoptic(masks[objects], scores[objects], class_ids[objects], class_names, rules)


def semantic_of(segments: Segments, mask: Mask, sizes_hw: Ints) -> NDArray[np.int32]:
    """[H,W] the best class of each pixel of the first image; every query must have a mask."""
    kept = segments.kept[segments.kept[:, 0] == 0, 1]
    return mask_logits(segments, mask, sizes_hw, 0).semantic(softmax(segments.logits[0, kept])[:, :-1])
