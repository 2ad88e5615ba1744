"""The OpenAPI document of the server, which `tests/server/test_openapi.py` compares with the routes."""

from __future__ import annotations

from typing import Any

from detr_onnx.server.openapi_parts import (
    BINARY,
    ERROR_FIELD,
    INTEGER,
    NUMBER,
    OPEN,
    READ,
    SHARE,
    TEXT,
    WORK,
    Json,
    array,
    body_of,
    content,
    envelope,
    flag,
    image_body,
    operation,
    parameter,
    record,
    response,
)
from detr_onnx.server.protocols.huggingface import SUBTASKS
from detr_onnx.server.protocols.workers_ai import INPUT_SCHEMA, MODELS, OUTPUT_SCHEMA

THRESHOLD = parameter("threshold", "query", SHARE)
SCHEMES = {
    "token": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-Auth-Key"},
    "email": {"type": "apiKey", "in": "header", "name": "X-Auth-Email"},
}


def document(version: str, *, secured: bool) -> Json:
    """The whole document.

    Args:
        version: of the package.
        secured: whether a token is required.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "detr-onnx",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {**_cloudflare(), **_huggingface(), **_kserve(), **_deepstack(), **_explain(), **_operations()},
        "components": {"securitySchemes": SCHEMES},
        "security": [{"token": []}, {"key": [], "email": []}] if secured else [],
    }


def _cloudflare() -> Json:
    account, gateway = (
        parameter(name, "path", {**TEXT, "pattern": "^[A-Za-z0-9_-]+$"}) for name in ("account", "gateway")
    )
    models = {**TEXT, "enum": [*MODELS]}
    model, name = parameter("model", "path", models), parameter("model", "query", models, required=True)
    queue = parameter("queueRequest", "query", {"type": "boolean", "const": False})
    image = {"oneOf": [INPUT_SCHEMA["oneOf"][1]["properties"]["image"], TEXT]}
    body = image_body(record({"image": image}))
    found, refused = envelope(OUTPUT_SCHEMA), envelope({})
    bound = image_body(record({"inputs": record({"image": image})}, {"options": {"type": "object"}}))
    failed = record({"internalCode": INTEGER, "message": TEXT, "name": TEXT, "description": TEXT})
    header = parameter("cf-consn-model-id", "header", models)
    filters = [parameter(key, "query", TEXT) for key in ("search", "task")]
    pages = [parameter(key, "query", {**INTEGER, "minimum": 1}) for key in ("page", "per_page")]
    counts = dict.fromkeys(("count", "page", "per_page", "total_count"), INTEGER)
    card = record({"id": TEXT, "name": TEXT, "description": TEXT, "task": {"type": "object"}})
    listed = envelope(array(card), {"result_info": record(counts)})
    schemas = envelope(record({"input": {"type": "object"}, "output": {"type": "object"}}))
    status = envelope(record({"id": TEXT, "status": TEXT}))
    base = "/client/v4/accounts/{account}"
    run, by_gateway = [account, model, THRESHOLD, queue], [account, gateway, model, THRESHOLD, queue]
    return {
        f"{base}/ai/run/{{model}}": {"post": operation("run", found, refused, WORK, run, body)},
        "/v1/{account}/{gateway}/workers-ai/{model}": {
            "post": operation("runByGateway", found, refused, WORK, by_gateway, body)
        },
        "/run": {"post": operation("runByBinding", OUTPUT_SCHEMA, failed, WORK, [header, THRESHOLD, queue], bound)},
        f"{base}/ai/models/search": {
            "get": operation("searchModels", listed, refused, READ, [account, *filters, *pages])
        },
        f"{base}/ai/models/schema": {"get": operation("modelSchema", schemas, refused, READ, [account, name])},
        f"{base}/tokens/verify": {"get": operation("verifyAccountToken", status, refused, READ, [account])},
        "/client/v4/user/tokens/verify": {"get": operation("verifyToken", status, refused, READ)},
    }


def _huggingface() -> Json:
    model = parameter("model", "path", {**TEXT, "enum": ["facebook/detr-resnet-50"]})
    shares = dict.fromkeys(("threshold", "mask_threshold", "overlap_mask_area_threshold"), SHARE)
    rules = {"type": ["object", "null"], "properties": {**shares, "subtask": {**TEXT, "enum": [*SUBTASKS]}}}
    body = image_body(record({"inputs": TEXT}, {"parameters": rules}))
    mask = {**TEXT, "contentEncoding": "base64", "contentMediaType": "image/png"}
    segments = array(record({"score": {"type": ["number", "null"]}, "label": TEXT, "mask": mask}))
    either = {"anyOf": [OUTPUT_SCHEMA, segments]}

    def run(name: str, schema: Json, *parameters: Json) -> Json:
        return {"post": operation(name, schema, ERROR_FIELD, WORK, [*parameters, THRESHOLD], body)}

    paths = {"/": {**run("runTaskAtRoot", either), "get": _page()}}
    for base, by in (("/models/{model}", ""), ("/hf-inference/models/{model}", "ByRouter")):
        paths[base] = run(f"runTask{by}", either, model)
        paths[f"{base}/pipeline/object-detection"] = run(f"objectDetection{by}", OUTPUT_SCHEMA, model)
        paths[f"{base}/pipeline/image-segmentation"] = run(f"imageSegmentation{by}", segments, model)
    return paths


def _page() -> Json:
    page = {"200": {"description": "a page to try the server", "content": content(TEXT, "text/html")}}
    return {"operationId": "page", "responses": page, "security": []}


def _kserve() -> Json:
    name = parameter("model", "path", {**TEXT, "enum": ["detr-resnet-50"]})
    version = parameter("version", "path", {**TEXT, "enum": ["1"]})
    tensor = {"name": TEXT, "datatype": TEXT, "shape": array(INTEGER)}
    values = record(tensor, {"data": array({}), "parameters": {"type": "object"}})
    wanted = {"id": TEXT, "parameters": {"type": "object"}, "outputs": array(record({"name": TEXT}))}
    request = record({"inputs": array(values)}, wanted)
    length = parameter("Inference-Header-Content-Length", "header", INTEGER)
    infer_body = body_of({**content(request), **content(BINARY, "application/octet-stream")})
    answer = record({"model_name": TEXT, "model_version": TEXT, "outputs": array(values)}, {"id": TEXT})
    answers = response("success; with binary tensors, JSON and their data behind it", answer)
    answers["content"].update(content(BINARY, "application/octet-stream"))
    tensors = array(record(tensor))
    described = record({"name": TEXT, "versions": array(TEXT), "platform": TEXT, "inputs": tensors, "outputs": tensors})
    server = record({"name": TEXT, "version": TEXT, "extensions": array(TEXT)})
    state = record(dict.fromkeys(("name", "version", "state", "reason"), TEXT))
    ready = record({"name": TEXT, "ready": flag()})
    index_body = {**body_of(content(record({}, {"ready": flag()}))), "required": False}
    paths = {
        "/v2": {"get": operation("serverMetadata", server, ERROR_FIELD, OPEN)},
        "/v2/health/live": {"get": operation("serverLive", record({"live": flag()}), ERROR_FIELD, OPEN)},
        "/v2/health/ready": {"get": _health("serverReady", record({"ready": flag()}))},
        "/v2/repository/index": {
            "post": operation("repositoryIndex", array(state), ERROR_FIELD, WORK, body=index_body)
        },
    }
    for action in ("load", "unload"):
        never = operation(f"{action}Model", None, ERROR_FIELD, READ, [name])
        paths[f"/v2/repository/models/{{model}}/{action}"] = {"post": {**never, "summary": "Always refused"}}
    for base, of, names in (("", "", [name]), ("/versions/{version}", "Version", [name, version])):
        path = f"/v2/models/{{model}}{base}"
        infer = operation(f"infer{of}", answers, ERROR_FIELD, WORK, [*names, length], infer_body)
        paths[path] = {"get": operation(f"model{of}Metadata", described, ERROR_FIELD, READ, names)}
        paths[f"{path}/ready"] = {"get": _health(f"model{of}Ready", ready, names)}
        paths[f"{path}/infer"] = {"post": infer}
    return paths


def _health(name: str, schema: Json, parameters: list[Json] | None = None) -> Json:
    """A GET that says in the same form that it is well, and with 503 that it is not."""
    found = operation(name, schema, ERROR_FIELD, (*OPEN, "404") if parameters else OPEN, parameters)
    found["responses"]["503"] = response("not now", schema)
    return found


def _deepstack() -> Json:
    sides = dict.fromkeys(("x_min", "y_min", "x_max", "y_max"), INTEGER)
    predictions = array(record({"confidence": NUMBER, "label": TEXT, **sides}))
    success = record({"success": {"const": True}, "predictions": predictions})
    refused = record({"success": {"const": False}, "error": TEXT})
    form = content(record({"image": BINARY}, {"min_confidence": NUMBER, "api_key": TEXT}), "multipart/form-data")
    detect = operation("detectForm", success, refused, WORK, body=body_of(form))
    # without the header, the form's api_key is the token
    return {"/v1/vision/detection": {"post": {**detect, "security": [{"token": []}, {}]}}}


def _explain() -> Json:
    box = record(dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), INTEGER))
    found = record({"score": NUMBER, "label": TEXT, "box": box, "peak": NUMBER, "heat": TEXT})
    maps = record({"rows": INTEGER, "columns": INTEGER, "objects": array(found)})
    explain = operation("explain", maps, ERROR_FIELD, WORK, [THRESHOLD], image_body(None))
    return {"/explain": {"post": {**explain, "summary": "Show where the model looks for each object"}}}


def _operations() -> Json:
    text = {"description": "Prometheus' text format", "content": content(TEXT, "text/plain")}
    health: dict[str, Any] = {
        "healthz": record({"status": TEXT}),
        "readyz": record({"status": TEXT}, {"model": TEXT, "engine": TEXT}),
    }
    return {
        **{f"/{name}": {"get": _health(name, schema)} for name, schema in health.items()},
        "/metrics": {"get": {"operationId": "metrics", "responses": {"200": text}, "security": []}},
        "/openapi.json": {"get": operation("document", {"type": "object"}, ERROR_FIELD, OPEN)},
    }
