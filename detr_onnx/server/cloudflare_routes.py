"""The hosted API's routes: REST, AI Gateway, and the AI binding of Workers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.detections import Detections
from detr_onnx.server.errors import BAD_INPUT, NO_MODEL, NO_ROUTE, NOT_FOUND, RequestError
from detr_onnx.server.protocols.fields import is_json, parse_threshold
from detr_onnx.server.protocols.workers_ai import (
    INPUT_SCHEMA,
    MODELS,
    OUTPUT_SCHEMA,
    bad_input,
    binding_failure,
    enveloped,
    failure,
    image_of,
    parse_json,
    read_image,
    success,
)
from detr_onnx.server.service import Dialect, Service, answer_json, route

NO_QUEUE = "queueRequest and requests are not supported by this model; send one image in each request"
DIALECT = Dialect(failure, id_header="cf-ai-req-id")
BINDING = Dialect(binding_failure, id_header="cf-ai-req-id")
BINDING_PATH = "/run"

BASE = "/client/v4"
TASK = {
    "id": "9c178979-90d9-49d8-9e2c-0f1cf01815d4",
    "name": "Object Detection",
    "description": "Object detection models can detect instances of objects like persons, faces, license plates, or "
    "others in an image.",
}
DESCRIPTION = (
    "DEtection TRansformer (DETR) model trained end-to-end on COCO 2017 object detection (118k annotated images)."
)


def routes(service: Service) -> list[Route]:
    """All routes of this dialect."""
    token = service.settings.token

    async def run(request: Request) -> Response:
        check_model(request.path_params["model"])
        return answer_json(success(await detect(service, request)))

    async def bound(request: Request) -> Response:
        check_model(request.headers.get("cf-consn-model-id", MODELS[0]))
        return answer_json((await detect(service, request, unwrap=inputs_of)).to_api())

    async def verify(request: Request) -> Response:
        return answer_json(enveloped(*token_status(service)))

    def here(path: str, endpoint: Any, *methods: str) -> Route:
        return route(path, endpoint, DIALECT, methods=methods, token=token)

    account = f"{BASE}/accounts/{{account}}"
    return [
        here(f"{account}/ai/run/{{model:path}}", run, "POST"),
        here("/v1/{account}/{gateway}/workers-ai/{model:path}", run, "POST"),
        route(BINDING_PATH, bound, BINDING, methods=("POST",), token=token),
        here(f"{account}/ai/models/search", search, "GET"),
        here(f"{account}/ai/models/schema", schema, "GET"),
        here(f"{BASE}/user/tokens/verify", verify, "GET"),
        here(f"{account}/tokens/verify", verify, "GET"),
    ]


def unknown_route(path: str) -> RequestError:
    """The refusal of a path that has no route: 7003 below an account, 7000 elsewhere."""
    if path.startswith(f"{BASE}/accounts/"):
        return RequestError(NOT_FOUND, subject=path)
    return RequestError(NO_ROUTE)


async def detect(service: Service, request: Request, unwrap: Callable[[Any], Any] = lambda value: value) -> Detections:
    """The detections in the image of a request; `unwrap` returns the model's input from a JSON body."""
    threshold = parse_threshold(request.query_params.get("threshold"), service.settings.threshold)
    content_type = request.headers.get("content-type", "")
    if request.query_params.get("queueRequest", "false").lower() != "false":
        raise RequestError(BAD_INPUT, NO_QUEUE)

    def read(body: bytes) -> tuple[bytes, float]:
        if not is_json(content_type) or not body:
            return read_image(content_type, body), threshold
        value = unwrap(parse_json(body))
        if isinstance(value, Mapping) and "requests" in value and "image" not in value:
            raise RequestError(BAD_INPUT, NO_QUEUE)
        return image_of(value), threshold

    return await service.detect(request, read)


def inputs_of(value: Any) -> Any:
    """The inputs that a Worker passed to `env.AI.run`, from the body that its binding sends.

    Raises:
        RequestError: 5006, there are none, or the asynchronous queue is requested.
    """
    if not isinstance(value, Mapping) or "inputs" not in value:
        raise bad_input("required properties at '/' are 'inputs'")
    options = value.get("options")
    if isinstance(options, Mapping) and options.get("queueRequest"):
        raise RequestError(BAD_INPUT, NO_QUEUE)
    return value["inputs"]


def check_model(name: str) -> None:
    """Raises RequestError 5007 for any other model."""
    if name not in MODELS:
        raise RequestError(NO_MODEL, subject=name)


async def search(request: Request) -> Response:
    """The catalogue of models, filtered by `search` and `task`."""
    words = request.query_params.get("search", "").lower()
    task = request.query_params.get("task", TASK["name"]).lower()
    models = [card()] if words in MODELS[0].lower() and task == TASK["name"].lower() else []
    page, per_page = (whole_number(request, name, default) for name, default in (("page", 1), ("per_page", 20)))
    on_page = models[(page - 1) * per_page : page * per_page]
    counts = {"count": len(on_page), "page": page, "per_page": per_page, "total_count": len(models)}
    return answer_json({**enveloped(on_page), "result_info": counts})


def whole_number(request: Request, name: str, default: int) -> int:
    """A parameter of the query, if it is a number from 1 to 9999; else the default."""
    text = request.query_params.get(name, "")
    return int(text) if re.fullmatch("0*[1-9][0-9]{0,3}", text) else default


def card() -> dict[str, Any]:
    """The model's entry in the catalogue."""
    properties = [{"property_id": "beta", "value": "true"}]
    identifier = "cc34ce52-3059-415f-9a48-12aa919d37ee"
    return {
        "id": identifier,
        "source": 1,
        "name": MODELS[0],
        "description": DESCRIPTION,
        "task": TASK,
        "tags": [],
        "properties": properties,
    }


async def schema(request: Request) -> Response:
    """The published schemas of the model that `model` names."""
    check_model(request.query_params.get("model", ""))
    return answer_json(enveloped({"input": INPUT_SCHEMA, "output": OUTPUT_SCHEMA}))


def token_status(service: Service) -> tuple[dict[str, str], list[Any]]:
    """The result and the messages for a valid token."""
    digest = hashlib.sha256((service.settings.token or "").encode()).hexdigest()[:32]
    message = {"code": 10000, "message": "This API Token is valid and active", "type": None}
    return {"id": digest, "status": "active"}, [message]
