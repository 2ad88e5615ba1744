"""The engine that needs nothing: the model computed by numpy."""

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
    """The checkpoint, run by numpy in float32."""
    ops, config = NumpyOps(fold_batch_norm(checkpoint.tensors)), checkpoint.config
    forget_pages(checkpoint.tensors)  # the convolutions are copies now; the file's would lie beside them
    turn = threading.Lock()  # the workspace is not for two threads at once, and one keeps all cores busy

    def network(pixels: Floats, mask: Mask | None) -> tuple[Floats, Floats]:
        padded = mask is not None and not mask.all()  # without padding: the same answer, with less to add
        valid = mask.astype(np.float32) if mask is not None and padded else None
        with turn:
            return detr(ops, config, pixels, valid)

    return Engine(title=f"numpy {np.__version__}, fp32", network=network, classes=len(config.labels))
