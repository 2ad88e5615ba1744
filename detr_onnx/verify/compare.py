"""The outputs of a network for each case, and how far two networks differ."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.defaults import DEFAULT_THRESHOLD
from detr_onnx.detections import Detections, detections_of, softmax
from detr_onnx.engines import Floats, PanopticOutputs
from detr_onnx.evaluation.agreement import agreement
from detr_onnx.image.preprocess import batch
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.open import OpenModel
from detr_onnx.verify.bars import BARS, FEWEST_DETECTIONS, Bar
from detr_onnx.verify.images import Case

Inputs = tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]
MASKS_KEPT = 3  # queries whose masks are compared


@dataclass(frozen=True)
class Outputs:
    """What a network computes for a case: logits [B,Q,C+1], boxes [B,Q,4], and the masks of some queries or None."""

    logits: Floats
    boxes: Floats
    masks: PanopticOutputs | None = None

    @property
    def finite(self) -> bool:
        arrays = [self.logits, self.boxes, *([self.masks.masks] if self.masks is not None else [])]
        return all(bool(np.isfinite(array).all()) for array in arrays)

    def mask_threshold(self) -> float:
        """A threshold halfway between two scores, which the `MASKS_KEPT` best queries of the first image exceed."""
        scores = np.sort(softmax(self.logits[:1])[..., :-1].max(axis=-1).ravel())[::-1]
        kept = min(MASKS_KEPT, scores.size - 1)
        return float(scores[kept - 1] + scores[kept]) / 2


@dataclass(frozen=True)
class Shape:
    """What decides the pixels that a network gets for a case; networks of the same shape get the same pixels."""

    preprocessing: Preprocessing
    canvas_hw: tuple[int, int] | None
    batch: int | None

    @classmethod
    def of(cls, model: OpenModel) -> Shape:
        return cls(model.preprocessing, model.engine.canvas_hw, model.engine.batch)

    def inputs(self, case: Case) -> Inputs:
        """Pixels, mask and sizes; if the network's batch is larger than the case, its images are repeated.

        Logits and boxes of all are compared, detections and masks of the case's own images only.
        """
        images = (case.images * (self.batch or 1))[: self.batch or len(case.images)]
        return batch(images, self.preprocessing, canvas_hw=self.canvas_hw)


def fits(model: OpenModel, case: Case) -> bool:
    """Whether the network can take the case: a batch of two sizes needs a mask."""
    return len(case.images) == 1 or (model.engine.batches_mixed_sizes and model.engine.batch != 1)


@dataclass(frozen=True)
class Difference:
    """How far outputs differ from a reference's; see `bars.Bar` for the units.

    Attributes:
        masks_mean: mean absolute difference of mask logits, in their standard deviations; None without masks.
        identical: share of identical detections above 0.5; None if neither network has any.
        detections: number of detections above 0.5 of the reference.
        worst: name of the case whose logits differ most.
    """

    logits_largest: float
    logits_mean: float
    boxes_largest: float
    boxes_mean: float
    masks_mean: float | None
    identical: float | None
    score_difference: float | None
    detections: int
    worst: str

    @property
    def digits(self) -> int:
        """How many decimal digits agree in all logits, in units of their standard deviation; 9 at most."""
        return max(0, min(9, math.floor(-math.log10(max(self.logits_largest, 1e-9)))))

    def troubles(self, bar: Bar) -> list[str]:
        """The limits of the bar that are exceeded, in words; empty if none is."""
        limits = {
            "logits, largest": (self.logits_largest, bar.logits_largest),
            "logits, mean": (self.logits_mean, bar.logits_mean),
            "boxes, mean": (self.boxes_mean, bar.boxes_mean),
            "masks, mean": (self.masks_mean, bar.logits_mean * 5),  # five layers of convolutions on top
        }
        wrong = [
            f"{name} {value:.1e} > {limit:.1e}"
            for name, (value, limit) in limits.items()
            if value is not None and limit is not None and not value <= limit
        ]
        required = bar.required(self.detections)
        if self.identical is not None and self.detections >= FEWEST_DETECTIONS and self.identical < required:
            wrong.append(f"{self.identical:.1%} identical detections < {required:.1%}")
        return wrong

    def like(self) -> str | None:
        """The strictest precision whose bar this difference keeps; None if it keeps none."""
        return next((name for name, bar in BARS.items() if not self.troubles(bar)), None)

    def figures(self) -> dict[str, Any]:
        """For JSON, to four significant digits."""
        rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {**rounded, "digits": self.digits}


Row = tuple[Case, Outputs, Outputs, NDArray[np.int64]]
"""A case, the reference's outputs, the tested outputs, and the sizes of the images."""


def difference(rows: Iterable[Row], labels: tuple[str, ...]) -> Difference:
    """The difference over all cases, whose outputs must be finite and of equal shapes."""
    logits: list[float] = []
    boxes: list[Floats] = []
    masks: list[float] = []
    found: list[tuple[Detections, Detections]] = []
    largest = (-1.0, "")
    for case, expected, actual, sizes_hw in rows:
        off = np.abs(actual.logits - expected.logits) / max(float(expected.logits.std()), 1e-9)
        largest = max(largest, (float(off.max()), case.name))
        logits.append(float(off.mean()))
        boxes.append(np.abs(actual.boxes - expected.boxes))
        masks += _mask_differences(expected.masks, actual.masks)
        own = slice(len(case.images))
        found += zip(*(_detections(o, sizes_hw, labels)[own] for o in (expected, actual)), strict=True)
    agreed = agreement(found)
    return Difference(
        logits_largest=largest[0],
        logits_mean=float(np.mean(logits)),
        boxes_largest=max(float(off.max()) for off in boxes),
        boxes_mean=float(np.mean([off.mean() for off in boxes])),
        masks_mean=float(np.mean(masks)) if masks else None,
        identical=agreed.identical,
        score_difference=agreed.score_difference,
        detections=agreed.reference,
        worst=largest[1],
    )


def _detections(outputs: Outputs, sizes_hw: NDArray[np.int64], labels: tuple[str, ...]) -> list[Detections]:
    return detections_of(outputs.logits, outputs.boxes, sizes_hw, labels, DEFAULT_THRESHOLD)


def _mask_differences(expected: PanopticOutputs | None, actual: PanopticOutputs | None) -> list[float]:
    """Mean difference of each mask that both networks have: a query near the threshold may have one in only one."""
    if expected is None or actual is None:
        return []
    spread = max(float(expected.masks.std()), 1e-9) if expected.masks.size else 1.0
    theirs = {tuple(query): mask for query, mask in zip(actual.kept.tolist(), actual.masks, strict=True)}
    pairs = ((mask, theirs.get(tuple(q))) for q, mask in zip(expected.kept.tolist(), expected.masks, strict=True))
    return [float(np.abs(mask - other).mean()) / spread for mask, other in pairs if other is not None]
