"""What every dialect's routes work with, and how an endpoint becomes a route."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.detections import Detections
from detr_onnx.server.access import check_access
from detr_onnx.server.inference import Inference
from detr_onnx.server.intake import Intake
from detr_onnx.server.observe import Metrics, RequestRecord
from detr_onnx.server.protocols.workers_ai import ApiError, as_api_error
from detr_onnx.server.settings import Settings

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
Refuse = Callable[[ApiError, str], Any]
"""A refusal and the request's id -> the JSON that says so in a dialect."""

logger = logging.getLogger("detr_onnx")


@dataclass
class Service:
    """The parts of a running server.

    Attributes:
        ready: whether it takes requests; no longer so once it is about to end.
    """

    settings: Settings
    inference: Inference
    intake: Intake
    metrics: Metrics
    ready: bool = True

    async def detect(self, request: Request, read: Callable[[bytes], bytes], threshold: float) -> Detections:
        """What is in the image that `read`, called in a thread, finds in the request's body."""
        self.inference.check_room()
        async with self.intake.body(request) as body:
            work = self.inference.detect(lambda: read(body), threshold, note_of(request).timing)
            return await while_connected(request, work)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; it is dropped when the client goes away, and leaves its place in the queue to others.

    Raises:
        ClientDisconnect: that happened.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})
        del working, leaving  # or an error would keep this frame, this frame the error, and both the request's body


async def _gone(request: Request) -> None:
    """Returns when the client has closed its connection; its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def note_of(request: Request) -> RequestRecord:
    """What is noted of a request."""
    note: RequestRecord = request.scope["state"]["note"]
    return note


def answer_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON without spaces; numbers are written so that they come back the same."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(body, status, headers, media_type="application/json")


def refusal(request: Request, error: Exception, refuse: Refuse) -> Response:
    """The answer to a request that ended with an error, in the words of a dialect."""
    said = as_api_error(error)
    note = note_of(request)
    note.code = said.fault.code
    if said.fault.status >= 500:
        logger.error("request %s failed", note.id, exc_info=error)
    headers = {"retry-after": str(said.retry_after_s)} if said.retry_after_s is not None else None
    return answer_json(refuse(said, note.id), said.fault.status, headers)


def route(
    path: str,
    endpoint: Endpoint,
    refuse: Refuse,
    *,
    methods: Sequence[str] = ("GET",),
    token: str | None = None,
) -> Route:
    """A route whose errors are told in a dialect, behind the token if there is one."""

    async def answer(request: Request) -> Response:
        note_of(request).route = path
        try:
            check_access(request.headers, token)
            return await endpoint(request)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - the last line of defence: a bug is answered with 3001
            return refusal(request, error, refuse)

    return Route(path, answer, methods=list(methods))
