"""Every stage of a model, computed by numpy and by ONNX Runtime from our graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.exporter.onnx_file import ExportOptions, onnx_model
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.network.config import DetrConfig
from detr_onnx.network.detr import detr, panoptic_detr, parameters, stage_names
from detr_onnx.network.numpy_ops import NumpyOps

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Stages = dict[str, Array]
EVERY_QUERY = np.full(1, -1, np.float32)  # a threshold that every score exceeds
RENAMED = {"pred_boxes": "boxes", "pred_masks": "masks"}
StagesOf = Callable[[DetrConfig, Mapping[str, Array], Array, Mask | None], Stages]


def numpy_stages(config: DetrConfig, tensors: Mapping[str, Array], pixels: Array, mask: Mask | None) -> Stages:
    """Every stage as the numpy engine computes it."""
    ops = NumpyOps(parameters(tensors), stages={})
    if config.masks:
        panoptic_detr(ops, config, pixels, mask, EVERY_QUERY)
    else:
        detr(ops, config, pixels, mask)
    return ops.stages or {}


def onnx_stages(config: DetrConfig, tensors: Mapping[str, Array], pixels: Array, mask: Mask | None) -> Stages:
    """Every stage as ONNX Runtime computes it, of the graph for any size."""
    return run_graph(config, tensors, pixels, mask, ExportOptions(mask=mask is not None, stages=stage_names(config)))


def run_graph(
    config: DetrConfig, tensors: Mapping[str, Array], pixels: Array, mask: Mask | None, options: ExportOptions
) -> Stages:
    """The outputs of the graph with these options by name; boxes have the name of their stage."""
    model = onnx_model(Checkpoint(config, tensors), Preprocessing(), options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"pixel_values": pixels}
    if options.mask:
        feeds["pixel_mask"] = np.asarray(mask, np.int64)
    if config.masks:
        feeds["threshold"] = EVERY_QUERY
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, feeds), strict=True))
    outputs.pop("mask_queries", None)
    return {RENAMED.get(name, name): value for name, value in outputs.items()}


STAGES: dict[str, StagesOf] = {"numpy": numpy_stages, "onnxruntime": onnx_stages}
