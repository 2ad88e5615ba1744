"""What several protocols read alike: bodies that are an image or JSON, base64, thresholds."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote

from detr_onnx.errors import shortened
from detr_onnx.server.errors import BAD_BASE64, BAD_INPUT, NO_BODY, UNDECODABLE, RequestError
from detr_onnx.server.protocols.byte_arrays import loads

SHOWN = 40  # characters of a wrong value that an error repeats
SEND_ALONE = "send the image itself as the body, with curl by --data-binary"
SEND_AS_JSON = "send JSON with Content-Type: application/json"
JSON_START = re.compile(rb"[ \t\r\n]*[\[{]")
URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
OTHER_BASE64 = {ord("-"): "+", ord("_"): "/", ord("\n"): None, ord("\r"): None}
"""The characters of the URL-safe alphabet and of line breaks, and what they stand for."""


def is_json(content_type: str) -> bool:
    """Whether a body of this content type is JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def raw_image(content_type: str, body: bytes, *, or_json: bool = True) -> bytes:
    """The encoded image that a body is.

    Args:
        content_type: the header, "" for none.
        body: the whole body.
        or_json: whether the route also takes JSON.

    Raises:
        RequestError: NO_BODY; UNDECODABLE, the body is a form, or JSON of another content type.
    """
    if not body:
        raise RequestError(NO_BODY)
    if content_type.strip().lower().startswith("multipart/") and body.startswith(b"--"):
        raise RequestError(UNDECODABLE, f"the data is not an image: found a form (multipart/form-data); {SEND_ALONE}")
    if JSON_START.match(body):
        remedy = SEND_AS_JSON if or_json else SEND_ALONE
        raise RequestError(UNDECODABLE, f"the data is not an image: found what looks like JSON; {remedy}")
    return body


def parse_json(body: bytes) -> Any:
    """The value of a JSON body, its longest array of bytes as `bytes`.

    Raises:
        RequestError: BAD_INPUT, the body is not JSON.
    """
    try:
        return loads(body)
    except ValueError as error:
        raise RequestError(BAD_INPUT, f"the body is not JSON: {error}") from error


def json_type(value: Any) -> str:
    """The type in JSON of a value that `parse_json` returned."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", dict: "an object"}
    return "null" if value is None else names.get(type(value), "an array")


def decode_base64(text: str) -> bytes:
    """The bytes of base64, in the standard or the URL-safe alphabet, or of a data URL. No other URL is ever fetched.

    Raises:
        RequestError: BAD_BASE64.
    """
    head, comma, data = text.strip().partition(",")
    if comma and not (head.lower().startswith("data:") and head.lower().endswith(";base64")):
        raise _not_base64(text)
    data = (unquote(data) if comma else head).translate(OTHER_BASE64)
    try:
        image = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _not_base64(text) from error
    if not image:
        raise _not_base64(text)
    return image


def _not_base64(text: str) -> RequestError:
    if URL.match(text):
        return RequestError(BAD_BASE64, "a URL is never fetched; send the image in base64 or as a data URL")
    start = f"{len(text)} characters that begin with " if len(text) > SHOWN else ""
    found = f"{start}{text[:SHOWN]!r}"
    return RequestError(BAD_BASE64, f"the text is not base64 of an image: found {found}, expected base64 or a data URL")


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
        raise RequestError(BAD_INPUT, f"'/{name}' must be a number from 0 to 1, found {shortened(text, SHOWN)!r}")
    return threshold
