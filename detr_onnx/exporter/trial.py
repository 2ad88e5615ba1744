"""An int8 network compared with fp32 on the same images, and the accuracy gate that it has to pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.detections import Detections, detections_of
from detr_onnx.engines.graph import BOXES, KEPT, LOGITS, MASKS, PIXELS
from detr_onnx.engines.graph import THRESHOLD as THRESHOLD_INPUT
from detr_onnx.evaluation.agreement import Agreement, agreement, pairs

Floats = NDArray[np.float32]
Run = Callable[[Mapping[str, Any], Sequence[str]], Mapping[str, Any]]
"""Inputs by name, and names of outputs -> these outputs, by name."""

IDENTICAL_AT_LEAST = 0.98  # share of the detections above `THRESHOLD` that int8 and fp32 have in common
SCORES_AT_MOST = 0.03  # mean difference of their scores
MASKS_AT_LEAST = 0.95  # mean IoU of their masks: a quarter of how far a DETR-R50's own are from the truth (SQ 79.3 %)
FEWEST_DETECTIONS = 50  # of fp32: with fewer, a single difference is more than 2 %
THRESHOLD = 0.5
STANDARD_ERRORS = 2  # above the bound that the images, a sample, have to be: then it holds for others like them too
CELLS, CELLS_EVERY = "projection", 7  # the last stage of the backbone, and one of how many of its values are kept
OUTPUTS = (LOGITS, BOXES, CELLS)


@dataclass(frozen=True)
class ImageOutputs:
    """What a network computes for one image.

    Attributes:
        logits: [1,Q,C+1].
        boxes_cxcywh: [1,Q,4].
        sizes_hw: [1,2] of the image, in pixels.
        cells: a sample of what the backbone passes to the transformer.
        kept: [1,Q] the queries that have masks; None if the model has no mask head.
        masks: [n,h,w] of the kept queries, at the size of the network's output; None likewise.
    """

    logits: Floats
    boxes_cxcywh: Floats
    sizes_hw: NDArray[np.int64]
    cells: Floats
    kept: NDArray[np.bool_] | None = None
    masks: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, outputs: Mapping[str, Any], sizes_hw: NDArray[np.int64]) -> ImageOutputs:
        """From a graph's outputs by name."""
        cells = outputs[CELLS].ravel()[::CELLS_EVERY].copy()
        if MASKS not in outputs:
            return cls(outputs[LOGITS], outputs[BOXES], sizes_hw, cells)
        kept = np.zeros(outputs[LOGITS].shape[:2], np.bool_)
        kept[tuple(outputs[KEPT].T)] = True
        return cls(outputs[LOGITS], outputs[BOXES], sizes_hw, cells, kept, outputs[MASKS] >= 0)

    def detections(self, labels: tuple[str, ...]) -> Detections:
        """Those above `THRESHOLD`."""
        return detections_of(self.logits, self.boxes_cxcywh, self.sizes_hw, labels, THRESHOLD, self.kept)[0]


@dataclass(frozen=True)
class Trial:
    """One int8 network, compared with fp32.

    Attributes:
        method: how its ranges were chosen, one of `ranges.METHODS`.
        float_layers: convolutions of the backbone that are computed in float32.
        fp16_feed_forward: whether the feed-forward layers' weights have 16 bits instead of 8.
        agreement: of the detections.
        noise: `relative_noise` of the backbone's output. It is steadier than detections, which one level can change.
        mask_iou: mean IoU of the masks of identical detections; None if the model has no mask head, or there are none.
    """

    method: str
    float_layers: tuple[str, ...]
    fp16_feed_forward: bool
    agreement: Agreement
    noise: float
    mask_iou: float | None = None

    def trouble(self) -> tuple[str, str] | None:
        """Why the gate refuses it: what was found and what is expected; None if it passes."""
        agreed = self.agreement
        if agreed.reference < FEWEST_DETECTIONS:
            return (
                f"{agreed.reference} detections of fp32 in {agreed.images} images, too few to judge by",
                f"at least {FEWEST_DETECTIONS}",
            )
        identical, difference, required = agreed.identical or 0.0, agreed.score_difference or 0.0, self.required()
        found, expected = (
            f"{identical:.1%} identical detections, scores differing by {difference:.4f}",
            (f"at least {required:.1%} and at most {SCORES_AT_MOST}"),
        )
        passes = identical >= required and difference <= SCORES_AT_MOST
        if self.mask_iou is not None:
            passes = passes and self.mask_iou >= MASKS_AT_LEAST
            found, expected = f"{found}, a mean IoU of masks of {self.mask_iou:.3f}", f"{expected}, {MASKS_AT_LEAST}"
        return None if passes else (found, expected)

    def required(self) -> float:
        """The share of identical detections to pass: the bound and two standard errors of so many above it."""
        bound = IDENTICAL_AT_LEAST
        error = math.sqrt(bound * (1 - bound) / max(1, self.agreement.reference))
        return min(1.0, bound + STANDARD_ERRORS * error)

    def figures(self) -> dict[str, Any]:
        """The measurements, for JSON."""
        return {
            "method": self.method,
            "float_layers": list(self.float_layers),
            "feed_forward_weights": "fp16" if self.fp16_feed_forward else "int8",
            "noise": round(self.noise, 6),
            **asdict(self.agreement),
            **({} if self.mask_iou is None else {"mask_iou": round(self.mask_iou, 4)}),
        }


def agreement_of(expected: Sequence[ImageOutputs], found: Sequence[ImageOutputs], labels: tuple[str, ...]) -> Agreement:
    """Of the detections in the same images."""
    pairs = zip(expected, found, strict=True)
    return agreement((reference.detections(labels), other.detections(labels)) for reference, other in pairs)


def mask_iou_of(
    expected: Sequence[ImageOutputs], found: Sequence[ImageOutputs], labels: tuple[str, ...]
) -> float | None:
    """Mean IoU of the masks of the detections that both have; None without masks."""
    overlaps = []
    for reference, other in zip(expected, found, strict=True):
        if reference.masks is not None and other.masks is not None:
            matches = pairs(reference.detections(labels), other.detections(labels))
            overlaps += [_iou(reference.masks[i], other.masks[j]) for i, j, _ in matches]
    return float(np.mean(overlaps)) if overlaps else None


def _iou(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Of two masks of one size; 1 if both are empty."""
    union = np.count_nonzero(mask | other)
    return np.count_nonzero(mask & other) / union if union else 1.0


def run_network(run: Run, pixels: Floats, has_masks: bool, others: Iterable[str] = ()) -> Mapping[str, Any]:
    """`OUTPUTS` and others by name, and of a panoptic model the masks of the detections above `THRESHOLD`."""
    names, feeds = [*OUTPUTS, *others], {PIXELS: pixels}
    if has_masks:
        names += [KEPT, MASKS]
        feeds[THRESHOLD_INPUT] = np.full(1, THRESHOLD, np.float32)
    return run(feeds, names)


def relative_noise(expected: Sequence[ImageOutputs], found: Sequence[ImageOutputs]) -> float:
    """Root mean square of what the backbone's output differs by, over that of the output; of the first images."""
    pairs = list(zip(expected[: len(found)], found, strict=True))
    noise = np.mean([np.mean((reference.cells - other.cells) ** 2) for reference, other in pairs])
    signal = np.mean([np.mean(reference.cells**2) for reference, _ in pairs])
    return float(np.sqrt(noise / signal))
