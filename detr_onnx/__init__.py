"""DETR object detection in plain numpy, ONNX Runtime and OpenVINO, with no torch at run time.

The walk, in one door and out another:

    photograph ── image ──► pixels, mask ──► network ──► logits, boxes ── detections ──► Detections

>>> from detr_onnx import Detector                          # doctest: +SKIP
>>> for d in Detector("demo")("street.jpg"):                # doctest: +SKIP
...     print(d.score, d.label, d.box.xmin, d.box.ymin, d.box.xmax, d.box.ymax)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detr_onnx.detections import Box, Detection, Detections
    from detr_onnx.detector import Detector
    from detr_onnx.errors import DetrError

__version__ = "0.1.0"
__all__ = ["Box", "Detection", "Detections", "Detector", "DetrError", "__version__"]

_HOMES = {
    "Box": "detr_onnx.detections",
    "Detection": "detr_onnx.detections",
    "Detections": "detr_onnx.detections",
    "Detector": "detr_onnx.detector",
    "DetrError": "detr_onnx.errors",
}


def __getattr__(name: str) -> object:
    """The public name, imported when it is first used: `detr-onnx --version` needs no numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'detr_onnx' has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
