"""The wire format of the hosted API `@cf/facebook/detr-resnet-50`, without sockets.

    body of a request ── image_bytes ──► an encoded image      Detections ── success ──► body of an answer
                                                                   ApiError ── failure ──►

Source: the model's page, its published schemas, and recorded answers of the hosted API.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detr_onnx.detections import Detections
from detr_onnx.errors import DetrError, ImageError, ImageTooLargeError, UsageError
from detr_onnx.server.protocols.byte_arrays import NotBytesError, first_wrong, loads

MODELS = ("@cf/facebook/detr-resnet-50", "@cf/meta/detr-resnet-50")  # the second is its older name
LEAST_SIDE_PX = 4

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
class Fault:
    """A row of the hosted API's table of errors.

    Attributes:
        status: of HTTP.
        code: in the envelope.
        text: what it says; what is particular to a request follows after a colon.
        by_model: whether the model says it, not the gateway before it: "AiError: … (request id)".
    """

    status: int
    code: int
    text: str
    by_model: bool = True


INTERNAL = Fault(500, 3001, "Internal server error")
MISSING_BODY = Fault(400, 3003, "Request is missing headers or body")
TOO_LARGE = Fault(413, 3006, "Request is too large")
TIMEOUT = Fault(408, 3007, "Request timeout")
UNDECODABLE = Fault(400, 3010, "Invalid or incomplete input for the model")
TOO_SMALL = Fault(400, 3011, f"image too small, expected image at least {LEAST_SIDE_PX}x{LEAST_SIDE_PX}")
BUSY = Fault(429, 3040, "Capacity temporarily exceeded, please try again.")
BAD_BASE64 = Fault(400, 5004, "Invalid data type for base64 input")
BAD_INPUT = Fault(400, 5006, "Bad input: Error")
NO_MODEL = Fault(400, 5007, "No such model", by_model=False)
MALFORMED_HEADERS = Fault(400, 6003, "Invalid request headers", by_model=False)
NO_ROUTE = Fault(400, 7000, "No route for that URI", by_model=False)
BAD_METHOD = Fault(405, 7001, "Method not available for that URI.", by_model=False)
NO_OBJECT = Fault(404, 7003, "Could not route to the URI, perhaps your object identifier is invalid?", by_model=False)
NO_CREDENTIALS = Fault(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers", by_model=False)
WRONG_CREDENTIALS = Fault(401, 10000, "Authentication error", by_model=False)


class ApiError(DetrError):
    """A request that is refused.

    Args:
        fault: the row of the table.
        detail: what is particular to this request.
        retry_after_s: when to try again.
        text: in place of the row's own.
    """

    def __init__(
        self, fault: Fault, detail: str = "", *, retry_after_s: int | None = None, text: str | None = None
    ) -> None:
        self.fault, self.retry_after_s = fault, retry_after_s
        super().__init__(text or fault.text, found=None)
        self.text = ": ".join(part for part in (text or fault.text, detail) if part)


# What comes in


def is_json(content_type: str) -> bool:
    """Whether a body of this type is JSON; of any other type, or of none, it is the image itself."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def image_bytes(content_type: str, body: bytes) -> bytes:
    """The encoded image that a request holds.

    Args:
        content_type: the header, "" for none. curl's own, of forms, is an image like every other but JSON.
        body: the image; or JSON `{"image": …}` with an array of its bytes, with base64, or with a data URL; or
            that base64 or URL alone as a JSON string.

    Raises:
        ApiError: 3003 for no body, 5006 for JSON that does not fit the schema, 5004 for base64 that is none.
    """
    if not body:
        raise ApiError(MISSING_BODY)
    return image_of(parsed(body)) if is_json(content_type) else body


def parsed(body: bytes) -> Any:
    """The JSON of a body, its first array of bytes as `bytes`.

    Raises:
        ApiError: 5006 when it is none.
    """
    try:
        return loads(body)
    except NotBytesError as error:
        raise bad_input(element_complaint(error.index, error.value)) from error
    except ValueError as error:
        raise ApiError(BAD_INPUT, f"the body is not JSON: {error}") from error


def image_of(value: Any) -> bytes:
    """The encoded image in the JSON of a request; see `image_bytes`."""
    if isinstance(value, str):
        return from_base64(value)
    if not isinstance(value, Mapping):
        raise bad_input(f"Type mismatch of '/', 'object' not in {types_of(value)}")
    if "image" not in value:
        raise bad_input("required properties at '/' are 'image'")
    image = value["image"]
    if isinstance(image, bytes):
        return image
    if isinstance(image, str):
        return from_base64(image)
    if not isinstance(image, list):
        raise bad_input(f"Type mismatch of '/image', 'array' not in {types_of(image)}")
    if not image:
        raise bad_input("Length of '/image' must be >= 1 not met")
    wrong = first_wrong(image)
    if wrong is not None:
        raise bad_input(element_complaint(wrong.index, wrong.value))
    return bytes(int(number) for number in image)


def from_base64(text: str) -> bytes:
    """The bytes of base64, with the standard or the URL's alphabet, or of a data URL. No other URL is ever followed.

    Raises:
        ApiError: 5004.
    """
    head, comma, data = text.partition(",")
    if comma and not (head.startswith("data:") and head.endswith(";base64")):
        raise ApiError(BAD_BASE64)
    data = (data if comma else text).translate({ord("-"): "+", ord("_"): "/", ord("\n"): None, ord("\r"): None})
    try:
        image = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(BAD_BASE64) from error
    if not image:
        raise ApiError(BAD_BASE64)
    return image


def bad_input(complaint: str) -> ApiError:
    """5006 in the words of the hosted API's validator, which finds neither form of the schema met."""
    words = f"oneOf at '/' not met, 0 matches found: Type mismatch of '/', 'string' not in 'object', {complaint}"
    return ApiError(BAD_INPUT, words)


def element_complaint(index: int, value: Any) -> str:
    """What the validator says of an element of the image that is no byte."""
    place = f"/image/{index}"
    if type(value) not in (int, float):
        return f"Type mismatch of '{place}', 'number' not in {types_of(value)}"
    if value > 255:
        return f"'{place}' must be <= 255"
    return f"'{place}' must be >= 0" if value < 0 else f"'{place}' must be multiple of 1"


def types_of(value: Any) -> str:
    """JSON's names for the type of a value, as the validator lists them."""
    names = {type(None): "null", bool: "boolean", int: "number','integer", float: "number", str: "string"}
    return f"'{names.get(type(value), 'object' if isinstance(value, Mapping) else 'array')}'"


def threshold_of(text: str | None, default: float) -> float:
    """The threshold of a query parameter.

    Raises:
        ApiError: 5006 when it is no number from 0 to 1.
    """
    if text is None:
        return default
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise ApiError(BAD_INPUT, "'/threshold' must be a number from 0 to 1")
    return threshold


# What goes out


def success(detections: Detections) -> dict[str, Any]:
    """The envelope of an answer."""
    return enveloped(detections.to_api())


def enveloped(result: Any, messages: list[Any] | None = None) -> dict[str, Any]:
    """The envelope of any result."""
    return {"result": result, "success": True, "errors": [], "messages": messages or []}


def failure(error: ApiError, request_id: str) -> dict[str, Any]:
    """The envelope of a refusal: the model's have `result: {}` and the request's id, the gateway's `result: null`."""
    fault = error.fault
    if fault.by_model:
        entry: dict[str, Any] = {"message": f"AiError: {error.text} ({request_id})", "code": fault.code}
        return {"errors": [entry], "success": False, "result": {}, "messages": []}
    entry = {"code": fault.code, "message": error.text}
    if fault == MALFORMED_HEADERS:
        entry["error_chain"] = [{"code": 6111, "message": "Invalid format for Authorization header"}]
    return {"result": None, "success": False, "errors": [entry], "messages": []}


def binding_failure(error: ApiError, request_id: str) -> dict[str, Any]:
    """A refusal as the AI binding of Workers reads it."""
    text = f"{error.text} ({request_id})"
    return {"internalCode": error.fault.code, "message": text, "name": "AiError", "description": error.text}


def as_api_error(error: Exception) -> ApiError:
    """What to answer when an error of the package, or any other, ended a request."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ImageTooLargeError):
        return ApiError(TOO_LARGE, str(error))
    if isinstance(error, ImageError):
        return ApiError(UNDECODABLE, str(error))
    if isinstance(error, UsageError):
        return ApiError(BAD_INPUT, str(error))
    if isinstance(error, TimeoutError):
        return ApiError(TIMEOUT)
    return ApiError(INTERNAL)
