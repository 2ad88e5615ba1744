"""The application: a detector and settings in, an ASGI application out."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from detr_onnx.detector import Detector
from detr_onnx.server import cloudflare_routes as cloudflare
from detr_onnx.server import deepstack_routes as deepstack
from detr_onnx.server import explain_routes as explain
from detr_onnx.server import huggingface_routes as huggingface
from detr_onnx.server import kserve_routes as kserve
from detr_onnx.server.errors import BAD_METHOD, NO_ROUTE, RequestError
from detr_onnx.server.inference import Inference
from detr_onnx.server.intake import Intake
from detr_onnx.server.observe import Metrics, RequestLogMiddleware
from detr_onnx.server.operations import operation_routes
from detr_onnx.server.page import page_routes
from detr_onnx.server.service import Dialect, Service, refusal
from detr_onnx.server.settings import Settings

DIALECTS: dict[str, Dialect] = {
    "/v2": kserve.DIALECT,
    "/models/": huggingface.DIALECT,
    "/hf-inference/": huggingface.DIALECT,
    "/v1/vision/": deepstack.DIALECT,
    "/explain": explain.DIALECT,
}
"""Prefixes of paths, and the dialect of refusals there; Cloudflare's elsewhere."""


def application(settings: Settings, detector: Detector | None = None) -> tuple[RequestLogMiddleware, Service]:
    """The ASGI application, and the service behind it, which answers 503 until it has a detector."""
    metrics = Metrics(of_all_workers=settings.workers > 1)
    inference = Inference(
        queue=settings.queue,
        max_batch=settings.max_batch,
        max_pixels=settings.max_pixels,
        timeout_s=settings.timeout_s,
    )
    if detector is not None:
        inference.use(detector)
    intake = Intake(max_body=settings.max_body, max_held=settings.max_held, timeout_s=settings.timeout_s / 2)
    service = Service(settings, inference, intake, metrics)
    routes = [
        *cloudflare.routes(service),
        *huggingface.routes(service),
        *kserve.routes(service),
        *deepstack.routes(service),
        *explain.routes(service),
        *operation_routes(service),
        *page_routes(),
    ]
    app = Starlette(routes=routes, exception_handlers={404: unknown_route, 405: wrong_method})
    app.router.redirect_slashes = False
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    return RequestLogMiddleware(app, metrics, access_log=settings.access_log), service


def dialect_of(path: str) -> Dialect:
    """The dialect in which requests to a path are refused."""
    if path == cloudflare.BINDING_PATH:
        return cloudflare.BINDING
    return next((dialect for prefix, dialect in DIALECTS.items() if path.startswith(prefix)), cloudflare.DIALECT)


async def unknown_route(request: Request, error: Exception) -> Response:
    """The response where there is no route."""
    path = request.scope["path"]
    dialect = dialect_of(path)
    refused = cloudflare.unknown_route(path) if dialect == cloudflare.DIALECT else RequestError(NO_ROUTE)
    return refusal(request, refused, dialect)


async def wrong_method(request: Request, error: Exception) -> Response:
    """405, with the methods that the routes of the path accept in the header Allow."""
    refused = RequestError(BAD_METHOD, subject=request.method)
    response = refusal(request, refused, dialect_of(request.scope["path"]))
    routes = [r for r in request.app.routes if isinstance(r, Route) and r.matches(request.scope)[0] != Match.NONE]
    response.headers["allow"] = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
    return response
