"""What the routes of every protocol share: the service behind them, JSON responses, refusals."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.attention import AttentionMaps
from detr_onnx.detections import Detections
from detr_onnx.engines import PanopticOutputs
from detr_onnx.server.access import check_access
from detr_onnx.server.errors import INTERNAL, ErrorResponse, RequestError, as_request_error
from detr_onnx.server.inference import Inference
from detr_onnx.server.intake import Intake
from detr_onnx.server.observe import Metrics, RequestRecord
from detr_onnx.server.settings import Settings

Mask = NDArray[np.bool_]
T = TypeVar("T")
P = TypeVar("P")
Endpoint = Callable[[Request], Awaitable[Response]]

Render = Callable[[RequestError, str], ErrorResponse]
"""A refusal and the request's id -> the response in the form of one HTTP API."""

logger = logging.getLogger("detr_onnx")


@dataclass(frozen=True)
class Dialect:
    """How one HTTP API writes its responses.

    Attributes:
        render: writes refusals.
        id_header: a header of its own for the request's id, beside X-Request-Id.
    """

    render: Render
    id_header: str = ""


@dataclass
class Service:
    """The parts of a running server.

    Attributes:
        stopping: whether it is shutting down; it still answers requests on open connections.
    """

    settings: Settings
    inference: Inference
    intake: Intake
    metrics: Metrics
    stopping: bool = False

    @property
    def status(self) -> str:
        """Either ready, loading, stuck (see `Inference.status`) or stopping."""
        return "stopping" if self.stopping else self.inference.status

    async def detect(self, request: Request, read: Callable[[bytes], tuple[bytes, float]]) -> Detections:
        """The detections in the image of a request. `read`, called in a thread: body -> encoded image, threshold."""
        self.inference.check_room()
        async with self.intake.body(request) as body:
            work = self.inference.detect(lambda: read(body), record_of(request).timing)
            return await while_connected(request, work)

    async def segment(
        self,
        request: Request,
        read: Callable[[bytes], tuple[bytes, float, P]],
        finish: Callable[[PanopticOutputs, Mask, NDArray[np.int64], P], T],
    ) -> T:
        """What `finish` makes of the image of a request; see `Inference.segment`. `read` gets the body."""
        self.inference.check_room()
        async with self.intake.body(request) as body:
            work = self.inference.segment(lambda: read(body), finish, record_of(request).timing)
            return await while_connected(request, work)

    async def explain(
        self, request: Request, read: Callable[[bytes], tuple[bytes, float]], finish: Callable[[AttentionMaps], T]
    ) -> T:
        """What `finish`, called in a thread, makes of the attention maps of a request's image; `read` as above."""
        self.inference.check_room()
        async with self.intake.body(request) as body:
            work = self.inference.explain(lambda: read(body), finish, record_of(request).timing)
            return await while_connected(request, work)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled and leaves the queue if the client disconnects.

    Raises:
        ClientDisconnect: the client disconnected.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})
        del working, leaving  # an error, its frames and the body would otherwise keep each other alive


async def _disconnected(request: Request) -> None:
    """Returns when the client closes its connection. Its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def record_of(request: Request) -> RequestRecord:
    """The request's record for the log and the metrics."""
    record: RequestRecord = request.scope["state"]["record"]
    return record


def answer_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON without spaces; floats are written so that they are read back exactly."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(body, status, headers, media_type="application/json")


def refusal(request: Request, error: Exception, dialect: Dialect) -> Response:
    """The response to a request that ended with an error, in a dialect."""
    refused, record = as_request_error(error), record_of(request)
    rendered = dialect.render(refused, record.id)
    record.code = rendered.code
    if refused.kind == INTERNAL:
        logger.error("request %s failed", record.id, exc_info=error)
    response = answer_json(rendered.body, rendered.status)
    if refused.retry_after_s is not None:
        response.headers["retry-after"] = str(refused.retry_after_s)
    return with_id(response, dialect, record)


def with_id(response: Response, dialect: Dialect, record: RequestRecord) -> Response:
    """The response with the dialect's own header for the request's id."""
    if dialect.id_header:
        response.headers[dialect.id_header] = record.id
    return response


def route(
    path: str,
    endpoint: Endpoint,
    dialect: Dialect,
    *,
    methods: Sequence[str] = ("GET",),
    token: str | None = None,
) -> Route:
    """A route whose refusals are written in a dialect; it requires the token if there is one."""

    async def respond(request: Request) -> Response:
        record = record_of(request)
        record.route = path
        try:
            check_access(request.headers, token)
            return with_id(await endpoint(request), dialect, record)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - a bug is answered as an internal error
            return refusal(request, error, dialect)

    return Route(path, respond, methods=list(methods))
