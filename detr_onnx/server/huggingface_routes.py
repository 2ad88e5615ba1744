"""Hugging Face's routes: object detection as the clients of its inference API call it."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.defaults import DEFAULT_MODEL
from detr_onnx.server.errors import NO_MODEL, RequestError, error_field
from detr_onnx.server.protocols.huggingface import read_request
from detr_onnx.server.service import Dialect, Service, answer_json, route

DIALECT = Dialect(error_field)


def routes(service: Service) -> list[Route]:
    """All routes of this dialect."""

    async def detect(request: Request) -> Response:
        name = request.path_params["model"]
        if name not in (DEFAULT_MODEL, service.settings.model):
            raise RequestError(NO_MODEL, subject=name)
        content_type = request.headers.get("content-type", "")
        return answer_json((await service.detect(request, partial(read_request, content_type))).to_api())

    token = service.settings.token
    paths = ("/models/{model:path}", "/hf-inference/models/{model:path}")
    return [route(path, detect, DIALECT, methods=("POST",), token=token) for path in paths]
