"""Why a request is refused, in words of no vendor; each protocol writes it in its own form.

RequestError(kind, detail) ── a protocol ──► ErrorResponse(status, body, code)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detr_onnx.errors import DetrError, ImageError, ImageTooLargeError, UsageError

LEAST_SIDE_PX = 4
"""Smaller images are refused, as the hosted API does."""


@dataclass(frozen=True)
class ErrorKind:
    """One kind of refusal.

    Attributes:
        status: of HTTP, where a protocol has no other.
        sentence: what is wrong; `{subject}` in it is the name that the request used.
    """

    status: int
    sentence: str


NO_BODY = ErrorKind(400, "the request has no body")
UNDECODABLE = ErrorKind(400, "the image cannot be decoded")
TOO_SMALL = ErrorKind(400, f"the image is too small, expected at least {LEAST_SIDE_PX}x{LEAST_SIDE_PX} pixels")
BAD_BASE64 = ErrorKind(400, "the text is not the base64 of an image, nor a data URL")
BAD_INPUT = ErrorKind(400, "the input is not valid")
NO_TOKEN = ErrorKind(400, "the request has no token; send the header Authorization: Bearer TOKEN")
MALFORMED_TOKEN = ErrorKind(400, "the Authorization header is malformed, expected Bearer TOKEN")
WRONG_TOKEN = ErrorKind(401, "the token is wrong")
NO_ROUTE = ErrorKind(404, "Not found")
NOT_FOUND = ErrorKind(404, "{subject} is not found")
NO_MODEL = ErrorKind(404, "there is no model {subject}")
BAD_METHOD = ErrorKind(405, "Method {subject} not available for that URI.")
TIMEOUT = ErrorKind(408, "the request took too long")
TOO_LARGE = ErrorKind(413, "the request is too large")
BUSY = ErrorKind(429, "too many requests are waiting; try again later")
BAD_ENCODING = ErrorKind(415, "the Content-Encoding {subject} is not supported; send gzip, deflate or none")
UNAVAILABLE = ErrorKind(503, "the model is not available; try again later")
INTERNAL = ErrorKind(500, "Internal server error")


class RequestError(DetrError):
    """A request that is refused.

    Args:
        kind: one of this module's.
        detail: what is wrong with this request, as a sentence that can stand alone.
        subject: the model, method or path that the request named.
        retry_after_s: when to try again.
    """

    def __init__(
        self, kind: ErrorKind, detail: str = "", *, subject: str = "", retry_after_s: int | None = None
    ) -> None:
        self.kind, self.detail, self.subject, self.retry_after_s = kind, detail, subject, retry_after_s
        super().__init__(detail or kind.sentence.format(subject=subject))


@dataclass(frozen=True)
class ErrorResponse:
    """A refusal as a protocol writes it.

    Attributes:
        status: of HTTP.
        body: to be written as JSON.
        code: the protocol's own number, for the log and the metrics; the status where it has none.
    """

    status: int
    body: Any
    code: int


def error_field(error: RequestError, request_id: str) -> ErrorResponse:
    """`{"error": sentence}`, as Hugging Face's APIs and KServe write refusals."""
    return ErrorResponse(error.kind.status, {"error": str(error)}, error.kind.status)


def as_request_error(error: Exception) -> RequestError:
    """The refusal for a request that ended with this error; what is not foreseen is an internal error."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ImageTooLargeError):
        return RequestError(TOO_LARGE, str(error))
    if isinstance(error, ImageError):
        return RequestError(UNDECODABLE, str(error))
    if isinstance(error, UsageError):
        return RequestError(BAD_INPUT, str(error))
    if isinstance(error, TimeoutError):
        return RequestError(TIMEOUT)
    return RequestError(INTERNAL)
