"""Box conventions and how much two boxes overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detr_onnx.errors import UsageError

Floats = NDArray[np.float32]


def cxcywh_to_xyxy(boxes_cxcywh: Floats) -> Floats:
    """[..., 4] centre x, centre y, width, height -> [..., 4] left, top, right, bottom, in the same unit."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] * np.float32(0.5)
    return np.concatenate([centre - half, centre + half], axis=-1)


def pixels_xyxy(boxes_cxcywh: Floats, sizes_hw: ArrayLike) -> Floats:
    """[B, Q, 4] centre and size in 0..1, and B heights and widths in pixels -> [B, Q, 4] xyxy in pixels.

    Raises:
        UsageError: there is not one size for each image.
    """
    sizes = np.asarray(sizes_hw, np.float32)
    if sizes.shape != (len(boxes_cxcywh), 2):
        expected = f"{[len(boxes_cxcywh), 2]}: a height and a width for each image"
        raise UsageError("the sizes do not fit the batch", found=f"shape {list(sizes.shape)}", expected=expected)
    return cxcywh_to_xyxy(boxes_cxcywh) * np.tile(sizes[:, ::-1], 2)[:, None, :]


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
