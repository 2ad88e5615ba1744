"""Bodies of requests, within limits: on one body, on all that a process holds, and on the time they take to arrive."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
from starlette.requests import Request

from detr_onnx.server.errors import BUSY, TIMEOUT, TOO_LARGE, RequestError

RETRY_AFTER_S = 1


class Intake:
    """Reads bodies and counts the bytes of all that are held.

    Attributes:
        held: in bytes.
    """

    def __init__(self, *, max_body: int, max_held: int, timeout_s: float) -> None:
        self.held = 0
        self._max_body, self._max_held, self._timeout_s = max_body, max_held, timeout_s

    @contextlib.asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, counted for as long as the context lasts.

        Raises:
            RequestError: TOO_LARGE, TIMEOUT if it arrives too slowly, BUSY if there is no memory left for it.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_body:
            raise self._too_large()
        body = bytearray()
        try:
            try:
                with anyio.fail_after(self._timeout_s):
                    await self._read(request, body)
            except TimeoutError as error:
                raise RequestError(TIMEOUT, "the body came too slowly") from error
            yield bytes(body)
        finally:
            self.held -= len(body)
            body.clear()

    async def _read(self, request: Request, body: bytearray) -> None:
        async for chunk in request.stream():
            body += chunk
            self.held += len(chunk)
            if len(body) > self._max_body:
                raise self._too_large()
            if self.held > self._max_held:
                raise RequestError(BUSY, retry_after_s=RETRY_AFTER_S)

    def _too_large(self) -> RequestError:
        return RequestError(TOO_LARGE, f"a body may have {self._max_body} bytes")
