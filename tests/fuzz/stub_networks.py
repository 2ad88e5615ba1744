"""Networks that find one object in every image and take no time, for the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from detr_onnx.detections import softmax
from detr_onnx.engines import AttentionNetwork, AttentionOutputs, PanopticOutputs

QUERIES = 5
STRIDE, LAYERS, HEADS = 8, 2, 3


def stub_network(classes: int) -> Callable[..., Any]:
    """A network that finds one object of the first class, whatever the image."""

    def network(pixels: Any, mask: Any) -> tuple[Any, Any]:
        logits = np.zeros((len(pixels), QUERIES, classes + 1), np.float32)
        logits[:, 0, 0] = 9.0
        return logits, np.full((len(pixels), QUERIES, 4), 0.5, np.float32)

    return network


def stub_segments(network: Callable[..., Any]) -> Callable[..., PanopticOutputs]:
    """The same with masks of everything, for the first query or for all."""

    def segment(pixels: Any, mask: Any, threshold: float) -> PanopticOutputs:
        queries = range(QUERIES if threshold < 0 else int(threshold < 1))
        kept = np.array([(0, query) for query in queries], np.int64).reshape(-1, 2)
        return PanopticOutputs(*network(pixels, mask), kept, np.ones((len(kept), 4, 4), np.float32))

    return segment


def stub_attention(network: Callable[..., Any]) -> AttentionNetwork:
    """The same with maps: each kept query looks everywhere alike."""

    def attend(pixels: Any, mask: Any, threshold: float, cells: Any) -> AttentionOutputs:
        logits, boxes = network(pixels, mask)
        scores = softmax(logits)[..., :-1].max(axis=-1)  # [B,Q]
        kept = np.argwhere(scores > threshold)
        rows, columns = (-(-side // STRIDE) for side in pixels.shape[2:])
        alike = np.full((LAYERS, HEADS, rows, columns), 1 / (rows * columns), np.float32)
        objects = np.broadcast_to(alike, (len(kept), *alike.shape))
        return AttentionOutputs(logits, boxes, kept, objects, np.broadcast_to(alike, (*cells.shape, *alike.shape)))

    return AttentionNetwork(STRIDE, attend)
