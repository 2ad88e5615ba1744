"""What the OpenAPI document is made of: schemas, bodies, parameters, responses, operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

TEXT, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}
SHARE: Json = {**NUMBER, "minimum": 0, "maximum": 1}
BINARY: Json = {**TEXT, "format": "binary"}
IMAGE_TYPES = ("application/octet-stream", "image/jpeg", "image/png")

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
OPEN, READ, WORK = ("500",), ("400", "401", "404", "500"), tuple(REFUSALS)
"""Refusals of what needs no token, of what reads no body, and of the rest."""

RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": INTEGER}}


def record(required: Json, optional: Json | None = None) -> Json:
    """The schema of an object, by its fields."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": [*required]}


def array(items: Json) -> Json:
    """The schema of an array."""
    return {"type": "array", "items": items}


def flag() -> Json:
    """The schema of true and false."""
    return {"type": "boolean"}


ERROR_FIELD = record({"error": TEXT})


def envelope(result: Json, more: Json | None = None) -> Json:
    """The schema of a response in the hosted API's envelope, with more fields beside the result."""
    errors = array(record({"code": INTEGER, "message": TEXT}))
    return record({"result": result, "success": flag(), "errors": errors, "messages": array({}), **(more or {})})


def content(schema: Json, *media_types: str) -> Json:
    """The schema of a body of these types, JSON unless named."""
    return {media_type: {"schema": schema} for media_type in media_types or ("application/json",)}


def body_of(contents: Json) -> Json:
    """A body that a request must have."""
    return {"required": True, "content": contents}


def image_body(json_schema: Json | None) -> Json:
    """A body that is an image, or JSON if that has a schema."""
    return body_of({**content(BINARY, *IMAGE_TYPES), **(content(json_schema) if json_schema else {})})


def parameter(name: str, location: str, schema: Json, *, required: bool = False) -> Json:
    """A parameter; those in a path are required."""
    return {"name": name, "in": location, "schema": schema, "required": required or location == "path"}


def response(description: str, schema: Json) -> Json:
    """A JSON response."""
    return {"description": description, "content": content(schema)}


def operation(
    name: str,
    success: Json | None,
    refused: Json,
    statuses: Sequence[str],
    parameters: Sequence[Json] | None = None,
    body: Json | None = None,
) -> Json:
    """An operation.

    Args:
        name: its id.
        success: the schema of its JSON, or a whole response; None if it never succeeds.
        refused: the schema of its refusals.
        statuses: of the refusals. Those of `OPEN` alone, and 404, belong to an operation without a token.
        parameters: none unless given.
        body: of the request, none unless given.
    """
    successes = {} if success is None else {"200": success if "content" in success else response("success", success)}
    refusals = {status: response(REFUSALS[status], refused) for status in statuses}
    for status in {"429", "503"} & refusals.keys():
        refusals[status]["headers"] = RETRY_AFTER
    found: Json = {"operationId": name, "parameters": [*(parameters or ())], "responses": {**successes, **refusals}}
    if body is not None:
        found["requestBody"] = body
    return found if "401" in statuses else {**found, "security": []}
