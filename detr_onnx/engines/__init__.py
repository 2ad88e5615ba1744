"""The engines: each turns a model into the seam, `network(pixels, mask) -> (logits, boxes)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

Network = Callable[[Floats, Mask | None], tuple[Floats, Floats]]
"""pixels [B,3,H,W], mask [B,H,W] or None -> logits [B,Q,C+1], boxes [B,Q,4] cxcywh in 0..1."""


@dataclass(frozen=True)
class Engine:
    """A network that is ready to run, and what to know about it.

    Attributes:
        title: what it really runs on, for people: "onnxruntime 1.23.0, CPUExecutionProvider, fp32".
        network: the seam.
        batches_mixed_sizes: whether it takes a mask, so that images of different sizes can share a batch.
        canvas_hw: the one input size it takes, or None.
        batch: the one number of images it takes at a time, or None.
        classes: how many it tells apart, "no object" not counted; None when that shows only in its answers.
        metadata: what an .onnx file says about itself; empty for other models.
    """

    title: str
    network: Network
    batches_mixed_sizes: bool = True
    canvas_hw: tuple[int, int] | None = None
    batch: int | None = None
    classes: int | None = None
    metadata: Mapping[str, str] | None = None
