"""Masks of a panoptic model: from the logits of the network to pixels of the image, as booleans or run lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.rle import Rle, encode

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

BLOCK_FLOATS = 1 << 22  # of probabilities at a time: 16 MB
MASK_THRESHOLD = 0.5  # probability from which on a pixel belongs to a mask


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
