"""Every baseline by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from detr_onnx.bench.baselines.exported_graphs import stock_detect, stock_network
from detr_onnx.bench.baselines.transformers_models import (
    transformers_network,
    transformers_on_device,
    transformers_panoptic,
    transformers_parts,
    transformers_pipeline,
    transformers_preprocessing,
    transformers_throughput,
)
from detr_onnx.bench.baselines.turns import Options, Ready

KINDS: dict[str, Callable[[Options], Ready]] = {
    **{f"{name}-network": partial(stock_network, name) for name in ("onnxruntime", "openvino")},
    **{f"{name}-detect": partial(stock_detect, name) for name in ("onnxruntime", "openvino")},
    **{f"{name}-network": partial(transformers_network, name) for name in ("eager", "bf16", "torch.compile")},
    **{f"{name}-device": partial(transformers_on_device, name) for name in ("eager", "torch.compile")},
    **{f"{name}-parts": partial(transformers_parts, name) for name in ("eager", "bf16", "torch.compile")},
    "panoptic": transformers_panoptic,
    "preprocessing": transformers_preprocessing,
    "pipeline": transformers_pipeline,
    "throughput": transformers_throughput,
}
PACKAGES = ("transformers", "torch", "onnxruntime", "openvino")
"""Packages whose versions are reported, where they are imported."""
