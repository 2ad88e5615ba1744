"""Panoptic models: from the outputs of the network to detections with masks, and to segments of the image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from detr_onnx.defaults import DEFAULT_THRESHOLD
from detr_onnx.detections import Detections, softmax
from detr_onnx.engines import Floats, Mask, PanopticOutputs
from detr_onnx.masks import MaskLogits

Ints = NDArray[np.int64]

NO_SEGMENT, UNASSIGNED = -1, 0  # where there is no segment at all, and pixels that belong to none, as in transformers


class SegmentInfo(TypedDict):
    """One segment: its id in the map, its class, and the score in 0..1, rounded to six digits.

    `was_fused` is True if all segments of the class were to be fused.
    """

    id: int
    label_id: int
    label: str
    was_fused: bool
    score: float


@dataclass(frozen=True, eq=False)
class PanopticSegmentation:
    """The segments of one image.

    Attributes:
        segmentation: [H,W] int32 at the size of the upright image: the id of each pixel's segment, 0 where there is
            none; -1 everywhere if the image has no segment.
        segments_info: the segments, by id.
    """

    segmentation: NDArray[np.int32]
    segments_info: list[SegmentInfo]


@dataclass(frozen=True)
class PanopticRules:
    """Which masks become segments; names and defaults are those of transformers' DetrImageProcessor.

    Attributes:
        threshold: in 0..1; scores exceed it.
        mask_threshold: in 0..1; the probability times score from which on a pixel counts as part of a mask's full area.
        overlap_mask_area_threshold: in 0..1; the share of its full area that a mask has to exceed, or it is left out.
        label_ids_to_fuse: classes whose segments are one, such as sky.
    """

    threshold: float = DEFAULT_THRESHOLD
    mask_threshold: float = 0.5
    overlap_mask_area_threshold: float = 0.8
    label_ids_to_fuse: Collection[int] = ()


def kept_queries(outputs: PanopticOutputs) -> NDArray[np.bool_]:
    """[B,Q] the queries that have a mask."""
    kept = np.zeros(outputs.logits.shape[:2], np.bool_)
    kept[tuple(outputs.kept.T)] = True
    return kept


def mask_logits(outputs: PanopticOutputs, mask: Mask, sizes_hw: Ints, number: int) -> MaskLogits:
    """The masks of one image of the batch, in query order.

    Args:
        outputs: of the network, for the batch.
        mask: [B,H,W], True for image, False for padding.
        sizes_hw: [B,2] heights and widths of the original images, in pixels.
        number: the index of the image in the batch.
    """
    share_hw = float(mask[number].any(axis=1).mean()), float(mask[number].any(axis=0).mean())
    height, width = sizes_hw[number].tolist()
    return MaskLogits(outputs.masks[outputs.kept[:, 0] == number], share_hw, (height, width))


def with_masks(
    detections: Sequence[Detections], outputs: PanopticOutputs, mask: Mask, sizes_hw: Ints
) -> list[Detections]:
    """The detections of the kept queries of each image, with their masks."""
    return [
        replace(own, mask_logits=mask_logits(outputs, mask, sizes_hw, number)) for number, own in enumerate(detections)
    ]


def panoptic_of(
    outputs: PanopticOutputs, mask: Mask, sizes_hw: Ints, class_names: Sequence[str], rules: PanopticRules
) -> PanopticSegmentation:
    """The segments of the first image, from the queries whose best class is an object with a score above the threshold.

    Source: `remove_low_and_no_objects` of transformers' DetrImageProcessor.
    """
    masks = mask_logits(outputs, mask, sizes_hw, 0)
    probabilities = softmax(outputs.logits[0])[outputs.kept[outputs.kept[:, 0] == 0, 1]]  # [n,C+1]
    scores, class_ids = probabilities.max(axis=-1), probabilities.argmax(axis=-1)
    objects = (class_ids < len(class_names)) & (scores > rules.threshold)
    return combine_masks(masks[objects], scores[objects], class_ids[objects], class_names, rules)


def semantic_of(outputs: PanopticOutputs, mask: Mask, sizes_hw: Ints) -> NDArray[np.int32]:
    """[H,W] the best class of each pixel of the first image; every query must have a mask."""
    kept = outputs.kept[outputs.kept[:, 0] == 0, 1]
    return mask_logits(outputs, mask, sizes_hw, 0).semantic(softmax(outputs.logits[0, kept])[:, :-1])


def combine_masks(
    masks: MaskLogits,
    scores: Floats,
    class_ids: Ints,
    class_names: Sequence[str],
    rules: PanopticRules,
) -> PanopticSegmentation:
    """Gives every pixel to the mask with the highest probability times score; mostly covered masks are left out.

    Args:
        masks: n masks, of queries whose best class is an object with a score above the threshold.
        scores: [n] in 0..1.
        class_ids: [n].
        class_names: of all classes.
        rules: which masks become segments; `threshold` has been applied already.

    Source: `compute_segments` of transformers' DetrImageProcessor.
    """
    if not len(masks):
        return PanopticSegmentation(np.full(masks.image_hw, NO_SEGMENT, np.int32), [])
    owners, shares = _owners(masks, scores, rules.mask_threshold)
    segments: list[SegmentInfo] = []
    ids, fused = np.full(len(masks), UNASSIGNED, np.int32), dict[int, int]()
    for k in np.flatnonzero(shares.astype(np.float64) > rules.overlap_mask_area_threshold).tolist():
        class_id = int(class_ids[k])
        is_fused = class_id in rules.label_ids_to_fuse
        if class_id not in fused:
            name, score = class_names[class_id], round(float(scores[k]), 6)
            segment = SegmentInfo(id=len(segments) + 1, label_id=class_id, label=name, was_fused=is_fused, score=score)
            segments.append(segment)
            if is_fused:
                fused[class_id] = segment["id"]
        ids[k] = fused.get(class_id, len(segments))
    return PanopticSegmentation(ids[owners], segments)


def _owners(masks: MaskLogits, scores: Floats, mask_threshold: float) -> tuple[NDArray[np.int32], Floats]:
    """The mask [H,W] that each pixel goes to, and the share [n] of its full area that each mask gets."""
    owners, full_areas = np.empty(masks.image_hw, np.int32), np.zeros(len(masks), np.int64)
    for rows, probabilities in masks.blocks():
        weighted = probabilities * scores[:, None, None]
        owners[rows] = weighted.argmax(axis=0)
        full_areas += np.count_nonzero(weighted >= mask_threshold, axis=(1, 2))
    areas = np.bincount(owners.reshape(-1), minlength=len(masks)) * (full_areas > 0)
    shares = np.divide(areas, full_areas.clip(min=1), dtype=np.float32)  # 4/5 exceeds 0.8, as in torch
    return owners, shares
