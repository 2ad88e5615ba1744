"""What several protocols read alike: JSON bodies, base64, thresholds."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from detr_onnx.server.errors import BAD_BASE64, BAD_INPUT, RequestError
from detr_onnx.server.protocols.byte_arrays import loads


def is_json(content_type: str) -> bool:
    """Whether a body of this content type is JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def parse_json(body: bytes) -> Any:
    """The value of a JSON body, its longest array of bytes as `bytes`.

    Raises:
        RequestError: BAD_INPUT, the body is not JSON.
    """
    try:
        return loads(body)
    except ValueError as error:
        raise RequestError(BAD_INPUT, f"the body is not JSON: {error}") from error


def decode_base64(text: str) -> bytes:
    """The bytes of base64, in the standard or the URL-safe alphabet, or of a data URL. No other URL is ever fetched.

    Raises:
        RequestError: BAD_BASE64.
    """
    head, comma, data = text.partition(",")
    if comma and not (head.startswith("data:") and head.endswith(";base64")):
        raise RequestError(BAD_BASE64)
    data = (data if comma else text).translate({ord("-"): "+", ord("_"): "/", ord("\n"): None, ord("\r"): None})
    try:
        image = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(BAD_BASE64) from error
    if not image:
        raise RequestError(BAD_BASE64)
    return image


def parse_threshold(text: str | None, default: float, name: str = "threshold") -> float:
    """The threshold of a query or form, `default` if there is none; `name` is its name in errors.

    Raises:
        RequestError: BAD_INPUT, it is not a number from 0 to 1.
    """
    if text is None:
        return default
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise RequestError(BAD_INPUT, f"'/{name}' must be a number from 0 to 1")
    return threshold
