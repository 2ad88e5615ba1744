"""Hugging Face's routes: object detection as the clients of its inference API call it."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.defaults import DEFAULT_MODEL
from detr_onnx.server.errors import NO_MODEL, RequestError, error_field
from detr_onnx.server.protocols.fields import parse_threshold
from detr_onnx.server.protocols.huggingface import THRESHOLD, read_request
from detr_onnx.server.service import Dialect, Service, answer_json, route

DIALECT = Dialect(error_field)


def routes(service: Service) -> list[Route]:
    """All routes of this dialect."""

    async def detect(request: Request) -> Response:
        name = request.path_params.get("model", DEFAULT_MODEL)
        if name not in (DEFAULT_MODEL, service.settings.model):
            raise RequestError(NO_MODEL, subject=name)
        default = parse_threshold(request.query_params.get("threshold"), THRESHOLD)
        read = partial(read_request, request.headers.get("content-type", ""), default)
        return answer_json((await service.detect(request, read)).to_api())

    token = service.settings.token
    paths = ("/", "/models/{model:path}", "/hf-inference/models/{model:path}")  # "/" is an inference endpoint's own
    return [route(path, detect, DIALECT, methods=("POST",), token=token) for path in paths]
