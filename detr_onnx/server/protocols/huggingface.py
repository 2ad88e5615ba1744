"""The wire format of Hugging Face's object detection and image segmentation.

A request is raw bytes, or `{"inputs": base64, "parameters": …}`.

Source: `object_detection` and `image_segmentation` of `huggingface_hub.InferenceClient`, the tasks' schemas in
`@huggingface/tasks`, and the pipelines of transformers.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.panoptic import PanopticRules, PanopticSegmentation
from detr_onnx.server.errors import BAD_INPUT, RequestError
from detr_onnx.server.protocols.fields import (
    decode_base64,
    is_json,
    json_type,
    parse_json,
    parse_threshold,
    raw_image,
)

THRESHOLD = 0.5  # of transformers' pipelines, which clients of these paths expect
SEGMENT_THRESHOLD, MASK_THRESHOLD, OVERLAP_THRESHOLD = 0.9, 0.5, 0.5
PANOPTIC, INSTANCE, SEMANTIC = SUBTASKS = ("panoptic", "instance", "semantic")
OF_SEGMENTATION = ("subtask", "mask_threshold", "overlap_mask_area_threshold")
EVERY_QUERY = -1.0  # a threshold below all scores


@dataclass(frozen=True)
class Segmentation:
    """The parameters of an image segmentation."""

    subtask: str
    rules: PanopticRules

    @property
    def query_threshold(self) -> float:
        """Queries whose score exceeds it need masks."""
        return EVERY_QUERY if self.subtask == SEMANTIC else self.rules.threshold


def read_request(content_type: str, threshold: float, body: bytes) -> tuple[bytes, float]:
    """The encoded image and the threshold of a request for detections; `threshold` if its body has none.

    Raises:
        RequestError: NO_BODY, BAD_INPUT or BAD_BASE64; also for parameters of image segmentation.
    """
    image, parameters = _read(content_type, body)
    for name in OF_SEGMENTATION:
        if parameters.get(name) is not None:
            complaint = f"'/parameters/{name}' belongs to image-segmentation, but the task is detection"
            raise RequestError(BAD_INPUT, complaint)
    return image, _number(parameters, "threshold", threshold)


def read_segmentation(content_type: str, threshold: float, body: bytes) -> tuple[bytes, float, Segmentation]:
    """The encoded image, the threshold of queries that need masks, and the parameters of a request for segments.

    Raises:
        RequestError: NO_BODY, BAD_INPUT or BAD_BASE64.
    """
    image, parameters = _read(content_type, body)
    subtask = PANOPTIC if parameters.get("subtask") is None else parameters["subtask"]
    if subtask not in SUBTASKS:
        raise RequestError(BAD_INPUT, f"'/parameters/subtask' must be one of {', '.join(SUBTASKS)}")
    rules = PanopticRules(
        _number(parameters, "threshold", threshold),
        _number(parameters, "mask_threshold", MASK_THRESHOLD),
        _number(parameters, "overlap_mask_area_threshold", OVERLAP_THRESHOLD),
    )
    wanted = Segmentation(subtask, rules)
    return image, wanted.query_threshold, wanted


def write_segments(found: PanopticSegmentation) -> list[dict[str, Any]]:
    """`{"score", "label", "mask"}` of each segment; a mask is a PNG in base64, white where the segment is."""
    return [
        {"score": s["score"], "label": s["label"], "mask": _png(found.segmentation == s["id"])}
        for s in found.segments_info
    ]


def write_classes(best: NDArray[np.int32], class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The same for each class in a map [H,W] of classes; they have no score."""
    present: Iterator[int] = iter(np.unique(best).tolist())
    return [{"score": None, "label": class_names[k], "mask": _png(best == k)} for k in present]


def _png(mask: NDArray[np.bool_]) -> str:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _read(content_type: str, body: bytes) -> tuple[bytes, Mapping[str, Any]]:
    """The encoded image and the parameters."""
    if not body or not is_json(content_type):
        return raw_image(content_type, body), {}
    fields = parse_json(body)
    if not isinstance(fields, Mapping):
        raise RequestError(BAD_INPUT, f'expected {{"inputs": base64 of an image}}, found {json_type(fields)}')
    parameters = {} if fields.get("parameters") is None else fields["parameters"]
    if not isinstance(parameters, Mapping):
        raise RequestError(BAD_INPUT, f"'/parameters' must be an object, found {json_type(parameters)}")
    return _image(fields), parameters


def _number(parameters: Mapping[str, Any], name: str, default: float) -> float:
    value = parameters.get(name)
    return parse_threshold(str(value) if value is not None else None, default, name)


def _image(fields: Mapping[str, Any]) -> bytes:
    inputs = fields.get("inputs")
    if isinstance(inputs, bytes):
        return inputs
    if not isinstance(inputs, str):
        found = f"{json_type(inputs)} as inputs" if "inputs" in fields else "no inputs"
        raise RequestError(BAD_INPUT, f'expected {{"inputs": base64 of an image}}, found {found}')
    return decode_base64(inputs)
