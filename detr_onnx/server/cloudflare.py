"""The hosted API's paths: REST, AI Gateway, and the form in which the AI binding of Workers asks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.server.protocols.workers_ai import (
    INPUT_SCHEMA,
    MODELS,
    NO_MODEL,
    OUTPUT_SCHEMA,
    ApiError,
    bad_input,
    binding_failure,
    enveloped,
    failure,
    image_bytes,
    image_of,
    is_json,
    parsed,
    success,
    threshold_of,
)
from detr_onnx.server.service import Service, answer_json, route

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


def cloudflare_routes(service: Service) -> list[Route]:
    """All routes of this dialect."""
    token = service.settings.token

    async def run(request: Request) -> Response:
        check_model(request.path_params["model"])
        return answer_json(success(await detected(service, request)))

    async def bound(request: Request) -> Response:
        check_model(request.headers.get("cf-consn-model-id", MODELS[0]))
        return answer_json((await detected(service, request, inner=inputs_of)).to_api())

    async def verify(request: Request) -> Response:
        return answer_json(enveloped(*verified(service)))

    def here(path: str, endpoint: Any, *methods: str) -> Route:
        return route(path, endpoint, failure, methods=methods, token=token)

    account = f"{BASE}/accounts/{{account}}"
    return [
        here(f"{account}/ai/run/{{model:path}}", run, "POST"),
        here("/v1/{account}/{gateway}/workers-ai/{model:path}", run, "POST"),
        route("/run", bound, binding_failure, methods=("POST",), token=token),
        here(f"{account}/ai/models/search", search, "GET"),
        here(f"{account}/ai/models/schema", schema, "GET"),
        here(f"{BASE}/user/tokens/verify", verify, "GET"),
        here(f"{account}/tokens/verify", verify, "GET"),
    ]


async def detected(service: Service, request: Request, inner: Any = None) -> Any:
    """Detections for the image of a request; `inner` finds the input in its JSON."""
    threshold = threshold_of(request.query_params.get("threshold"), service.settings.threshold)
    kind = request.headers.get("content-type", "")

    def read(body: bytes) -> bytes:
        if inner is None or not is_json(kind) or not body:
            return image_bytes(kind, body)
        return image_of(inner(parsed(body)))

    return await service.detect(request, read, threshold)


def inputs_of(value: Any) -> Any:
    """What a Worker gave to `env.AI.run`, from the body that its binding makes of it.

    Raises:
        ApiError: 5006 when there is none.
    """
    if not isinstance(value, Mapping) or "inputs" not in value:
        raise bad_input("required properties at '/' are 'inputs'")
    return value["inputs"]


def check_model(name: str) -> None:
    """Raises ApiError 5007 for a model that is not this one."""
    if name not in MODELS:
        raise ApiError(NO_MODEL, text=f"No such model {name} or task")


async def search(request: Request) -> Response:
    """Models as the catalogue lists them; `search` and `task` select."""
    asked = request.query_params.get("search", "").lower()
    task = request.query_params.get("task", TASK["name"]).lower()
    found = [card()] if asked in MODELS[0].lower() and task == TASK["name"].lower() else []
    counts = {"count": len(found), "page": 1, "per_page": 20, "total_count": len(found)}
    if request.query_params.get("page", "1") not in ("", "1"):
        found, counts = [], {**counts, "count": 0}
    return answer_json({**enveloped(found), "result_info": counts})


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


def verified(service: Service) -> tuple[dict[str, str], list[Any]]:
    """The result and the message for a token that is right."""
    digest = hashlib.sha256((service.settings.token or "").encode()).hexdigest()[:32]
    message = {"code": 10000, "message": "This API Token is valid and active", "type": None}
    return {"id": digest, "status": "active"}, [message]
