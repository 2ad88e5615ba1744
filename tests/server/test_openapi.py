"""The OpenAPI document says what the routes do: every path, every form of a response, where the token is needed."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")

from detr_onnx.server.openapi import document
from detr_onnx.server.page import FILES
from tests.server.live_server import RUN, Answer, LiveServer
from tests.server.test_deepstack import FORM, form

IMAGE = (Path(__file__).parents[2] / "examples" / "demo-scene.jpg").read_bytes()
BASE64 = base64.b64encode(IMAGE).decode()
JSON = {"content-type": "application/json"}
VALUES = {
    "account": "a", "gateway": "g", "version": "1", "model": "@cf/facebook/detr-resnet-50",
    "/v2": "detr-resnet-50", "/models": "facebook/detr-resnet-50", "/hf-inference": "facebook/detr-resnet-50",
}  # fmt: skip
"""Of the parameters in paths; of `model` by the beginning of the path."""
LOADING_PATHS = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready")
DOCUMENT = document("1", secured=True)
OPERATIONS = [
    (method, path, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]


def filled(path: str) -> str:
    """A path with values in place of its parameters."""
    model = next((name for start, name in VALUES.items() if start[:1] == "/" and path.startswith(start)), None)
    return path.format(
        **{name: value for name, value in VALUES.items() if name != "model"}, model=model or VALUES["model"]
    )


def pattern_of(path: str) -> str:
    """The path of a request as the document writes it: its operation is the one whose template fits."""
    template = next(p for p in DOCUMENT["paths"] if filled(p) == path.partition("?")[0])
    return str(template)


def assert_conforms(answer: Answer, method: str, template: str) -> None:
    """Asserts that the document has the status, the content type and the form of a response."""
    described = DOCUMENT["paths"][template][method.lower()]["responses"]
    assert str(answer.status) in described, (template, answer.status)
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = described[str(answer.status)]["content"][media_type]["schema"]
    if media_type == "application/json":
        jsonschema.validate(answer.json, schema)


def test_every_route_is_in_the_document_and_nothing_else(server):
    routes = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in server.app._app.routes
        for method in route.methods - {"HEAD"}
        if route.path not in FILES.keys() - {"/"}
    }
    assert {(path, method) for method, path, _ in OPERATIONS} == routes


def test_every_operation_has_a_name_of_its_own_that_a_generated_client_can_have():
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z][A-Za-z]*", name)] == []


def test_every_parameter_of_a_path_is_described():
    for _, path, operation in OPERATIONS:
        described = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert described == set(re.findall(r"{(\w+)}", path)), path


@pytest.fixture(scope="module")
def guarded(detector) -> Iterator[LiveServer]:
    with LiveServer(detector, token="s3cret") as server:
        yield server


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_an_operation_needs_the_token_where_the_document_says_so(guarded, method, path, operation):
    target = filled(path) + ("?model=@cf/facebook/detr-resnet-50" if path.endswith("/schema") else "")
    body = None if method == "get" else b"x"
    without = guarded.ask(method.upper(), target, body)
    wrong = guarded.ask(method.upper(), target, body, {"authorization": "Bearer wrong"})
    if operation.get("security") == []:
        assert (without.status, wrong.status) == (200, 200)
        return
    assert (without.status, wrong.status) == (400, 401)
    for answer in (without, wrong):
        assert_conforms(answer, method, path)
    key = guarded.ask(method.upper(), target, body, {"x-auth-key": "s3cret", "x-auth-email": "a@b.c"})
    assert key.status != 401
    assert_conforms(key, method, path)


def infer(**request: Any) -> bytes:
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [BASE64]}
    return json.dumps({"inputs": [image], **request}).encode()


REQUESTS: list[tuple[str, str, bytes | None, dict[str, str], int]] = [
    ("POST", RUN.replace("0123456789abcdef", "a"), IMAGE, {}, 200),
    ("POST", RUN.replace("0123456789abcdef", "a"), json.dumps({"image": BASE64}).encode(), JSON, 200),
    ("POST", RUN.replace("0123456789abcdef", "a") + "?queueRequest=true", IMAGE, {}, 400),
    ("POST", RUN.replace("0123456789abcdef", "a"), IMAGE, {"content-encoding": "br"}, 415),
    ("POST", "/v1/a/g/workers-ai/@cf/facebook/detr-resnet-50", b"?", {}, 400),
    ("POST", "/run?version=3", json.dumps({"inputs": {"image": BASE64}}).encode(), JSON, 200),
    ("POST", "/run?version=3", b"{}", JSON, 400),
    ("GET", "/client/v4/accounts/a/ai/models/search?search=detr&task=x&page=1&per_page=3", None, {}, 200),
    ("GET", "/client/v4/accounts/a/ai/models/search", None, {}, 200),
    ("GET", "/client/v4/accounts/a/ai/models/schema?model=@cf/facebook/detr-resnet-50", None, {}, 200),
    ("GET", "/client/v4/accounts/a/ai/models/schema", None, {}, 400),
    ("GET", "/client/v4/accounts/a/tokens/verify", None, {}, 200),
    ("GET", "/client/v4/user/tokens/verify", None, {}, 200),
    ("POST", "/", IMAGE, {}, 200),
    ("GET", "/", None, {}, 200),
    ("POST", "/models/facebook/detr-resnet-50?threshold=0.2", json.dumps({"inputs": BASE64}).encode(), JSON, 200),
    ("POST", "/hf-inference/models/facebook/detr-resnet-50/pipeline/object-detection", IMAGE, {}, 200),
    ("POST", "/hf-inference/models/facebook/detr-resnet-50/pipeline/image-segmentation", IMAGE, {}, 400),
    ("GET", "/v2", None, {}, 200),
    ("GET", "/v2/models/detr-resnet-50", None, {}, 200),
    ("GET", "/v2/models/detr-resnet-50/versions/1", None, {}, 200),
    ("POST", "/v2/models/detr-resnet-50/infer", infer(id="7"), JSON, 200),
    ("POST", "/v2/models/detr-resnet-50/versions/1/infer", infer(parameters={"binary_data_output": True}), JSON, 200),
    ("POST", "/v2/models/detr-resnet-50/infer", b"{}", JSON, 400),
    ("POST", "/v2/repository/index", b"", {}, 200),
    ("POST", "/v2/repository/index", b'{"ready": 1}', JSON, 400),
    ("POST", "/v2/repository/models/detr-resnet-50/load", b"", {}, 400),
    ("POST", "/v2/repository/models/detr-resnet-50/unload", b"", {}, 400),
    ("POST", "/v1/vision/detection", form(("image", IMAGE)), {"content-type": FORM}, 200),
    ("POST", "/v1/vision/detection", b"", {}, 400),
    ("POST", "/explain", IMAGE, {}, 200),
    ("POST", "/explain?threshold=x", IMAGE, {}, 400),
    ("GET", "/metrics", None, {}, 200),
    ("GET", "/openapi.json", None, {}, 200),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status"), REQUESTS)
def test_responses_have_the_described_form(server, method, path, body, headers, status):
    answer = server.ask(method, path, body, headers)
    assert answer.status == status
    assert_conforms(answer, method, pattern_of(path))


@pytest.mark.parametrize("path", LOADING_PATHS)
def test_health_has_the_described_form_when_all_is_well_and_while_the_model_loads(server, detector, path):
    assert_conforms(server.get(filled(path)), "GET", path)
    with LiveServer(detector) as loading:
        loading.service.inference._loaded = False
        answer = loading.get(filled(path))
        assert answer.status == (200 if path in ("/healthz", "/v2/health/live") else 503)
        assert_conforms(answer, "GET", path)


def test_a_refusal_for_the_time_being_says_when_to_try_again(detector):
    with LiveServer(detector) as loading:
        loading.service.inference._loaded = False
        answer = loading.post("/explain", IMAGE)
    described = DOCUMENT["paths"]["/explain"]["post"]["responses"]
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    assert {status for status, response in described.items() if "Retry-After" in response.get("headers", {})} == {
        "429",
        "503",
    }


def test_binary_tensors_are_described_with_their_content_type(server):
    pixels = np.zeros((1, 3, 64, 64), np.float32)
    entry = {"name": "pixel_values", "datatype": "FP32", "shape": [*pixels.shape]}
    entry["parameters"] = {"binary_data_size": pixels.nbytes}
    text = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(text)), "content-type": "application/octet-stream"}
    answer = server.ask("POST", "/v2/models/detr-resnet-50/infer", text + pixels.tobytes(), headers)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
    assert_conforms(answer, "POST", "/v2/models/{model}/infer")


@pytest.mark.parametrize("name", ["023e105f4ecef8ad9ca31a8372d0c353", "my-gateway", "My_Account"])
def test_accounts_and_gateways_may_have_any_usual_name(name: str):
    parameters = [p for _, _, operation in OPERATIONS for p in operation.get("parameters", [])]
    schemas = [p["schema"] for p in parameters if p["name"] in ("account", "gateway")]
    assert schemas
    for schema in schemas:
        jsonschema.validate(name, schema)
