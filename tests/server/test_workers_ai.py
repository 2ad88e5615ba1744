"""The hosted API's wire format: the forms of an image, the error codes, the envelope."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import jsonschema
import numpy as np
import pytest

from detr_onnx.detections import Detections
from detr_onnx.server import errors
from detr_onnx.server.errors import RequestError
from detr_onnx.server.protocols import workers_ai
from detr_onnx.server.protocols.workers_ai import ROWS, binding_failure, failure, read_image, success

IMAGE = bytes(range(256)) * 3 + b"!"  # its base64 ends in ==
JSON = "application/json"


@pytest.mark.parametrize(
    "kind", ["", "application/x-www-form-urlencoded", "application/octet-stream", "image/jpeg", "text/plain"]
)
def test_a_body_of_any_type_but_json_is_the_image(kind):
    assert read_image(kind, IMAGE) == IMAGE


@pytest.mark.parametrize(
    "kind", [JSON, "application/json ; charset=utf-8", "Application/JSON", "application/vnd.x+json"]
)
def test_json_holds_the_image_as_an_array_of_its_bytes(kind):
    assert read_image(kind, json.dumps({"image": list(IMAGE)}).encode()) == IMAGE


@pytest.mark.parametrize(
    "value",
    [
        {"image": [float(b) for b in IMAGE]},
        {"image": base64.b64encode(IMAGE).decode()},
        {"image": base64.b64encode(IMAGE).decode().rstrip("=")},
        {"image": base64.urlsafe_b64encode(IMAGE).decode()},
        {"image": base64.encodebytes(IMAGE).decode()},
        {"image": "data:image/png;base64," + base64.b64encode(IMAGE).decode()},
        {"image": "\n Data:;Base64," + quote(base64.b64encode(IMAGE).decode()) + " "},
        base64.b64encode(IMAGE).decode(),
        {"prompt": "[1,2]", "image": list(IMAGE)},
    ],
    ids=["floats", "base64", "unpadded", "url-safe", "lines", "data-url", "data-url-percent", "alone", "other-fields"],
)
def test_other_ways_to_write_an_image_in_json(value):
    assert read_image(JSON, json.dumps(value).encode()) == IMAGE


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", 3003, "missing"),
        (b"{", 5006, "not JSON"),
        (b"nonsense", 5006, "not JSON"),
        (b'{"image": NaN}', 5006, "not JSON"),
        (b"{}", 5006, "required properties at '/' are 'image'"),
        (b"[]", 5006, "Type mismatch of '/', 'object' not in 'array'"),
        (b"[1,2]", 5006, "Type mismatch of '/', 'object' not in 'array'"),
        (b"1", 5006, "Type mismatch of '/', 'object' not in 'number','integer'"),
        (b"null", 5006, "Type mismatch of '/', 'object' not in 'null'"),
        (b'{"image": []}', 5006, "Length of '/image' must be >= 1"),
        (b'{"image": null}', 5006, "Type mismatch of '/image', 'array' not in 'null'"),
        (b'{"image": {"0": 1}}', 5006, "Type mismatch of '/image', 'array' not in 'object'"),
        (b'{"image": 5}', 5006, "Type mismatch of '/image', 'array' not in 'number','integer'"),
        (b'{"image": [1, 256]}', 5006, "'/image/1' must be <= 255"),
        (b'{"image": [-1]}', 5006, "'/image/0' must be >= 0"),
        (b'{"image": [0.5]}', 5006, "'/image/0' must be multiple of 1"),
        (b'{"image": [1, "2"]}', 5006, "Type mismatch of '/image/1', 'number' not in 'string'"),
        (b'{"image": [true]}', 5006, "Type mismatch of '/image/0', 'number' not in 'boolean'"),
        (b'{"image": [[255, 216]]}', 5006, "Type mismatch of '/image/0', 'number' not in 'array'"),
        (b'{"image": "not base64!"}', 5004, "found 'not base64!', expected base64 or a data URL"),
        (b'{"image": ""}', 5004, "found '', expected base64"),
        (b'{"image": "%s!"}' % (b"a" * 99), 5004, "found 100 characters that begin with 'aaa"),
        (b'{"image": "https://example.com/cat,1.jpg"}', 5004, "a URL is never fetched; send the image in base64"),
        (b'{"image": "data:image/png,abc"}', 5004, "found 'data:image/png,abc', expected base64"),
    ],
)  # fmt: skip
def test_a_body_without_an_image_is_refused_in_the_words_of_the_validator(body, code, words):
    with pytest.raises(RequestError) as caught:
        read_image(JSON, body)
    response = binding_failure(caught.value, "an-id")
    assert (response.body["internalCode"], response.status) == (code, 400)
    assert words.lower() in response.body["description"].lower()


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("multipart/form-data; boundary=x", b"--x\r\n", "found a form (multipart/form-data); send the image itself"),
        ("application/x-www-form-urlencoded", b' {"image": [1]}', "looks like JSON; send JSON with Content-Type: "),
        ("", b"[1, 2]", "looks like JSON; send JSON with Content-Type: application/json"),
    ],
)
def test_what_an_image_was_packed_in_is_named_with_the_way_to_send_it(kind, body, words):
    with pytest.raises(RequestError) as caught:
        read_image(kind, body)
    response = binding_failure(caught.value, "an-id")
    assert (response.body["internalCode"], response.status) == (3010, 400)
    assert words in response.body["description"]


@pytest.mark.parametrize(
    "body", [b'{"image": [1, 256]}', b'{"image": [-1]}', b'{"image": ["a"]}', b"{}", b"[]", b"5", b"null"]
)
def test_a_refused_body_does_not_fit_the_published_schema(body):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(body), workers_ai.INPUT_SCHEMA)


def test_a_body_that_fits_the_published_schema_is_accepted():
    value = {"image": list(IMAGE)}
    jsonschema.validate(value, workers_ai.INPUT_SCHEMA)
    assert read_image(JSON, json.dumps(value).encode()) == IMAGE


def detections() -> Detections:
    scores = np.array([0.25, 0.99989, 0.1], np.float32)
    return Detections(scores, np.array([0, 1, 1]), np.array([[1.9, 2, 3, 4]] * 3, np.float32), ("cat", "dog"))


def test_detections_are_sorted_and_have_exact_scores_and_whole_pixels():
    answer = success(detections())
    assert list(answer) == ["result", "success", "errors", "messages"]
    assert [item["score"] for item in answer["result"]] == [float(np.float32(s)) for s in (0.99989, 0.25, 0.1)]
    assert list(answer["result"][0]) == ["score", "label", "box"]
    assert answer["result"][0]["box"] == {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}
    jsonschema.validate(answer["result"], workers_ai.OUTPUT_SCHEMA)


def test_no_detections_are_an_empty_list():
    assert success(detections()[:0])["result"] == []


def test_a_refusal_by_the_model_has_an_empty_result_and_the_requests_id():
    assert failure(RequestError(errors.TOO_SMALL), "an-id").body == {
        "errors": [{"message": "AiError: image too small, expected image at least 4x4 (an-id)", "code": 3011}],
        "success": False,
        "result": {},
        "messages": [],
    }


def test_a_refusal_by_the_gateway_has_the_result_null():
    error = {"code": 10000, "message": "Authentication error"}
    expected = {"result": None, "success": False, "errors": [error], "messages": []}
    assert failure(RequestError(errors.WRONG_TOKEN), "an-id").body == expected


def test_malformed_headers_have_a_chain_of_errors():
    (error,) = failure(RequestError(errors.MALFORMED_TOKEN), "an-id").body["errors"]
    assert (error["code"], error["error_chain"][0]["code"]) == (6003, 6111)


def test_the_table_of_errors_has_each_code_once_with_its_status():
    assert {row.code: row.status for row in ROWS.values()} == {
        3001: 500, 3003: 400, 3006: 413, 3007: 408, 3010: 400, 3011: 400, 3040: 429, 5004: 400, 5006: 400, 5007: 400,
        6003: 400, 7000: 400, 7001: 405, 7003: 404, 9106: 400, 10000: 401,
    }  # fmt: skip
    assert len(ROWS) == 16


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RequestError(errors.NO_MODEL, subject="@cf/x/{y}"), "No such model @cf/x/{y} or task"),
        (RequestError(errors.BAD_METHOD, subject="GET"), "Method GET not available for that URI."),
        (RequestError(errors.TOO_LARGE, "it has 9 bytes"), "Request is too large: it has 9 bytes"),
        (RequestError(errors.BAD_INPUT, "the body is not JSON"), "Bad input: Error: the body is not JSON"),
    ],
)
def test_a_message_holds_the_subject_and_the_detail_of_the_request(error, text):
    assert binding_failure(error, "an-id").body["description"] == text
