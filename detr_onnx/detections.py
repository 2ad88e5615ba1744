"""From the network's raw answer to a list of things with names, scores and boxes.

The convention of a box stands in the name of whatever holds it: `cxcywh` (centre and size, in 0..1 of the image) is
what DETR predicts, `xyxy` (left, top, right, bottom, in pixels of the image as it is looked at) is what people want.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.errors import UsageError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; x to the right, y downwards; may reach a little beyond the image."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing found: score in 0..1, the name of its class, where it is."""

    score: float
    label: str
    box: Box


@dataclass(frozen=True, eq=False)  # equality of arrays is no single answer
class Detections:
    """What was found in one image, as parallel arrays; iterating gives `Detection` values.

    Attributes:
        scores: [n] float32 in 0..1.
        class_ids: [n] int64, indices into `labels`.
        xyxy: [n, 4] float32, pixels of the upright image.
        labels: the name of every class of the model.
    """

    scores: Floats
    class_ids: Ints
    xyxy: Floats
    labels: Sequence[str]

    def __post_init__(self) -> None:
        shapes = tuple(np.shape(array) for array in (self.scores, self.class_ids, self.xyxy))
        n = shapes[0][:1]
        if shapes != (n, n, (*n, 4)) or not n:
            raise UsageError(
                "arrays of a Detections do not fit together",
                found=f"scores {shapes[0]}, class_ids {shapes[1]}, xyxy {shapes[2]}",
                expected="[n], [n] and [n, 4]",
            )
        if n != (0,) and not 0 <= np.min(self.class_ids) <= np.max(self.class_ids) < len(self.labels):
            raise UsageError(
                "class ids of a Detections have no labels",
                found=f"ids from {np.min(self.class_ids)} to {np.max(self.class_ids)}",
                expected=f"0 to {len(self.labels) - 1}",
            )

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Detection:
        xmin, ymin, xmax, ymax = self.xyxy[index].tolist()
        label = self.labels[int(self.class_ids[index])]
        return Detection(float(self.scores[index]), label, Box(xmin, ymin, xmax, ymax))

    def select(self, index: Ints | NDArray[np.bool_]) -> Detections:
        """The detections at `index` (positions, or one boolean each), in that order."""
        return Detections(self.scores[index], self.class_ids[index], self.xyxy[index], self.labels)

    def only(self, labels: Sequence[str]) -> Detections:
        """The detections whose label is one of `labels`."""
        names = [labels] if isinstance(labels, str) else labels
        wanted = [i for i, name in enumerate(self.labels) if name in names]
        return self.select(np.isin(self.class_ids, wanted))

    def by_score(self) -> Detections:
        """The same, best first; equal scores keep their order."""
        return self.select(np.argsort(-self.scores, kind="stable"))

    def to_api(self) -> list[dict[str, Any]]:
        """The hosted API's form: best first, keys score, label, box; boxes truncated to whole pixels, scores exact."""
        return [
            {"score": d.score, "label": d.label, "box": {k: int(getattr(d.box, k)) for k in Box.__slots__}}
            for d in self.by_score()
        ]

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Rows of a COCO results file; `bbox` is left, top, width, height, unrounded."""
        xywh = xyxy_to_xywh(self.xyxy).tolist()
        return [
            {"image_id": image_id, "category_id": int(c), "bbox": box, "score": float(s)}
            for s, c, box in zip(self.scores, self.class_ids, xywh, strict=True)
        ]


def cxcywh_to_xyxy(boxes_cxcywh: Floats) -> Floats:
    """[..., 4] centre x, centre y, width, height -> [..., 4] left, top, right, bottom, in the same unit."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] * np.float32(0.5)
    return np.concatenate([centre - half, centre + half], axis=-1)


def xyxy_to_xywh(boxes_xyxy: Floats) -> Floats:
    """[..., 4] left, top, right, bottom -> [..., 4] left, top, width, height."""
    return np.concatenate([boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]], axis=-1)


def iou(boxes_xyxy: Floats, others_xyxy: Floats) -> Floats:
    """[n, 4], [m, 4] in one unit -> [n, m] in 0..1: the area two boxes share, over the area they cover."""
    low = np.maximum(boxes_xyxy[:, None, :2], others_xyxy[:, :2])  # [n,m,2]
    high = np.minimum(boxes_xyxy[:, None, 2:], others_xyxy[:, 2:])
    shared = (high - low).clip(min=0).prod(axis=-1)  # [n,m]
    area, other_area = ((xyxy[:, 2:] - xyxy[:, :2]).prod(axis=-1) for xyxy in (boxes_xyxy, others_xyxy))
    covered = area[:, None] + other_area - shared
    overlap: Floats = np.divide(shared, covered, out=np.zeros_like(shared), where=covered > 0)
    return overlap


def softmax(logits: Floats) -> Floats:
    """[..., C] -> [..., C], positive, summing to 1 over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def detections_of(
    logits: Floats, boxes_cxcywh: Floats, sizes_hw: Ints, labels: Sequence[str], threshold: float
) -> list[Detections]:
    """One Detections an image, in the order of the queries: the best class of each query above the threshold.

    Args:
        logits: [B, Q, C+1]; the last class is "no object".
        boxes_cxcywh: [B, Q, 4] in 0..1 of the image.
        sizes_hw: [B, 2] height and width of the images, in pixels.
        labels: C names.
        threshold: what a score has to exceed, strictly.

    Source: `DetrImageProcessor.post_process_object_detection` of transformers.
    """
    probabilities = softmax(logits)[..., :-1]  # [B,Q,C]
    class_ids = probabilities.argmax(axis=-1)  # [B,Q]
    scores = probabilities.max(axis=-1)  # [B,Q]
    whwh = np.tile(sizes_hw[:, ::-1], 2).astype(np.float32)  # [B,2] -> [B,4]
    xyxy = cxcywh_to_xyxy(boxes_cxcywh) * whwh[:, None, :]  # [B,Q,4] pixels
    kept = scores > threshold
    return [
        Detections(s[k], c[k].astype(np.int64), b[k], labels)
        for s, c, b, k in zip(scores, class_ids, xyxy, kept, strict=True)
    ]
