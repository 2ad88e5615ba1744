"""The numpy engine, which needs no other package."""

from __future__ import annotations

import threading

import numpy as np

from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.checkpoint.safetensors import forget_pages
from detr_onnx.engines import Engine, Floats, Mask
from detr_onnx.network.detr import detr
from detr_onnx.network.numpy_ops import NumpyOps
from detr_onnx.network.resnet import fold_batch_norm


def numpy_engine(checkpoint: Checkpoint) -> Engine:
    """Runs a checkpoint in numpy, in float32."""
    ops, config = NumpyOps(fold_batch_norm(checkpoint.tensors)), checkpoint.config
    forget_pages(checkpoint.tensors)  # the folded weights are copies; this frees the mapped file
    lock = threading.Lock()  # the workspace serves one thread at a time, and one keeps all cores busy

    def network(pixels: Floats, mask: Mask | None) -> tuple[Floats, Floats]:
        padded = mask is not None and not mask.all()  # without padding the mask changes nothing
        valid = mask.astype(np.float32) if mask is not None and padded else None
        with lock:
            return detr(ops, config, pixels, valid)

    return Engine(title=f"numpy {np.__version__}, fp32", network=network, classes=len(config.labels))
