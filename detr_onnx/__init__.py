"""DETR object detection in plain numpy, ONNX Runtime and OpenVINO, without torch.

>>> from detr_onnx import Detector                          # doctest: +SKIP
>>> for d in Detector("demo")("street.jpg"):                # doctest: +SKIP
...     print(d.score, d.label, d.box.xmin, d.box.ymin, d.box.xmax, d.box.ymax)

The flow of data:

    image ── image.preprocess ──► pixels, mask ──► network ──► logits, boxes ── detections ──► Detections
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it; importing typing would take longer than all of this
if TYPE_CHECKING:
    from detr_onnx.detections import Box, Detection, Detections
    from detr_onnx.detector import Detector
    from detr_onnx.errors import (
        CheckpointError,
        DatasetError,
        DetrError,
        EngineError,
        HubError,
        ImageError,
        ImageTooLargeError,
        MissingPackageError,
        ModelFileError,
        OutputError,
        UsageError,
        VideoError,
    )
    from detr_onnx.image.decode import ImageSource

__version__ = "0.1.0"
__all__ = [
    "Box",
    "CheckpointError",
    "DatasetError",
    "Detection",
    "Detections",
    "Detector",
    "DetrError",
    "EngineError",
    "HubError",
    "ImageError",
    "ImageSource",
    "ImageTooLargeError",
    "MissingPackageError",
    "ModelFileError",
    "OutputError",
    "UsageError",
    "VideoError",
    "__version__",
]

_MODULES = {
    "detr_onnx.detections": ("Box", "Detection", "Detections"),
    "detr_onnx.detector": ("Detector",),
    "detr_onnx.image.decode": ("ImageSource",),
}


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used: `detr-onnx --version` needs no numpy."""
    if name not in __all__:
        raise AttributeError(f"module 'detr_onnx' has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    module = next((module for module, names in _MODULES.items() if name in names), "detr_onnx.errors")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
