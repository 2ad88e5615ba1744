"""The OpenAPI document of the server: data."""

from __future__ import annotations

from typing import Any

from detr_onnx.server.protocols.workers_ai import INPUT_SCHEMA, MODELS, OUTPUT_SCHEMA

Json = dict[str, Any]

ERROR = {
    "type": "object",
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
    "required": ["code", "message"],
}
REFUSED = {
    "400": "refused",
    "401": "wrong token",
    "404": "there is no such thing",
    "408": "timeout",
    "413": "too large",
    "429": "busy",
    "500": "internal",
}


def envelope(result: Json) -> Json:
    """The schema of an answer in the hosted API's envelope."""
    anything = {"type": "array", "items": {}}
    properties = {"result": result, "success": {"type": "boolean"}, "errors": {"type": "array", "items": ERROR}}
    return {
        "type": "object",
        "properties": {**properties, "messages": anything},
        "required": ["result", "success", "errors", "messages"],
    }


def said(description: str, schema: Json) -> Json:
    """A response in JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def answers(schema: Json, refused: Json) -> Json:
    """A success and what can go wrong."""
    return {"200": said("what was asked for", schema), **{code: said(text, refused) for code, text in REFUSED.items()}}


def image_body(json_schema: Json) -> Json:
    """A body that is an image, or JSON."""
    raw = {"schema": {"type": "string", "format": "binary"}}
    kinds = {"application/octet-stream": raw, "image/jpeg": raw, "image/png": raw}
    return {"required": True, "content": {**kinds, "application/json": {"schema": json_schema}}}


def parameter(name: str, place: str, schema: Json) -> Json:
    """A parameter; those in a path are required."""
    return {"name": name, "in": place, "schema": schema, "required": place == "path"}


def document(version: str, *, secured: bool) -> Json:
    """The whole document.

    Args:
        version: of the package.
        secured: whether a token is asked for.
    """
    paths = {**_cloudflare(), **_huggingface(), **_kserve(), **_operations()}
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
        "summary": "Find things in an image",
        "operationId": "run",
        "parameters": [account, model, threshold],
        "requestBody": body,
        "responses": answers(envelope(OUTPUT_SCHEMA), refused),
    }
    base = "/client/v4/accounts/{account}/ai"
    gateway = parameter("gateway", "path", {"type": "string", "pattern": "^[a-z0-9]+$"})
    asked = parameter("model", "query", {"type": "string", "enum": list(MODELS)})
    words = parameter("search", "query", {"type": "string"})
    return {
        f"{base}/run/{{model}}": {"post": run},
        "/v1/{account}/{gateway}/workers-ai/{model}": {
            "post": {**run, "operationId": "runByGateway", "parameters": [account, gateway, model, threshold]}
        },
        f"{base}/models/search": {"get": _got("searchModels", [account, words], envelope({"type": "array"}), refused)},
        f"{base}/models/schema": {
            "get": _got("modelSchema", [account, {**asked, "required": True}], envelope({}), refused)
        },
        "/client/v4/user/tokens/verify": {"get": _got("verifyToken", [], envelope({}), refused)},
    }


def _got(name: str, parameters: list[Json], schema: Json, refused: Json) -> Json:
    return {"operationId": name, "parameters": parameters, "responses": answers(schema, refused)}


def _huggingface() -> Json:
    refused = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    model = parameter("model", "path", {"type": "string", "enum": ["facebook/detr-resnet-50"]})
    fields = {"inputs": {"type": "string"}, "parameters": {"type": "object"}}
    body = image_body({"type": "object", "properties": fields, "required": ["inputs"]})
    operation = {
        "operationId": "objectDetection",
        "parameters": [model],
        "requestBody": body,
        "responses": answers(OUTPUT_SCHEMA, refused),
    }
    return {"/models/{model}": {"post": operation}}


def _kserve() -> Json:
    refused = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
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
    asked = {"type": "object", "properties": {"inputs": {"type": "array", "items": tensor}}, "required": ["inputs"]}
    anything = {"type": "object"}
    infer = {
        "operationId": "infer",
        "parameters": [model],
        "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
        "responses": answers(anything, refused),
    }
    simple = {"/v2": [], "/v2/health/live": [], "/v2/health/ready": [], "/v2/models/{model}": [model]}
    return {
        **{path: {"get": _got(f"get {path}", needed, anything, refused)} for path, needed in simple.items()},
        "/v2/models/{model}/infer": {"post": infer},
    }


def _operations() -> Json:
    operations = {
        path: {"get": _got(path[1:], [], {"type": "object"}, envelope({}))} for path in ("/healthz", "/readyz")
    }
    text = {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {**operations, "/metrics": {"get": {"operationId": "metrics", "responses": {"200": text}}}}
