"""The whole application: a detector and settings in, an ASGI application out."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from detr_onnx.detector import Detector
from detr_onnx.server.cloudflare import BASE, cloudflare_routes
from detr_onnx.server.huggingface import huggingface_routes, refused
from detr_onnx.server.inference import Inference
from detr_onnx.server.intake import Intake
from detr_onnx.server.kserve_routes import kserve_routes
from detr_onnx.server.observe import Metrics, RequestLogMiddleware
from detr_onnx.server.operations import operation_routes
from detr_onnx.server.page import page_routes
from detr_onnx.server.protocols.workers_ai import BAD_METHOD, NO_OBJECT, NO_ROUTE, ApiError, failure
from detr_onnx.server.service import Service, refusal
from detr_onnx.server.settings import Settings

OTHER_DIALECTS = ("/v2", "/models/", "/hf-inference/")


def application(settings: Settings, detector: Detector) -> tuple[RequestLogMiddleware, Service]:
    """The ASGI application, and the service behind it."""
    metrics = Metrics(of_all_workers=settings.workers > 1)
    inference = Inference(
        detector,
        queue=settings.queue,
        max_batch=settings.max_batch,
        max_pixels=settings.max_pixels,
        timeout_s=settings.timeout_s,
    )
    intake = Intake(max_body=settings.max_body, max_held=settings.max_held, timeout_s=settings.timeout_s / 2)
    service = Service(settings, inference, intake, metrics)
    routes = [
        *cloudflare_routes(service),
        *huggingface_routes(service),
        *kserve_routes(service),
        *operation_routes(service),
        *page_routes(),
    ]
    handlers = {404: no_route, 405: bad_method}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return RequestLogMiddleware(app, metrics, access_log=settings.access_log), service


async def no_route(request: Request, error: Exception) -> Response:
    """The answer where there is nothing: 7003 below an account, 7000 elsewhere, in the dialect of the path."""
    path = request.url.path
    if path.startswith(OTHER_DIALECTS):
        return refusal(request, ApiError(NO_OBJECT, text="Not found"), refused)
    if path.startswith(f"{BASE}/accounts/"):
        text = f"Could not route to {path}, perhaps your object identifier is invalid?"
        return refusal(request, ApiError(NO_OBJECT, text=text), failure)
    return refusal(request, ApiError(NO_ROUTE), failure)


async def bad_method(request: Request, error: Exception) -> Response:
    """405 with the methods that there are."""
    said = ApiError(BAD_METHOD, text=f"Method {request.method} not available for that URI.")
    dialect = refused if request.url.path.startswith(OTHER_DIALECTS) else failure
    answer = refusal(request, said, dialect)
    answer.headers.update(getattr(error, "headers", None) or {})
    return answer
