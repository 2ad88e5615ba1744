"""Parse responses of the hosted API, by its table of errors, and of Hugging Face's API, by status alone."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from detr_onnx.errors import DatasetError
from detr_onnx.json_input import parse_json
from detr_onnx.text import is_text, printable

Items = list[dict[str, Any]]
"""Detections in the API's form: score, label, box."""

FLOOR = 0.1  # the hosted API returns only higher scores; Hugging Face's API is sent this threshold
RETRIED = (408, 429)  # and 5xx
ALLOWANCE = ("429/3036", "429/4006")
FATAL_STATUSES = (401, 402, 403, 404, 405, 407)
REMEDIES = {
    10000: "check CLOUDFLARE_API_TOKEN: it needs the permission Workers AI",
    9106: "set CLOUDFLARE_API_TOKEN",
    6003: "check CLOUDFLARE_API_TOKEN: it is malformed",
    5007: "check --remote-model",
    7000: "check --base-url and --remote-model",
    7001: "check --base-url and --remote-model",
    7003: "check CLOUDFLARE_ACCOUNT_ID and --base-url",
}
"""Codes of errors that every image would get, and what to do about them."""
LIMIT = 1e6  # in pixels: no box lies further out
SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class ApiResponse:
    """A parsed response.

    Attributes:
        outcome: "answered"; "retry": a later attempt may succeed; "fatal": every image would be refused; "refused":
            this image was; "failed": the response cannot be used.
        name: status and code, such as "429/3040", or the status alone.
        message: the API's error message, on one line.
        retry_after_s: seconds to wait before the next attempt, from the header Retry-After.
        remedy: what the user can do.
    """

    outcome: str
    name: str
    message: str = ""
    detections: Items = field(default_factory=list)
    retry_after_s: float | None = None
    remedy: str | None = None


def parse_response(dialect: str, status: int, body: bytes, retry_after_s: float | None = None) -> ApiResponse:
    """Outcome, detections and error of a response."""
    try:
        fields = parse_json(body, "the response", error=DatasetError)
    except DatasetError:
        fields = None
    if status == 200:
        return _success(dialect, fields)
    code, message = parse_error(fields)
    name = str(status) if code is None else f"{status}/{code}"
    if status in RETRIED or status >= 500:
        return ApiResponse("retry", name, message, retry_after_s=retry_after_s)
    if code in REMEDIES or status in FATAL_STATUSES or status < 400:
        remedy = REMEDIES.get(code or 0, "check the address, the token and the model")
        if status == 407:  # Proxy Authentication Required
            remedy = "check user and password in HTTP_PROXY"
        return ApiResponse("fatal", name, message, remedy=remedy)
    return ApiResponse("refused", name, message)


def is_allowance(name: str) -> bool:
    """Whether status and code mean that the daily allowance is used up."""
    return name in ALLOWANCE


def _success(dialect: str, fields: Any) -> ApiResponse:
    if fields is None:
        return ApiResponse("failed", "200", "the response is not JSON")
    has_envelope = isinstance(fields, Mapping) and dialect == "cloudflare"
    if has_envelope and not fields.get("success"):
        code, message = parse_error(fields)
        return ApiResponse("failed", "200" if code is None else f"200/{code}", message)
    try:
        detections = parse_detections(fields["result"] if has_envelope else fields)
    except (KeyError, TypeError, ValueError) as error:
        return ApiResponse("failed", "200", f"the response has no list of detections: {error}")
    return ApiResponse("answered", "200", detections=detections)


def parse_detections(value: Any) -> Items:
    """The detections of a response, checked, without unknown keys.

    Raises:
        KeyError, TypeError, ValueError: it is not a list of detections.
    """
    if not isinstance(value, list):
        raise TypeError(f"a {type(value).__name__}")
    return [
        {
            "score": _score(item["score"]),
            "label": _label(item["label"]),
            "box": {side: _coordinate(item["box"][side]) for side in SIDES},
        }
        for item in value
    ]


def parse_error(fields: Any) -> tuple[int | None, str]:
    """Code and message of an error in either dialect."""
    if not isinstance(fields, Mapping):
        return None, ""
    errors = fields.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else fields.get("error")
    code = first.get("code") if isinstance(first, Mapping) else None
    message = first.get("message") if isinstance(first, Mapping) else first
    return code if type(code) is int else None, printable(" ".join(str(message or "").split()))


def _label(value: Any) -> str:
    """The label as text.

    Raises:
        ValueError: it cannot be written.
    """
    if not is_text(label := str(value)):
        raise ValueError("a label is not text")
    return label


def _score(value: Any) -> float:
    """The score unchanged.

    Raises:
        ValueError: it is not a number from 0 to 1.
    """
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError(f"{reprlib.repr(value)} is not a score from 0 to 1")
    return value  # type: ignore[no-any-return]


def _coordinate(value: Any) -> float:
    """The coordinate unchanged; integers stay integers.

    Raises:
        ValueError: no box can have it.
    """
    if type(value) not in (int, float) or not abs(value) < LIMIT:
        raise ValueError(f"{reprlib.repr(value)} is not a coordinate")
    return value  # type: ignore[no-any-return]
