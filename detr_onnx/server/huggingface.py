"""Object detection as Hugging Face's clients speak it: raw bytes, or `{"inputs": base64, "parameters": …}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.defaults import DEFAULT_MODEL
from detr_onnx.server.protocols.workers_ai import (
    BAD_INPUT,
    MISSING_BODY,
    NO_MODEL,
    ApiError,
    from_base64,
    is_json,
    parsed,
    threshold_of,
)
from detr_onnx.server.service import Service, answer_json, route

THRESHOLD = 0.5  # of transformers' pipeline, which the clients expect behind this path


def huggingface_routes(service: Service) -> list[Route]:
    """All routes of this dialect."""

    async def detect(request: Request) -> Response:
        name = request.path_params["model"]
        if name not in (DEFAULT_MODEL, service.settings.model):
            raise ApiError(NO_MODEL, text=f"Model {name} does not exist")
        asked: dict[str, float] = {}

        def read(body: bytes) -> bytes:
            if not body:
                raise ApiError(MISSING_BODY)
            if not is_json(request.headers.get("content-type", "")):
                return body
            fields = parsed(body)
            asked["threshold"] = _threshold(fields)
            return _image(fields)

        found = await service.detect(request, read, 0.0)
        threshold = asked.get("threshold", THRESHOLD)
        return answer_json(found.select(found.scores > threshold).to_api())

    token = service.settings.token
    paths = ("/models/{model:path}", "/hf-inference/models/{model:path}")
    return [route(path, detect, refused, methods=("POST",), token=token) for path in paths]


def refused(error: ApiError, request_id: str) -> dict[str, Any]:
    """A refusal in this dialect."""
    return {"error": error.text}


def _threshold(fields: Any) -> float:
    parameters = fields.get("parameters") if isinstance(fields, Mapping) else None
    asked = parameters.get("threshold") if isinstance(parameters, Mapping) else None
    return threshold_of(str(asked) if asked is not None else None, THRESHOLD)


def _image(fields: Any) -> bytes:
    inputs = fields.get("inputs") if isinstance(fields, Mapping) else None
    if isinstance(inputs, bytes):
        return inputs
    if not isinstance(inputs, str):
        raise ApiError(BAD_INPUT, 'expected {"inputs": base64 of an image}')
    return from_base64(inputs)
