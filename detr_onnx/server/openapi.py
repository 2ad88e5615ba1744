"""The OpenAPI document of the server."""

from __future__ import annotations

from typing import Any

from detr_onnx.server.protocols.huggingface import SUBTASKS
from detr_onnx.server.protocols.workers_ai import INPUT_SCHEMA, MODELS, OUTPUT_SCHEMA

Json = dict[str, Any]

ERROR = {
    "type": "object",
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
    "required": ["code", "message"],
}
REFUSALS = {
    "400": "the request is not valid",
    "401": "the token is wrong",
    "404": "not found",
    "408": "the request took too long",
    "413": "the request is too large",
    "415": "the content encoding is not supported",
    "429": "too many requests are waiting",
    "500": "internal error",
    "503": "the model is not available",
}
ERROR_FIELD = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}


def envelope(result: Json) -> Json:
    """The schema of a response in the hosted API's envelope."""
    anything = {"type": "array", "items": {}}
    properties = {"result": result, "success": {"type": "boolean"}, "errors": {"type": "array", "items": ERROR}}
    return {
        "type": "object",
        "properties": {**properties, "messages": anything},
        "required": ["result", "success", "errors", "messages"],
    }


def response(description: str, schema: Json) -> Json:
    """A JSON response."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def responses(schema: Json, refused: Json) -> Json:
    """The response of a success and those of all refusals."""
    refusals = {status: response(text, refused) for status, text in REFUSALS.items()}
    return {"200": response("success", schema), **refusals}


def image_body(json_schema: Json) -> Json:
    """A body that is an image or JSON."""
    raw = {"schema": {"type": "string", "format": "binary"}}
    media_types = {"application/octet-stream": raw, "image/jpeg": raw, "image/png": raw}
    return {"required": True, "content": {**media_types, "application/json": {"schema": json_schema}}}


def parameter(name: str, location: str, schema: Json) -> Json:
    """A parameter; parameters in a path are required."""
    return {"name": name, "in": location, "schema": schema, "required": location == "path"}


def document(version: str, *, secured: bool) -> Json:
    """The whole document.

    Args:
        version: of the package.
        secured: whether a token is required.
    """
    paths = {**_cloudflare(), **_huggingface(), **_kserve(), **_deepstack(), **_explain(), **_operations()}
    bearer = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "detr-onnx",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": bearer,
        "security": [{"token": []}] if secured else [],
    }


def _cloudflare() -> Json:
    refused = envelope({})
    account = parameter("account", "path", {"type": "string", "pattern": "^[a-z0-9]+$"})
    model = parameter("model", "path", {"type": "string", "enum": list(MODELS)})
    threshold = parameter("threshold", "query", {"type": "number", "minimum": 0, "maximum": 1})
    bytes_or_text = {"oneOf": [INPUT_SCHEMA["oneOf"][1]["properties"]["image"], {"type": "string"}]}
    body = image_body({"type": "object", "properties": {"image": bytes_or_text}, "required": ["image"]})
    run = {
        "summary": "Detect objects in an image",
        "operationId": "run",
        "parameters": [account, model, threshold],
        "requestBody": body,
        "responses": responses(envelope(OUTPUT_SCHEMA), refused),
    }
    base = "/client/v4/accounts/{account}/ai"
    gateway = parameter("gateway", "path", {"type": "string", "pattern": "^[a-z0-9]+$"})
    query_model = parameter("model", "query", {"type": "string", "enum": list(MODELS)})
    words = parameter("search", "query", {"type": "string"})
    return {
        f"{base}/run/{{model}}": {"post": run},
        "/v1/{account}/{gateway}/workers-ai/{model}": {
            "post": {**run, "operationId": "runByGateway", "parameters": [account, gateway, model, threshold]}
        },
        f"{base}/models/search": {"get": _get("searchModels", [account, words], envelope({"type": "array"}), refused)},
        f"{base}/models/schema": {
            "get": _get("modelSchema", [account, {**query_model, "required": True}], envelope({}), refused)
        },
        "/client/v4/user/tokens/verify": {"get": _get("verifyToken", [], envelope({}), refused)},
    }


def _get(name: str, parameters: list[Json], schema: Json, refused: Json) -> Json:
    return {"operationId": name, "parameters": parameters, "responses": responses(schema, refused)}


def _huggingface() -> Json:
    model = parameter("model", "path", {"type": "string", "enum": ["facebook/detr-resnet-50"]})
    number = {"type": "number", "minimum": 0, "maximum": 1}
    rules = {
        "threshold": number,
        "mask_threshold": number,
        "overlap_mask_area_threshold": number,
        "subtask": {"type": "string", "enum": list(SUBTASKS)},
    }
    fields = {"inputs": {"type": "string"}, "parameters": {"type": "object", "properties": rules}}
    body = image_body({"type": "object", "properties": fields, "required": ["inputs"]})
    properties = {
        "score": {"type": ["number", "null"]},
        "label": {"type": "string"},
        "mask": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
    }
    segment = {"type": "object", "properties": properties, "required": [*properties]}
    segments = {"type": "array", "items": segment}
    either = {"anyOf": [OUTPUT_SCHEMA, segments]}
    operations: dict[str, tuple[str, list[Json], Json]] = {
        "/models/{model}": ("runTask", [model], either),
        "/": ("runTaskAtRoot", [], either),
        "/models/{model}/pipeline/object-detection": ("objectDetection", [model], OUTPUT_SCHEMA),
        "/models/{model}/pipeline/image-segmentation": ("imageSegmentation", [model], segments),
    }
    return {
        path: {
            "post": {
                "operationId": name,
                "parameters": parameters,
                "requestBody": body,
                "responses": responses(schema, ERROR_FIELD),
            }
        }
        for path, (name, parameters, schema) in operations.items()
    }


def _kserve() -> Json:
    model = parameter("model", "path", {"type": "string", "enum": ["detr-resnet-50"]})
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": {"type": "array"},
        },
        "required": ["name", "datatype", "shape"],
    }
    body = {"type": "object", "properties": {"inputs": {"type": "array", "items": tensor}}, "required": ["inputs"]}
    anything = {"type": "object"}
    infer = {
        "operationId": "infer",
        "parameters": [model],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": responses(anything, ERROR_FIELD),
    }
    index = {"operationId": "repositoryIndex", "responses": responses({"type": "array"}, ERROR_FIELD)}
    simple = {"/v2": [], "/v2/health/live": [], "/v2/health/ready": [], "/v2/models/{model}": [model]}
    return {
        **{
            path: {"get": _get(f"get {path}", parameters, anything, ERROR_FIELD)} for path, parameters in simple.items()
        },
        "/v2/models/{model}/infer": {"post": infer},
        "/v2/repository/index": {"post": index},
    }


def _deepstack() -> Json:
    number, text, side = {"type": "number"}, {"type": "string"}, {"type": "integer"}
    sides = dict.fromkeys(("x_min", "y_min", "x_max", "y_max"), side)
    prediction = {"type": "object", "properties": {"confidence": number, "label": text, **sides}}
    success = {
        "type": "object",
        "properties": {"success": {"const": True}, "predictions": {"type": "array", "items": prediction}},
        "required": ["success", "predictions"],
    }
    refused = {"type": "object", "properties": {"success": {"const": False}, "error": text}, "required": ["error"]}
    fields = {"image": {"type": "string", "format": "binary"}, "min_confidence": number, "api_key": text}
    form = {"type": "object", "properties": fields, "required": ["image"]}
    detect = {
        "operationId": "detectForm",
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "responses": responses(success, refused),
    }
    return {"/v1/vision/detection": {"post": detect}}


def _explain() -> Json:
    side, number, text = {"type": "integer"}, {"type": "number"}, {"type": "string"}
    box = {"type": "object", "properties": dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), side)}
    properties = {"score": number, "label": text, "box": box, "peak": number, "heat": text}
    found = {"type": "object", "properties": properties, "required": list(properties)}
    fields = {"rows": side, "columns": side, "objects": {"type": "array", "items": found}}
    raw = {"schema": {"type": "string", "format": "binary"}}
    explain = {
        "summary": "Show where the model looks for each object",
        "operationId": "explain",
        "parameters": [parameter("threshold", "query", {"type": "number", "minimum": 0, "maximum": 1})],
        "requestBody": {"required": True, "content": {"application/octet-stream": raw, "image/jpeg": raw}},
        "responses": responses({"type": "object", "properties": fields, "required": list(fields)}, ERROR_FIELD),
    }
    return {"/explain": {"post": explain}}


def _operations() -> Json:
    operations = {
        path: {"get": _get(path[1:], [], {"type": "object"}, ERROR_FIELD)} for path in ("/healthz", "/readyz")
    }
    text = {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {**operations, "/metrics": {"get": {"operationId": "metrics", "responses": {"200": text}}}}
