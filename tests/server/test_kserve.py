"""KServe's protocol, version 2, read strictly: every rule of the specification that a request can break."""

from __future__ import annotations

import base64
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")

from detr_onnx.errors import EngineError
from detr_onnx.server.errors import RequestError
from detr_onnx.server.kserve_routes import tensors_of
from detr_onnx.server.protocols.kserve import InferRequest, read_request, write_response
from detr_onnx.server.protocols.tensors import DTYPES
from tests.server.live_server import LiveServer

IMAGE = (Path(__file__).parents[2] / "examples" / "demo-scene.jpg").read_bytes()
INFER = "/v2/models/detr-resnet-50/infer"


def tensor(datatype: str, data: Any, shape: list[int] | None = None, **fields: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": shape or [len(data)], "data": data, **fields}


def read(**fields: Any) -> InferRequest:
    return read_request(json.dumps(fields).encode(), None)


def values(datatype: str, data: Any, shape: list[int] | None = None) -> np.ndarray:
    return read(inputs=[tensor(datatype, data, shape)]).inputs["x"]


def refusal(body: bytes, header_length: int | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        read_request(body, header_length)
    return str(caught.value)


def binary(datatype: str, data: bytes, count: int, **parameters: Any) -> tuple[bytes, int]:
    parameters = {"binary_data_size": len(data), **parameters}
    entry = {"name": "x", "datatype": datatype, "shape": [count], "parameters": parameters}
    text = json.dumps({"inputs": [entry]}).encode()
    return text + data, len(text)


# Values in JSON


@pytest.mark.parametrize("datatype", [name for name in DTYPES if "INT" in name])
def test_integers_are_read_exactly_up_to_the_limits_of_their_type(datatype):
    limits = np.iinfo(DTYPES[datatype])
    data = [int(limits.min), 0, 1, 7.0, int(limits.max)]
    array = values(datatype, data)
    assert array.dtype == np.dtype(DTYPES[datatype])
    assert array.tolist() == [int(value) for value in data]


@pytest.mark.parametrize("datatype", [name for name in DTYPES if "INT" in name])
def test_numbers_beyond_the_limits_of_their_type_are_refused(datatype):
    limits = np.iinfo(DTYPES[datatype])
    for value in (int(limits.min) - 1, int(limits.max) + 1):
        with pytest.raises(RequestError, match=f"a value that is not {datatype}"):
            values(datatype, [1, value])


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("UINT8", [300]), ("UINT8", [-1]), ("UINT8", [1.5]), ("UINT8", [True]), ("UINT8", ["1"]), ("UINT8", [None]),
        ("UINT8", [1, True]), ("UINT8", [1, 2, 3, 256]), ("INT8", [1, 200]), ("INT8", [128]), ("INT64", [1e300]),
        ("FP32", [True]), ("FP32", ["1"]), ("FP32", [1e39]), ("FP32", [-1e39]), ("FP16", [70000]), ("FP32", [None]),
        ("FP32", [10**400]), ("BOOL", [2]), ("BOOL", [-1]), ("BOOL", [0.5]), ("BOOL", ["true"]), ("BOOL", [True, 2]),
        ("BYTES", [1]), ("BYTES", [1, 2]), ("BYTES", [None]), ("BYTES", [True]), ("BYTES", [{}]),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(datatype, data):
    with pytest.raises(RequestError, match="is not"):
        values(datatype, data)


@pytest.mark.parametrize("data", [[True, False], [1, 0], [1.0, 0]])
def test_a_bool_is_true_or_false_or_1_or_0(data):
    assert values("BOOL", data).tolist() == [True, False]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(text):
    assert refusal(b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [%s]}]}' % text.encode())


@pytest.mark.parametrize("datatype", ["UINT8", "FP32", "INT64"])
@pytest.mark.parametrize("scale", [1, 0.5, 1000])
def test_data_may_have_the_tensors_shape_or_be_flat(datatype, scale):
    if (datatype == "UINT8" and scale != 1) or (datatype == "INT64" and scale == 0.5):
        pytest.skip("these are not values of the type")
    array = np.arange(24).reshape(2, 3, 4) * scale
    for data in (array.tolist(), array.reshape(-1).tolist()):
        np.testing.assert_array_equal(values(datatype, data, [2, 3, 4]), array)


@pytest.mark.parametrize(
    ("data", "shape"),
    [([[1, 2], [3, 4]], [4]), ([[1, 2], [3, 4]], [1, 4]), ([[1], [2, 3]], [3]), ([1, [2]], [2]), ([1, 2], [3]),
     ([[1, 2], [3, 4]], [2, 3]), ([], [1]), (5, [1]), ("aa", [1]), ({"0": 1}, [1]), (None, [1])],
)  # fmt: skip
def test_data_of_another_shape_is_refused(data, shape):
    with pytest.raises(RequestError, match="input x"):
        values("UINT8", data, shape)


@pytest.mark.parametrize("shape", [5, "2", [-1], [1.5], [True], [2**31], [None], None, {}])
def test_a_shape_that_is_not_a_list_of_sizes_is_refused(shape):
    entry = {"name": "x", "datatype": "UINT8", "shape": shape, "data": [1]}
    assert "the shape is not a list of at most 8 sizes" in refusal(json.dumps({"inputs": [entry]}).encode())


def test_strings_are_base64_alone_or_in_an_object():
    text = base64.b64encode(IMAGE).decode()
    assert values("BYTES", [text, {"b64": text}], [2]).tolist() == [IMAGE, IMAGE]
    assert values("BYTES", [[text], [text]], [2, 1]).shape == (2, 1)


# Binary data


@pytest.mark.parametrize("datatype", DTYPES)
def test_binary_data_is_little_endian_without_padding(datatype):
    array = np.array([0, 1, 1], DTYPES[datatype])
    assert read_request(*binary(datatype, array.tobytes(), 3)).inputs["x"].tolist() == array.tolist()


def test_binary_strings_follow_their_lengths():
    data = b"".join(struct.pack("<I", len(item)) + item for item in (b"", IMAGE))
    assert read_request(*binary("BYTES", data, 2)).inputs["x"].tolist() == [b"", IMAGE]


@pytest.mark.parametrize(
    ("datatype", "data", "count", "words"),
    [
        ("BOOL", b"\0\1\2", 3, "neither 0 nor 1"),
        ("FP32", bytes(5), 1, "not a whole number of FP32"),
        ("FP32", bytes(8), 1, "2 values, expected 1"),
        ("BYTES", b"\1\0\0\0", 1, "cut short"),
        ("BYTES", b"\1\0\0\0a\0\0", 2, "cut short"),
        ("BYTES", b"\xff\xff\xff\xffa", 1, "cut short"),
    ],
)
def test_binary_data_that_does_not_fit_is_refused(datatype, data, count, words):
    assert words in refusal(*binary(datatype, data, count))


@pytest.mark.parametrize("size", [-1, 2, 5, 1.0, "3", True, 10**30])
def test_a_binary_data_size_that_is_wrong_is_refused(size):
    body, length = binary("UINT8", b"abc", 3, binary_data_size=size)
    assert "input x" in refusal(body, length) or "bytes more than the inputs declare" in refusal(body, length)


def test_data_in_json_and_binary_data_exclude_each_other():
    entry = tensor("UINT8", [1], parameters={"binary_data_size": 1})
    text = json.dumps({"inputs": [entry]}).encode()
    assert "both data and binary_data_size" in refusal(text + b"a", len(text))


def test_bytes_after_the_last_tensor_are_refused():
    text = json.dumps({"inputs": [tensor("UINT8", [1])]}).encode()
    assert "4 bytes more than the inputs declare" in refusal(text + b"more", len(text))


@pytest.mark.parametrize("length", ["x", "-1", "1.5", "\xb2", "9" * 30, "999999"])
def test_a_wrong_length_of_the_json_is_refused(server, length):
    body = json.dumps({"inputs": []}).encode()
    answer = server.post(INFER, body, inference_header_content_length=length)
    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert "inference-header-content-length" in answer.json["error"].lower()


# The rest of the request


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id": 5}, "id is not a string"),
        ({"inputs": None}, "no inputs"),
        ({"inputs": {}}, "no inputs"),
        ({"inputs": [tensor("UINT8", [1]), tensor("UINT8", [1])]}, "input x is given twice"),
        ({"inputs": [tensor("UINT7", [1])]}, "unknown datatype 'UINT7'"),
        ({"inputs": [tensor("uint8", [1])]}, "unknown datatype 'uint8'"),
        ({"outputs": {}}, "outputs is not a list"),
        ({"outputs": ""}, "outputs is not a list"),
        ({"outputs": [{}]}, "an output has no name"),
        ({"outputs": ["scores"]}, "an output has no name"),
        ({"outputs": [{"name": "a"}, {"name": "a"}]}, "output a is requested twice"),
        ({"outputs": [{"name": "a", "parameters": {"binary_data": 1}}]}, "binary_data of output a is not a boolean"),
        (
            {"outputs": [{"name": "a", "parameters": {"classification": 2}}]},
            "classification of output a is not supported",
        ),
        ({"parameters": {"binary_data_output": "true"}}, "binary_data_output of the request is not a boolean"),
        ({"parameters": []}, "parameters of the request are not an object"),
        ({"parameters": ""}, "parameters of the request are not an object"),
        ({"parameters": {"a": None}}, "parameter a of the request is not a string, number or boolean"),
        ({"parameters": {"a": {}}}, "parameter a of the request is not a string, number or boolean"),
        ({"inputs": [tensor("UINT8", [1], parameters={"shared_memory_region": "r"})]}, "not supported"),
    ],
)
def test_a_request_that_breaks_the_schema_is_refused(fields, words):
    assert words in refusal(json.dumps({"inputs": [tensor("UINT8", [1])], **fields}).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"null", b'"x"', b"{", b"\xff"])
def test_a_body_that_is_not_a_json_object_is_refused(body):
    assert refusal(body)


def test_parameters_of_the_client_are_kept_and_null_is_none():
    request = read(id=None, parameters={"a": 1, "b": "2", "c": True}, outputs=None, inputs=[tensor("UINT8", [1])])
    assert (request.id, request.parameters, request.outputs) == (None, {"a": 1, "b": "2", "c": True}, {})


def test_each_output_overrides_the_form_that_the_request_asks_for():
    outputs = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    request = read(parameters={"binary_data_output": True}, outputs=outputs, inputs=[tensor("UINT8", [1])])
    assert request.outputs == {"a": True, "b": False}


# Responses


def test_a_response_holds_the_outputs_in_the_order_and_form_of_the_request():
    outputs = {"a": np.array([1.5, 2.5], np.float32), "b": np.array([[1, 2]], np.int64), "c": np.array([b"x"], object)}
    body, length = write_response(InferRequest({}, {"c": True, "a": False, "b": True}, id="7"), "model", outputs)
    response = json.loads(body[:length])
    assert (response["id"], response["model_name"], response["model_version"]) == ("7", "model", "1")
    assert response["outputs"] == [
        {"name": "c", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
        {"name": "a", "datatype": "FP32", "shape": [2], "data": [1.5, 2.5]},
        {"name": "b", "datatype": "INT64", "shape": [1, 2], "parameters": {"binary_data_size": 16}},
    ]
    assert body[length:] == b"\1\0\0\0x" + np.array([1, 2], "<i8").tobytes()


def test_a_response_without_binary_data_is_json_alone():
    body, length = write_response(InferRequest({}, {}), "model", {"a": np.zeros((0, 4), np.float32)})
    assert length is None
    assert json.loads(body)["outputs"] == [{"name": "a", "datatype": "FP32", "shape": [0, 4], "data": []}]


def test_an_unknown_output_is_refused_with_the_known_ones():
    with pytest.raises(RequestError, match="unknown output b; the outputs are a"):
        write_response(InferRequest({}, {"b": False}), "model", {"a": np.zeros(1)})


# Over HTTP


def pixel_values(*data: float) -> dict[str, Any]:
    shape = [1, 3, 64, 64]
    numbers = [*data, *[0.0] * (3 * 64 * 64 - len(data))]
    return {"name": "pixel_values", "datatype": "FP32", "shape": shape, "data": numbers}


def test_finite_pixels_that_overflow_in_the_network_are_refused(server):
    answer = server.post_json(INFER, {"inputs": [pixel_values(*[1e30] * 12288)]})
    assert answer.status == 400
    assert "not finite" in answer.json["error"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([tensor("UINT8", [1])], "neither an input image nor pixel_values"),
        ([pixel_values(), tensor("UINT8", [1])], "unknown input x"),
        ([pixel_values(), {**tensor("BYTES", ["aaaa"]), "name": "image"}], "expected without pixel_values"),
        ([{**tensor("UINT8", [300] * 12, [2, 2, 3]), "name": "image"}], "a value that is not UINT8"),
        ([{**tensor("FP64", [0.0] * 48, [1, 3, 4, 4]), "name": "pixel_values"}], "expected FP32"),
    ],
)
def test_inputs_that_the_model_does_not_have_are_refused(server, inputs, words):
    answer = server.post_json(INFER, {"inputs": inputs})
    assert answer.status == 400
    assert words in answer.json["error"]


@pytest.mark.parametrize(("side", "most"), [(1, 90), (64, 90), (65, 87), (608, 1)])
def test_tiny_images_count_for_the_memory_of_their_queries(side, most):
    pixels = np.zeros((1, 3, side, side), np.float32)
    assert len(tensors_of({"pixel_values": np.repeat(pixels, most, axis=0)}, 608**2)[0]) == most
    words = f"{most + 1} images of {side}x{side} pixels, expected at most {most} of this size in one request"
    with pytest.raises(RequestError, match=words):
        tensors_of({"pixel_values": np.repeat(pixels, most + 1, axis=0)}, 608**2)


def pixel_request(*shape: int) -> dict[str, object]:
    data = np.linspace(0, 1, math.prod(shape)).tolist()
    return {"inputs": [{"name": "pixel_values", "datatype": "FP32", "shape": [*shape], "data": data}]}


def test_more_images_than_a_network_takes_go_through_it_one_batch_after_another(server, detector, monkeypatch):
    expected = server.post_json(INFER, pixel_request(3, 3, 64, 64)).json["outputs"]
    sizes, network = [], detector.network

    def noted(pixels, mask):
        sizes.append(len(pixels))
        return network(pixels, mask)

    monkeypatch.setattr(type(detector), "batch_size", 2)
    monkeypatch.setattr(detector, "network", noted, raising=False)
    found = server.post_json(INFER, pixel_request(3, 3, 64, 64)).json["outputs"]
    assert sizes == [2, 2]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["shape"] == theirs["shape"]
        np.testing.assert_allclose(ours["data"], theirs["data"], atol=1e-3)


def test_a_shape_on_which_the_network_fails_is_the_requests_fault(server, detector, monkeypatch, caplog):
    def fail(pixels, mask):
        raise EngineError("it failed", found="Got: 64 Expected: 384")

    monkeypatch.setattr(detector, "network", fail, raising=False)
    answer = server.post_json(INFER, pixel_request(1, 3, 64, 64))
    says = "input pixel_values: the network failed on the shape [1, 3, 64, 64]: Got: 64 Expected: 384"
    assert (answer.status, answer.json) == (400, {"error": says})
    assert caplog.text == ""


def test_nested_pixels_are_the_same_image_as_flat_ones(server):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3))
    entry = {"name": "image", "datatype": "UINT8", "shape": [40, 50, 3]}
    parameters = {"threshold": 0.0}
    nested, flat = (
        server.post_json(INFER, {"inputs": [{**entry, "data": data}], "parameters": parameters})
        for data in (pixels.tolist(), pixels.reshape(-1).tolist())
    )
    assert nested.status == flat.status == 200
    assert nested.body == flat.body


@pytest.mark.parametrize("path", ["", "/ready", "/infer"])
def test_a_version_that_does_not_exist_is_not_found(server, path):
    method, body = ("POST", b"{}") if path == "/infer" else ("GET", None)
    answer = server.ask(method, f"/v2/models/detr-resnet-50/versions/2{path}", body)
    assert (answer.status, set(answer.json)) == (404, {"error"})
    assert "has no version '2'" in answer.json["error"]
    known = server.ask(method, f"/v2/models/detr-resnet-50/versions/1{path}", body)
    assert known.status == (400 if path == "/infer" else 200)


def test_readiness_of_a_model_names_it(server):
    assert server.get("/v2/models/demo/ready").json == {"name": "demo", "ready": True}
    assert server.get("/v2/models/none/ready").status == 404


def test_the_repository_lists_the_model(server):
    entry = {"name": "detr-resnet-50", "version": "1", "state": "READY", "reason": ""}
    for body in (b"", b"{}", b'{"ready": true}', b'{"ready": false}'):
        assert server.post("/v2/repository/index", body).json == [entry]
    assert server.post("/v2/repository/index", b'{"ready": 1}').status == 400
    assert server.post("/v2/repository/index", b"[]").status == 400
    assert "model_repository" in server.get("/v2").json["extensions"]


def test_a_model_that_is_loading_is_listed_as_unavailable(detector):
    with LiveServer(detector) as server:
        server.service.stopping = True
        (entry,) = server.post("/v2/repository/index", b"").json
        assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "stopping")
        assert server.post("/v2/repository/index", b'{"ready": true}').json == []
        assert server.get("/v2/models/demo/ready").json == {"name": "demo", "ready": False}


@pytest.mark.parametrize("action", ["load", "unload"])
def test_models_are_not_loaded_or_unloaded(server, action):
    answer = server.post(f"/v2/repository/models/demo/{action}", b"")
    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert server.post(f"/v2/repository/models/none/{action}", b"").status == 404
