"""Who may use the server: the token, in each form in which clients of the hosted API send it."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

from detr_onnx.server.errors import MALFORMED_TOKEN, NO_TOKEN, WRONG_TOKEN, RequestError

TOKEN = re.compile(r"[\x21-\x7e]+")
BEARER = re.compile(rf"[Bb]earer +({TOKEN.pattern})")


def is_token(text: str) -> bool:
    """Whether a header can hold this text as a token."""
    return TOKEN.fullmatch(text) is not None


def check_access(headers: Mapping[str, str], token: str | None) -> None:
    """Accepts a request with the token: `Authorization: Bearer …`, or `X-Auth-Key` with `X-Auth-Email`.

    Raises:
        RequestError: NO_TOKEN, MALFORMED_TOKEN or WRONG_TOKEN.
    """
    if token is None:
        return
    authorization, key = headers.get("authorization"), headers.get("x-auth-key")
    if authorization is None and (key is None or not headers.get("x-auth-email")):
        raise RequestError(NO_TOKEN)
    bearer = BEARER.fullmatch(authorization.strip()) if authorization is not None else None
    if authorization is not None and bearer is None:
        raise RequestError(MALFORMED_TOKEN)
    check_token(bearer[1] if bearer else key or "", token)


def check_token(received: str, token: str) -> None:
    """Compares in constant time; raises RequestError WRONG_TOKEN if they differ."""
    if not hmac.compare_digest(received.encode(), token.strip().encode()):
        raise RequestError(WRONG_TOKEN)
