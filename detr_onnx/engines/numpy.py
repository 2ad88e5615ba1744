"""The numpy engine, which needs no other package."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.checkpoint.safetensors import forget_pages
from detr_onnx.engines import AttentionNetwork, AttentionOutputs, Engine, Floats, Mask, PanopticOutputs
from detr_onnx.engines.turn import Turn
from detr_onnx.network.detr import detr, detr_with_attention, panoptic_detr, parameters
from detr_onnx.network.numpy_ops import NumpyOps


def numpy_engine(checkpoint: Checkpoint) -> Engine:
    """Runs a checkpoint in numpy, in float32."""
    ops, config = NumpyOps(parameters(checkpoint.tensors)), checkpoint.config
    forget_pages(checkpoint.tensors)  # the folded weights are copies; this frees the mapped file
    turn = Turn("numpy")  # the workspace serves one thread at a time, and one keeps all cores busy

    def network(pixels: Floats, mask: Mask | None) -> tuple[Floats, Floats]:
        with turn:
            return detr(ops, config, pixels, _padding_only(mask))

    def segment(pixels: Floats, mask: Mask | None, threshold: float) -> PanopticOutputs:
        with turn:
            outputs = panoptic_detr(ops, config, pixels, _padding_only(mask), np.full(1, threshold, np.float32))
            return PanopticOutputs(*outputs[:2], outputs[2].astype(np.int64), outputs[3])

    def attend(pixels: Floats, mask: Mask | None, threshold: float, cells: NDArray[np.int64]) -> AttentionOutputs:
        with turn:
            wanted = np.full(1, threshold, np.float32), cast(Floats, cells)
            logits, boxes, kept, *maps = detr_with_attention(ops, config, pixels, _padding_only(mask), *wanted)
            return AttentionOutputs(logits, boxes, kept.astype(np.int64), *maps)

    attentive = AttentionNetwork(config.backbone.stride, attend)
    return Engine(
        title=f"numpy {np.__version__}, fp32",
        network=network,
        classes=len(config.labels),
        segment=segment if config.masks else None,
        attention=(lambda: attentive) if min(config.encoder_layers, config.decoder_layers) else None,
    )


def _padding_only(mask: Mask | None) -> Floats | None:
    """The mask as the network takes it; None without padding, where it changes nothing."""
    return None if mask is None or mask.all() else mask.astype(np.float32)
