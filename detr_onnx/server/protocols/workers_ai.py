"""The wire format of the hosted API `@cf/facebook/detr-resnet-50`, without sockets.

    body of a request ── read_image ──► an encoded image      Detections ── success ──► body of a response
                                                            RequestError ── failure ──►

Source: the model's page, its published schemas, and recorded responses of the hosted API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detr_onnx.detections import Detections
from detr_onnx.server import errors
from detr_onnx.server.errors import ErrorKind, ErrorResponse, RequestError
from detr_onnx.server.protocols.byte_arrays import NotBytesError, first_wrong, loads
from detr_onnx.server.protocols.fields import decode_base64, is_json, raw_image

MODELS = ("@cf/facebook/detr-resnet-50", "@cf/meta/detr-resnet-50")  # the second is its older name

INPUT_SCHEMA: dict[str, Any] = {
    "oneOf": [
        {"type": "string", "format": "binary"},
        {
            "type": "object",
            "properties": {
                "image": {
                    "type": "array",
                    "description": "The bytes of an encoded image.",
                    "items": {"type": "number", "minimum": 0, "maximum": 255},
                }
            },
            "required": ["image"],
        },
    ]
}
OUTPUT_SCHEMA: dict[str, Any] = {
    "type": "array",
    "description": "What was found, best first.",
    "items": {
        "type": "object",
        "properties": {
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "label": {"type": "string"},
            "box": {
                "type": "object",
                "properties": {side: {"type": "integer"} for side in ("xmin", "ymin", "xmax", "ymax")},
                "required": ["xmin", "ymin", "xmax", "ymax"],
            },
        },
        "required": ["score", "label", "box"],
    },
}


@dataclass(frozen=True)
class ErrorRow:
    """A row of the hosted API's table of errors.

    Attributes:
        status: of HTTP.
        code: in the envelope.
        text: the message; the detail of a request follows after a colon. `{subject}` is the name that it used.
        by_model: whether the model says it, not the gateway before it: "AiError: … (request id)".
    """

    status: int
    code: int
    text: str
    by_model: bool = True


ROWS: dict[ErrorKind, ErrorRow] = {
    errors.INTERNAL: ErrorRow(500, 3001, "Internal server error"),
    errors.NO_BODY: ErrorRow(400, 3003, "Request is missing headers or body"),
    errors.TOO_LARGE: ErrorRow(413, 3006, "Request is too large"),
    errors.TIMEOUT: ErrorRow(408, 3007, "Request timeout"),
    errors.UNDECODABLE: ErrorRow(400, 3010, "Invalid or incomplete input for the model"),
    errors.TOO_SMALL: ErrorRow(400, 3011, "image too small, expected image at least 4x4"),
    errors.BUSY: ErrorRow(429, 3040, "Capacity temporarily exceeded, please try again."),
    errors.BAD_BASE64: ErrorRow(400, 5004, "Invalid data type for base64 input"),
    errors.BAD_INPUT: ErrorRow(400, 5006, "Bad input: Error"),
    errors.NO_MODEL: ErrorRow(400, 5007, "No such model {subject} or task", by_model=False),
    errors.MALFORMED_TOKEN: ErrorRow(400, 6003, "Invalid request headers", by_model=False),
    errors.NO_ROUTE: ErrorRow(400, 7000, "No route for that URI", by_model=False),
    errors.BAD_METHOD: ErrorRow(405, 7001, "Method {subject} not available for that URI.", by_model=False),
    errors.NOT_FOUND: ErrorRow(
        404, 7003, "Could not route to {subject}, perhaps your object identifier is invalid?", by_model=False
    ),
    errors.NO_TOKEN: ErrorRow(
        400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers", by_model=False
    ),
    errors.WRONG_TOKEN: ErrorRow(401, 10000, "Authentication error", by_model=False),
}  # fmt: skip
"""The hosted API's table."""

OWN_ROWS: dict[ErrorKind, ErrorRow] = {
    errors.UNAVAILABLE: ErrorRow(503, 3040, "Capacity temporarily exceeded, please try again."),
    errors.BAD_ENCODING: ErrorRow(
        415, 5006, "Bad input: Error: Content-Encoding '{subject}' is not supported; send gzip, deflate or none"
    ),
}
"""Refusals that the hosted API does not have, under the codes that are nearest."""


# Requests


def read_image(content_type: str, body: bytes) -> bytes:
    """The encoded image that a request holds.

    Args:
        content_type: the header, "" for none. Every type but JSON, curl's default of forms too, is an image.
        body: the image; or JSON `{"image": …}` with an array of its bytes, with base64, or with a data URL; or
            that base64 or URL alone as a JSON string.

    Raises:
        RequestError: 3003 for no body, 3010 for a form and for JSON of another type, 5006 for JSON that does not fit
            the schema, 5004 for invalid base64.
    """
    return image_of(parse_json(body)) if body and is_json(content_type) else raw_image(content_type, body)


def parse_json(body: bytes) -> Any:
    """The value of a JSON body, its longest array of bytes as `bytes`.

    Raises:
        RequestError: 5006, the body is not JSON.
    """
    try:
        return loads(body)
    except NotBytesError as error:
        raise bad_input(element_complaint(error.index, error.value)) from error
    except ValueError as error:
        raise RequestError(errors.BAD_INPUT, f"the body is not JSON: {error}") from error


def image_of(value: Any) -> bytes:
    """The encoded image in the JSON of a request; see `read_image`."""
    if isinstance(value, str):
        return decode_base64(value)
    if not isinstance(value, Mapping):
        raise bad_input(f"Type mismatch of '/', 'object' not in {types_of(value)}")
    if "image" not in value:
        raise bad_input("required properties at '/' are 'image'")
    image = value["image"]
    if isinstance(image, bytes):
        return image
    if isinstance(image, str):
        return decode_base64(image)
    if not isinstance(image, list):
        raise bad_input(f"Type mismatch of '/image', 'array' not in {types_of(image)}")
    if not image:
        raise bad_input("Length of '/image' must be >= 1 not met")
    wrong = first_wrong(image)
    if wrong is not None:
        raise bad_input(element_complaint(wrong.index, wrong.value))
    return bytes(int(number) for number in image)


def bad_input(complaint: str) -> RequestError:
    """5006 in the words of the hosted API's validator, which finds neither form of the schema met."""
    words = f"oneOf at '/' not met, 0 matches found: Type mismatch of '/', 'string' not in 'object', {complaint}"
    return RequestError(errors.BAD_INPUT, words)


def element_complaint(index: int, value: Any) -> str:
    """What the validator says of an element of the image that is not a byte."""
    path = f"/image/{index}"
    if type(value) not in (int, float):
        return f"Type mismatch of '{path}', 'number' not in {types_of(value)}"
    if value > 255:
        return f"'{path}' must be <= 255"
    return f"'{path}' must be >= 0" if value < 0 else f"'{path}' must be multiple of 1"


def types_of(value: Any) -> str:
    """JSON's names for the type of a value, as the validator lists them."""
    names = {type(None): "null", bool: "boolean", int: "number','integer", float: "number", str: "string"}
    return f"'{names.get(type(value), 'object' if isinstance(value, Mapping) else 'array')}'"


# Responses


def success(detections: Detections) -> dict[str, Any]:
    """The envelope of detections."""
    return enveloped(detections.to_api())


def enveloped(result: Any, messages: list[Any] | None = None) -> dict[str, Any]:
    """The envelope of any result."""
    return {"result": result, "success": True, "errors": [], "messages": messages or []}


def failure(error: RequestError, request_id: str) -> ErrorResponse:
    """The envelope of a refusal: the model's have `result: {}` and the request's id, the gateway's `result: null`."""
    row, text = row_of(error.kind), text_of(error)
    if row.by_model:
        entry: dict[str, Any] = {"message": f"AiError: {text} ({request_id})", "code": row.code}
        body: dict[str, Any] = {"errors": [entry], "success": False, "result": {}, "messages": []}
        return ErrorResponse(row.status, body, row.code)
    entry = {"code": row.code, "message": text}
    if error.kind == errors.MALFORMED_TOKEN:
        entry["error_chain"] = [{"code": 6111, "message": "Invalid format for Authorization header"}]
    return ErrorResponse(row.status, {"result": None, "success": False, "errors": [entry], "messages": []}, row.code)


def binding_failure(error: RequestError, request_id: str) -> ErrorResponse:
    """A refusal as the AI binding of Workers reads it."""
    row, text = row_of(error.kind), text_of(error)
    message = f"{text} ({request_id})"
    body = {"internalCode": row.code, "message": message, "name": "AiError", "description": text}
    return ErrorResponse(row.status, body, row.code)


def row_of(kind: ErrorKind) -> ErrorRow:
    """The row for a kind of refusal."""
    return ROWS[kind] if kind in ROWS else OWN_ROWS[kind]


def text_of(error: RequestError) -> str:
    """The message of the table, with the request's detail after a colon."""
    text = row_of(error.kind).text.format(subject=error.subject)
    return f"{text}: {error.detail}" if error.detail else text
