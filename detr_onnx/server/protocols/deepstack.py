"""The wire format of DeepStack's object detection: a form with an image in, predictions out; no sockets.

Source: DeepStack's documentation of `/v1/vision/detection`, and its clients (deepstack-python, Frigate).
"""

from __future__ import annotations

import logging
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from detr_onnx.detections import Detections
from detr_onnx.errors import shortened
from detr_onnx.server.errors import BAD_INPUT, NO_BODY, ErrorResponse, RequestError
from detr_onnx.server.protocols.fields import parse_threshold

MIN_CONFIDENCE = 0.45  # DeepStack's own default
MOST_PARTS = 100
SILENT = logging.Logger("silent", logging.CRITICAL)


def read_form(content_type: str, body: bytes) -> dict[str, bytes]:
    """The fields of a form by name, files and texts alike; of equal names the first.

    Raises:
        RequestError: NO_BODY, or BAD_INPUT: the body is not multipart/form-data.
    """
    if not body:
        raise RequestError(NO_BODY)
    media_type, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if media_type != b"multipart/form-data" or not boundary:
        found = f"Content-Type {shortened(content_type, 60)!r}" if content_type else "no Content-Type"
        expected = "expected multipart/form-data with a boundary and the field image"
        raise RequestError(BAD_INPUT, f"{expected}, found {found}")
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.logger = SILENT  # it warns of every form that is not valid, on stderr
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestError(BAD_INPUT, f"the form is not valid: {error}; send it as curl -F image=@FILE does") from error
    if not form.complete:
        raise RequestError(BAD_INPUT, "the form is cut short")
    return form.fields


class _Form:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}
        self.complete = False
        self._parts = 0
        self._name = ""
        self._header = self._value = b""
        self._data: list[bytes] = []

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_to_header,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._data.append(data[start:end]),
            "on_part_end": lambda: self.fields.setdefault(self._name, b"".join(self._data)),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._name, self._data = "", []
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise RequestError(BAD_INPUT, f"the form has more than {MOST_PARTS} parts")

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._name = parse_options_header(self._value)[1].get(b"name", b"").decode("utf-8", "replace")
        self._header = self._value = b""

    def _end(self) -> None:
        self.complete = True


def image_and_confidence(fields: dict[str, bytes]) -> tuple[bytes, float]:
    """The encoded image and the least confidence of a form.

    Raises:
        RequestError: BAD_INPUT, the form has no image, or min_confidence is not a number from 0 to 1.
    """
    if not fields.get("image"):
        found = shortened(", ".join(map(repr, fields)), 200) or "no field"
        raise RequestError(BAD_INPUT, f"the form has no field image, or it is empty; found {found}")
    confidence = fields.get("min_confidence", b"").decode("latin-1").strip()
    return fields["image"], parse_threshold(confidence or None, MIN_CONFIDENCE, name="min_confidence")


def write_predictions(detections: Detections) -> dict[str, Any]:
    """The response: predictions, best first, with boxes in whole pixels of the image."""
    predictions = [
        {
            "confidence": found["score"],
            "label": found["label"],
            **{f"{side[0]}_{side[1:]}": pixels for side, pixels in found["box"].items()},
        }
        for found in detections.to_api()
    ]
    return {"success": True, "predictions": predictions}


def failure(error: RequestError, request_id: str) -> ErrorResponse:
    """The response to a request that is refused."""
    status = error.kind.status
    return ErrorResponse(status, {"success": False, "error": str(error)}, status)
