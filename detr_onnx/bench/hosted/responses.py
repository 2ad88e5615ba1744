"""What a far side's answer means, by the hosted API's table of errors; Hugging Face's dialect has statuses alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Items = list[dict[str, Any]]
"""Detections in the API's form: score, label, box."""

FLOOR = 0.1  # the hosted API says nothing of lower scores; the other dialect is told so
AGAIN = (408, 429)  # and 5xx
ALLOWANCE = ("429/3036", "429/4006")
NEVER_STATUSES = (401, 402, 403, 404, 405)
REMEDIES = {
    10000: "check CLOUDFLARE_API_TOKEN: it needs the permission Workers AI",
    9106: "set CLOUDFLARE_API_TOKEN",
    6003: "check CLOUDFLARE_API_TOKEN: it is malformed",
    5007: "check --remote-model",
    7000: "check --base-url and --remote-model",
    7001: "check --base-url and --remote-model",
    7003: "check CLOUDFLARE_ACCOUNT_ID and --base-url",
}
"""Codes that concern no image but all, and what to do."""
BEYOND = 1e6  # pixels, or scores; there are no such images
SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class ApiResponse:
    """An answer, understood.

    Attributes:
        outcome: "answered"; "again", it may do better later; "never", nor for any other image; "refused", this
            image; "failed", it makes no sense.
        name: status and code, such as "429/3040", or the status alone.
        message: in the far side's words, one line.
        retry_after_s: when it wants to be asked again.
        remedy: what the user can do.
    """

    outcome: str
    name: str
    message: str = ""
    detections: Items = field(default_factory=list)
    retry_after_s: float | None = None
    remedy: str | None = None


def parse_response(dialect: str, status: int, body: bytes, retry_after_s: float | None = None) -> ApiResponse:
    """An answer's meaning."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if status == 200:
        return _answer(dialect, fields)
    code, message = complaint(fields)
    name = str(status) if code is None else f"{status}/{code}"
    if status in AGAIN or status >= 500:
        return ApiResponse("again", name, message, retry_after_s=retry_after_s)
    if code in REMEDIES or status in NEVER_STATUSES or status < 400:
        return ApiResponse(
            "never", name, message, remedy=REMEDIES.get(code or 0, "check the address, the token and the model")
        )
    return ApiResponse("refused", name, message)


def is_allowance(name: str) -> bool:
    """Whether status and code say that the day's allowance is used up."""
    return name in ALLOWANCE


def _answer(dialect: str, fields: Any) -> ApiResponse:
    if fields is None:
        return ApiResponse("failed", "200", "the answer is no JSON")
    enveloped = isinstance(fields, Mapping) and dialect == "cloudflare"
    if enveloped and not fields.get("success"):
        code, message = complaint(fields)
        return ApiResponse("failed", "200" if code is None else f"200/{code}", message)
    try:
        return ApiResponse("answered", "200", detections=detections_in(fields["result"] if enveloped else fields))
    except (KeyError, TypeError, ValueError) as error:
        return ApiResponse("failed", "200", f"no list of detections in the answer: {error}")


def detections_in(value: Any) -> Items:
    """The detections of an answer, checked, with the keys that belong to them.

    Raises:
        KeyError, TypeError, ValueError: it is no list of detections.
    """
    if not isinstance(value, list):
        raise TypeError(f"a {type(value).__name__}")
    return [
        {
            "score": _number(item["score"]),
            "label": str(item["label"]),
            "box": {side: _number(item["box"][side]) for side in SIDES},
        }
        for item in value
    ]


def complaint(fields: Any) -> tuple[int | None, str]:
    """Code and message of a refusal in either dialect."""
    if not isinstance(fields, Mapping):
        return None, ""
    errors = fields.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else fields.get("error")
    code = first.get("code") if isinstance(first, Mapping) else None
    message = first.get("message") if isinstance(first, Mapping) else first
    return code if type(code) is int else None, " ".join(str(message or "").split())


def _number(value: Any) -> float:
    """The number as it is, an integer one kept.

    Raises:
        ValueError: it is none, or none of an image.
    """
    if type(value) not in (int, float) or not abs(value) < BEYOND:
        raise ValueError(f"{value!r} is no score and no pixel")
    return value  # type: ignore[no-any-return]
