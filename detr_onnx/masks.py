"""Masks of a panoptic model: their probabilities at the size of the image, and the segments that they make of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from detr_onnx.defaults import DEFAULT_THRESHOLD
from detr_onnx.rle import Rle, encode

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

BLOCK_FLOATS = 1 << 22  # of probabilities at a time: 16 MB
MASK_THRESHOLD = 0.5  # probability from which on a pixel belongs to a mask
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


@dataclass(frozen=True, eq=False)
class MaskLogits:
    """Masks as the network computes them.

    Attributes:
        logits: [n,h,w].
        share_hw: the share of h and of w that is image and not padding.
        image_hw: height and width of the upright image, in pixels.
    """

    logits: Floats
    share_hw: tuple[float, float]
    image_hw: tuple[int, int]

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: Any) -> MaskLogits:
        return replace(self, logits=self.logits[rows])

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Rows of the image, and the probabilities [n,rows,W] in 0..1 there, for a few rows at a time."""
        return self._resized(self._probabilities())

    def semantic(self, class_probabilities: Floats) -> NDArray[np.int32]:
        """[H,W] the best class of each pixel: that of the masks there, each as probable as its query says.

        Args:
            class_probabilities: [n,C] of each mask; there must be one.

        Source: `post_process_semantic_segmentation` of transformers' DetrImageProcessor.
        """
        classes: Floats = np.tensordot(class_probabilities.T, self._probabilities(), 1)  # [C,h,w]
        best = np.empty(self.image_hw, np.int32)
        for rows, probabilities in self._resized(classes):
            best[rows] = probabilities.argmax(axis=0)
        return best

    def _probabilities(self) -> Floats:
        """[n,h,w] in 0..1."""
        half: Floats = 0.5 * np.tanh(0.5 * self.logits)
        return half + np.float32(0.5)

    def _resized(self, values: Floats) -> Iterator[tuple[slice, Floats]]:
        """Rows of the image, and the values [m,h,w] as [m,rows,W] there."""
        H, W = self.image_hw
        values = values if len(values) else np.zeros((0, 1, 1), np.float32)  # OpenVINO 2025.0: no masks of no size
        down, right = (
            _neighbours(cells, share, pixels)
            for cells, share, pixels in zip(values.shape[1:], self.share_hw, self.image_hw, strict=True)
        )
        count = max(1, BLOCK_FLOATS // (W * max(1, len(values))))
        for top in range(0, H, count):
            rows = slice(top, min(top + count, H))
            upper, lower, share = (line[rows] for line in down)
            wide = [_mixed(values[:, near], right) for near in (upper, lower)]  # [m,rows,W]
            yield rows, (1 - share)[:, None] * wide[0] + share[:, None] * wide[1]

    def boolean(self) -> NDArray[np.bool_]:
        """[n,H,W]: where the probability is at least a half."""
        masks = np.empty((len(self), *self.image_hw), np.bool_)
        for rows, probabilities in self.blocks():
            masks[:, rows] = probabilities >= MASK_THRESHOLD
        return masks

    def rles(self) -> Iterator[Rle]:
        """The run lengths of each of the n masks, as COCO writes them; one mask at a time is in memory."""
        return (encode(self[k : k + 1].boolean()[0]) for k in range(len(self)))


def _neighbours(cells: int, share: float, pixels: int) -> tuple[Ints, Ints, Floats]:
    """[pixels] the two nearest cells of each pixel, and the weight of the second.

    Source: torch.nn.functional.interpolate, mode "bilinear", align_corners False.
    """
    scale, used = np.float32(cells * share / pixels), max(1, int(np.ceil(cells * share)))
    centres = scale * (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    centres = centres.clip(min=0)
    first = centres.astype(np.int64).clip(max=used - 1)
    return first, (first + 1).clip(max=used - 1), (centres - first.astype(np.float32)).clip(max=1)


def _mixed(rows: Floats, right: tuple[Ints, Ints, Floats]) -> Floats:
    """[n,rows,w] -> [n,rows,W]."""
    first, second, share = right
    mixed: Floats = (1 - share) * rows[..., first] + share * rows[..., second]
    return mixed


def panoptic(
    masks: MaskLogits,
    scores: Floats,
    class_ids: Ints,
    class_names: Sequence[str],
    rules: PanopticRules,
) -> PanopticSegmentation:
    """Every pixel belongs to the mask with the highest probability times score; masks that are mostly covered go.

    Args:
        masks: of the queries whose most probable class is an object, with scores above the threshold.
        scores: [n] in 0..1.
        class_ids: [n].
        class_names: of all classes.
        rules: the others.

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
