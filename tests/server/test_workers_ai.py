"""The hosted API's wire format: what is an image, what is refused with which code, what an answer looks like."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from detr_onnx.detections import Detections
from detr_onnx.errors import EngineError, ImageError, ImageTooLargeError, UsageError
from detr_onnx.server.protocols import workers_ai
from detr_onnx.server.protocols.workers_ai import (
    ApiError,
    Fault,
    as_api_error,
    failure,
    image_bytes,
    success,
    threshold_of,
)

IMAGE = bytes(range(256)) * 3
JSON = "application/json"


@pytest.mark.parametrize(
    "kind", ["", "application/x-www-form-urlencoded", "application/octet-stream", "image/jpeg", "text/plain"]
)
def test_a_body_of_any_type_but_json_is_the_image(kind):
    assert image_bytes(kind, IMAGE) == IMAGE


@pytest.mark.parametrize(
    "kind", [JSON, "application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"]
)
def test_json_holds_the_image_as_an_array_of_its_bytes(kind):
    assert image_bytes(kind, json.dumps({"image": list(IMAGE)}).encode()) == IMAGE


@pytest.mark.parametrize(
    "value",
    [
        {"image": [float(b) for b in IMAGE]},
        {"image": base64.b64encode(IMAGE).decode()},
        {"image": base64.b64encode(IMAGE).decode().rstrip("=")},
        {"image": base64.urlsafe_b64encode(IMAGE).decode()},
        {"image": base64.encodebytes(IMAGE).decode()},
        {"image": "data:image/png;base64," + base64.b64encode(IMAGE).decode()},
        base64.b64encode(IMAGE).decode(),
        {"prompt": "[1,2]", "image": list(IMAGE)},
    ],
    ids=["floats", "base64", "unpadded", "url-safe", "lines", "data-url", "alone", "other-fields"],
)
def test_other_ways_to_write_an_image_in_json(value):
    assert image_bytes(JSON, json.dumps(value).encode()) == IMAGE


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
        (b'{"image": "not base64!"}', 5004, "base64"),
        (b'{"image": ""}', 5004, "base64"),
        (b'{"image": "https://example.com/cat.jpg"}', 5004, "base64"),
        (b'{"image": "data:image/png,abc"}', 5004, "base64"),
    ],
)  # fmt: skip
def test_what_holds_no_image_is_refused_in_the_words_of_the_validator(body, code, words):
    with pytest.raises(ApiError) as caught:
        image_bytes(JSON, body)
    assert (caught.value.fault.code, caught.value.fault.status) == (code, 400)
    assert words.lower() in caught.value.text.lower()


@pytest.mark.parametrize(
    "body", [b'{"image": [1, 256]}', b'{"image": [-1]}', b'{"image": ["a"]}', b"{}", b"[]", b"5", b"null"]
)
def test_what_is_refused_does_not_fit_the_published_schema_either(body):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(body), workers_ai.INPUT_SCHEMA)


def test_a_body_that_fits_the_published_schema_is_taken():
    value = {"image": list(IMAGE)}
    jsonschema.validate(value, workers_ai.INPUT_SCHEMA)
    assert image_bytes(JSON, json.dumps(value).encode()) == IMAGE


def found() -> Detections:
    scores = np.array([0.25, 0.99989, 0.1], np.float32)
    return Detections(scores, np.array([0, 1, 1]), np.array([[1.9, 2, 3, 4]] * 3, np.float32), ("cat", "dog"))


def test_an_answer_is_sorted_with_exact_scores_and_whole_pixels_in_the_order_of_the_original():
    answer = success(found())
    assert list(answer) == ["result", "success", "errors", "messages"]
    assert [item["score"] for item in answer["result"]] == [float(np.float32(s)) for s in (0.99989, 0.25, 0.1)]
    assert list(answer["result"][0]) == ["score", "label", "box"]
    assert answer["result"][0]["box"] == {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}
    jsonschema.validate(answer["result"], workers_ai.OUTPUT_SCHEMA)


def test_an_empty_answer_is_an_empty_list():
    assert success(found().only(["mouse"]))["result"] == []


def test_the_model_refuses_with_an_empty_result_and_the_requests_id():
    assert failure(ApiError(workers_ai.TOO_SMALL), "an-id") == {
        "errors": [{"message": "AiError: image too small, expected image at least 4x4 (an-id)", "code": 3011}],
        "success": False,
        "result": {},
        "messages": [],
    }


def test_the_gateway_refuses_with_null():
    error = {"code": 10000, "message": "Authentication error"}
    expected = {"result": None, "success": False, "errors": [error], "messages": []}
    assert failure(ApiError(workers_ai.WRONG_CREDENTIALS), "an-id") == expected


def test_malformed_headers_have_a_chain_of_errors():
    (error,) = failure(ApiError(workers_ai.MALFORMED_HEADERS), "an-id")["errors"]
    assert (error["code"], error["error_chain"][0]["code"]) == (6003, 6111)


def test_the_table_of_errors_has_each_code_once_with_its_status():
    faults = [value for value in vars(workers_ai).values() if isinstance(value, Fault)]
    assert {fault.code: fault.status for fault in faults} == {
        3001: 500, 3003: 400, 3006: 413, 3007: 408, 3010: 400, 3011: 400, 3040: 429, 5004: 400, 5006: 400, 5007: 400,
        6003: 400, 7000: 400, 7001: 405, 7003: 404, 9106: 400, 10000: 401,
    }  # fmt: skip
    assert len(faults) == 16


@pytest.mark.parametrize(
    ("error", "code"),
    [(ImageError("x"), 3010), (ImageTooLargeError("x"), 3006), (UsageError("x"), 5006), (TimeoutError(), 3007),
     (EngineError("x"), 3001), (MemoryError(), 3001), (KeyError("x"), 3001), (ApiError(workers_ai.BUSY), 3040)],
)  # fmt: skip
def test_every_error_has_its_code(error, code):
    assert as_api_error(error).fault.code == code


def test_what_went_wrong_inside_is_not_told_outside():
    assert as_api_error(KeyError("secret")).text == "Internal server error"


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-0.1", "1.1"])
def test_a_threshold_is_a_number_from_0_to_1(text):
    with pytest.raises(ApiError, match="Bad input"):
        threshold_of(text, 0.1)


def test_without_a_threshold_there_is_a_default():
    assert (threshold_of(None, 0.1), threshold_of("0.75", 0.1)) == (0.1, 0.75)


def test_a_fault_cannot_be_altered():
    assert replace(workers_ai.BUSY, status=503) != workers_ai.BUSY
