"""The wire format of Hugging Face's object detection: raw bytes, or `{"inputs": base64, "parameters": …}`.

Source: `huggingface_hub.InferenceClient.object_detection`, and the task's schemas in `@huggingface/tasks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detr_onnx.server.errors import BAD_INPUT, NO_BODY, RequestError
from detr_onnx.server.protocols.fields import decode_base64, is_json, parse_json, parse_threshold

THRESHOLD = 0.5  # of transformers' pipeline, which clients of these paths expect


def read_request(content_type: str, threshold: float, body: bytes) -> tuple[bytes, float]:
    """The encoded image and the threshold of a request; `threshold` if its body has none.

    Raises:
        RequestError: NO_BODY, BAD_INPUT or BAD_BASE64.
    """
    if not body:
        raise RequestError(NO_BODY)
    if not is_json(content_type):
        return body, threshold
    fields = parse_json(body)
    return _image(fields), _threshold(fields, threshold)


def _threshold(fields: Any, default: float) -> float:
    parameters = fields.get("parameters") if isinstance(fields, Mapping) else None
    threshold = parameters.get("threshold") if isinstance(parameters, Mapping) else None
    return parse_threshold(str(threshold) if threshold is not None else None, default)


def _image(fields: Any) -> bytes:
    inputs = fields.get("inputs") if isinstance(fields, Mapping) else None
    if isinstance(inputs, bytes):
        return inputs
    if not isinstance(inputs, str):
        raise RequestError(BAD_INPUT, 'expected {"inputs": base64 of an image}')
    return decode_base64(inputs)
