"""An int8 network compared with fp32 on the same images, and the accuracy gate that it has to pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.detections import Detections, detections_of
from detr_onnx.engines.graph_engine import BOXES, KEPT, LOGITS, MASKS, PIXELS
from detr_onnx.engines.graph_engine import THRESHOLD as THRESHOLD_INPUT
from detr_onnx.evaluation.agreement import Agreement, agreement, pairs

Floats = NDArray[np.float32]
Run = Callable[[Mapping[str, Any], Sequence[str]], Mapping[str, Any]]
"""Inputs by name, and names of outputs -> these outputs, by name."""

IDENTICAL_AT_LEAST = 0.98  # share of the detections above `THRESHOLD` that int8 and fp32 have in common
SCORES_AT_MOST = 0.03  # mean difference of their scores
MASKS_AT_LEAST = 0.95  # mean IoU of their masks: a quarter of how far a DETR-R50's own are from the truth (SQ 79.3 %)
FEWEST_DETECTIONS = 50  # of fp32: with fewer, a single difference is more than 2 %
THRESHOLD = 0.5
STANDARD_ERRORS = 2  # above the bound: the images are a sample, and the bound should hold for others like them
CELLS, CELLS_EVERY = "projection", 7  # the last stage of the backbone, and one of how many of its values are kept
OUTPUTS = (LOGITS, BOXES, CELLS)


@dataclass(frozen=True)
class ImageOutputs:
    """What is kept of a network's outputs for one image.

    Attributes:
        detections: those above `THRESHOLD`.
        cells: a sample of what the backbone passes to the transformer; None if the noise is not measured here.
        masks: [n,h,w/8] of the detections, at the size of the network's output, with eight pixels per byte; None if the
            model has no mask head.
    """

    detections: Detections
    cells: Floats | None = None
    masks: NDArray[np.uint8] | None = None

    @classmethod
    def of(
        cls, outputs: Mapping[str, Any], sizes_hw: NDArray[np.int64], labels: Sequence[str], with_cells: bool
    ) -> ImageOutputs:
        """From a graph's outputs by name, for one image of this size [1,2]."""
        cells = sampled_cells(outputs) if with_cells else None
        logits, boxes = outputs[LOGITS], outputs[BOXES]
        if MASKS not in outputs:
            return cls(detections_of(logits, boxes, sizes_hw, labels, THRESHOLD)[0], cells)
        kept = np.zeros(logits.shape[:2], np.bool_)
        kept[tuple(outputs[KEPT].T)] = True
        detections = detections_of(logits, boxes, sizes_hw, labels, THRESHOLD, kept)[0]
        return cls(detections, cells, np.packbits(outputs[MASKS] >= 0, axis=-1))


def sampled_cells(outputs: Mapping[str, Any]) -> Floats:
    """[n] of what the backbone passes to the transformer."""
    cells: Floats = outputs[CELLS].ravel()[::CELLS_EVERY].copy()
    return cells


@dataclass(frozen=True)
class Trial:
    """One int8 network, compared with fp32.

    Attributes:
        method: how its ranges were chosen, one of `ranges.METHODS`.
        float_layers: convolutions of the backbone that are computed in float32.
        fp16_feed_forward: whether the feed-forward layers' weights have 16 bits instead of 8.
        agreement: of the detections.
        noise: `relative_noise` of the backbone's output, in some of the images. It is steadier than detections, which
            one level can change.
        mask_iou: mean IoU of the masks of identical detections; None if the model has no mask head, or there are none.
    """

    method: str
    float_layers: tuple[str, ...]
    fp16_feed_forward: bool
    agreement: Agreement
    noise: float
    mask_iou: float | None = None

    def refusal(self) -> tuple[str, str] | None:
        """Why the gate refuses it: what was found and what is expected; None if it passes."""
        agreed = self.agreement
        if agreed.reference < FEWEST_DETECTIONS:
            return (
                f"{agreed.reference} detections of fp32 in {agreed.images} images, too few to judge by",
                f"at least {FEWEST_DETECTIONS}",
            )
        identical, difference, required = (
            agreed.identical or 0.0,
            agreed.score_difference or 0.0,
            required_share(agreed.reference),
        )
        found, expected = (
            f"{identical:.1%} identical detections, scores differing by {difference:.4f}",
            (f"at least {required:.1%} and at most {SCORES_AT_MOST}"),
        )
        passes = identical >= required and difference <= SCORES_AT_MOST
        if self.mask_iou is not None:
            passes = passes and self.mask_iou >= MASKS_AT_LEAST
            found, expected = f"{found}, a mean IoU of masks of {self.mask_iou:.3f}", f"{expected}, {MASKS_AT_LEAST}"
        return None if passes else (found, expected)

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


def cells_of(outputs: Sequence[ImageOutputs]) -> list[Floats]:
    """The samples of cells, of the images that have one."""
    return [image.cells for image in outputs if image.cells is not None]


def agreement_of(expected: Sequence[ImageOutputs], found: Sequence[ImageOutputs]) -> Agreement:
    """Of the detections in the same images."""
    return agreement((reference.detections, other.detections) for reference, other in zip(expected, found, strict=True))


def mask_iou_of(expected: Sequence[ImageOutputs], found: Sequence[ImageOutputs]) -> float | None:
    """Mean IoU of the masks of the detections that both have; None without masks."""
    overlaps = []
    for reference, other in zip(expected, found, strict=True):
        if reference.masks is not None and other.masks is not None:
            matches = pairs(reference.detections, other.detections)
            overlaps += [_iou(reference.masks[i], other.masks[j]) for i, j, _ in matches]
    return float(np.mean(overlaps)) if overlaps else None


def _iou(mask: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """IoU of two masks of one size, eight pixels per byte; 1 if both are empty."""
    union = _pixels(mask | other)
    return _pixels(mask & other) / union if union else 1.0


def _pixels(mask: NDArray[np.uint8]) -> int:
    return int(np.count_nonzero(np.unpackbits(mask)))


def run_network(run: Run, pixels: Floats, has_masks: bool, others: Iterable[str] = ()) -> Mapping[str, Any]:
    """`OUTPUTS` and others by name, and of a panoptic model the masks of the detections above `THRESHOLD`."""
    names, feeds = [*OUTPUTS, *others], {PIXELS: pixels}
    if has_masks:
        names += [KEPT, MASKS]
        feeds[THRESHOLD_INPUT] = np.full(1, THRESHOLD, np.float32)
    return run(feeds, names)


def relative_noise(expected: Sequence[Floats], found: Sequence[Floats]) -> float:
    """Root mean square of what the backbone's output differs by, over that of the output; both as `sampled_cells`."""
    noise = np.mean([np.mean((reference - other) ** 2) for reference, other in zip(expected, found, strict=True)])
    signal = np.mean([np.mean(reference**2) for reference in expected])
    return float(np.sqrt(noise / signal))


@dataclass
class EarlyStop:
    """Whether a trial that is under way can end, because it cannot pass any more.

    Attributes:
        total: detections of fp32 in all images.
        reference, tested, matched: those of fp32, of int8 and of both, in the images so far.
    """

    total: int
    reference: int = 0
    tested: int = 0
    matched: int = 0

    def add(self, expected: ImageOutputs, found: ImageOutputs) -> None:
        """Counts the detections of one more image."""
        self.reference += len(expected.detections)
        self.tested += len(found.detections)
        self.matched += len(pairs(expected.detections, found.detections))

    def is_due(self) -> bool:
        """Whether too many detections differ, even if all in the remaining images agree.

        With so few detections that no trial passes, each runs to its end, for the figures.
        """
        identical = self.matched + self.total - self.reference
        share = identical / max(1, self.tested - self.matched + self.total)
        return self.total >= FEWEST_DETECTIONS and share < required_share(self.total)


def required_share(detections: int) -> float:
    """The share of identical detections to pass: the bound plus two standard errors of that number of detections."""
    bound = IDENTICAL_AT_LEAST
    error = math.sqrt(bound * (1 - bound) / max(1, detections))
    return min(1.0, bound + STANDARD_ERRORS * error)
