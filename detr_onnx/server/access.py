"""Who may ask: the token, in each of the forms that clients of the hosted API present it."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

from detr_onnx.server.protocols.workers_ai import MALFORMED_HEADERS, NO_CREDENTIALS, WRONG_CREDENTIALS, ApiError

BEARER = re.compile(r"[Bb]earer +([\x21-\x7e]+)")


def check_access(headers: Mapping[str, str], token: str | None) -> None:
    """Lets a request with the token pass: `Authorization: Bearer …`, or X-Auth-Key beside X-Auth-Email.

    Raises:
        ApiError: 9106 for none, 6003 for a malformed header, 10000 for another token.
    """
    if token is None:
        return
    authorization, key = headers.get("authorization"), headers.get("x-auth-key")
    if authorization is None and key is None:
        raise ApiError(NO_CREDENTIALS)
    presented = BEARER.fullmatch(authorization.strip()) if authorization is not None else None
    if authorization is not None and presented is None:
        raise ApiError(MALFORMED_HEADERS)
    given = presented[1] if presented else key or ""
    if not hmac.compare_digest(given.encode(), token.strip().encode()):
        raise ApiError(WRONG_CREDENTIALS)
