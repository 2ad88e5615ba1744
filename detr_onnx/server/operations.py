"""Routes for operators: health, metrics, the OpenAPI document."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx import __version__
from detr_onnx.server.errors import error_field
from detr_onnx.server.openapi import document
from detr_onnx.server.service import Dialect, Service, answer_json, route

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def operation_routes(service: Service) -> list[Route]:
    """All of them; none requires the token."""

    async def health(request: Request) -> Response:
        stuck = service.status == "stuck"  # nothing but a restart is sure to help
        return answer_json({"status": "stuck" if stuck else "ok"}, 503 if stuck else 200)

    async def ready(request: Request) -> Response:
        status = service.status
        if status != "ready":
            return answer_json({"status": status}, 503)
        engine = service.inference.detector.runtime
        return answer_json({"status": status, "model": service.settings.model, "engine": engine})

    async def metrics(request: Request) -> Response:
        service.metrics.pending.set(service.inference.pending)
        return Response(service.metrics.text(), headers={"content-type": PROMETHEUS_TEXT})

    async def openapi(request: Request) -> Response:
        return answer_json(document(__version__, secured=service.settings.token is not None))

    endpoints = {"/healthz": health, "/readyz": ready, "/metrics": metrics, "/openapi.json": openapi}
    return [route(path, endpoint, Dialect(error_field)) for path, endpoint in endpoints.items()]
