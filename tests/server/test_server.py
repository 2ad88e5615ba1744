"""The server over real sockets: the routes of every dialect, the token, the limits, the errors."""

from __future__ import annotations

import base64
import gzip
import io
import json
import math
import struct
import threading
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")

from detr_onnx import Detector
from detr_onnx.errors import UsageError
from detr_onnx.server import explain_routes, kserve_routes
from detr_onnx.server.protocols.workers_ai import OUTPUT_SCHEMA
from detr_onnx.server.run import open_detector
from detr_onnx.server.settings import Settings
from tests.server.live_server import RUN, LiveServer, until

ROOT = Path(__file__).parents[2]
IMAGE = (ROOT / "examples" / "demo-scene.jpg").read_bytes()
PATHS = [
    RUN,
    "/client/v4/accounts/a/ai/run/@cf%2Ffacebook%2Fdetr-resnet-50",
    "/client/v4/accounts/a/ai/run/%40cf%2ffacebook%2fdetr-resnet-50",
    "/client/v4/accounts/a/ai/run/@cf/meta/detr-resnet-50",
    "/v1/account/gateway/workers-ai/@cf/facebook/detr-resnet-50",
]


@pytest.fixture(scope="module")
def expected(detector):
    return detector(IMAGE, 0.1).to_api()


def encoded(width: int, height: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 60)).save(file, kind)
    return file.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A small PNG whose header declares more pixels than fit into memory."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


# The hosted API


@pytest.mark.parametrize("path", PATHS)
def test_every_path_of_the_hosted_api_returns_the_detections(server, expected, path):
    answer = server.post(path, IMAGE, content_type="application/x-www-form-urlencoded")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == {"result": expected, "success": True, "errors": [], "messages": []}
    jsonschema.validate(answer.json["result"], OUTPUT_SCHEMA)


def test_json_and_raw_bytes_get_the_same_response(server):
    assert server.post_json(RUN, {"image": list(IMAGE)}).body == server.post(RUN, IMAGE).body


def test_the_binding_of_workers_gets_the_bare_result(server, expected):
    body = {"inputs": {"image": list(IMAGE)}, "options": {}}
    answer = server.post_json("/run?version=3", body, cf_consn_model_id="@cf/facebook/detr-resnet-50")
    assert (answer.status, answer.json) == (200, expected)


def test_the_binding_of_workers_gets_errors_in_its_own_form(server):
    answer = server.post_json("/run?version=3", {"inputs": {"image": [300]}, "options": {}})
    assert (answer.status, answer.json["internalCode"], answer.json["name"]) == (400, 5006, "AiError")
    assert "must be <= 255" in answer.json["description"]
    assert answer.headers["cf-ai-req-id"] in answer.json["message"]
    wrong = server.get("/run")
    assert (wrong.status, wrong.json["internalCode"]) == (405, 7001)


def test_a_threshold_in_the_query_counts(server, expected):
    middle = expected[len(expected) // 2]["score"]
    result = server.post(f"{RUN}?threshold={middle}", IMAGE).json["result"]
    assert result == [item for item in expected if item["score"] > middle]
    assert 0 < len(result) < len(expected)


@pytest.mark.parametrize(
    ("path", "body", "kind", "refused"),
    [
        (RUN, b"", "", (400, 3003)),
        (RUN, b"hello", "", (400, 3010)),
        (RUN, json.dumps({"image": list(IMAGE)}).encode(), "", (400, 3010)),
        (RUN, b"--x\r\n", "multipart/form-data; boundary=x", (400, 3010)),
        (RUN, IMAGE[:5000], "image/jpeg", (400, 3010)),
        (RUN, encoded(3, 50), "image/png", (400, 3011)),
        (RUN, png_that_claims(60_000, 60_000), "image/png", (413, 3006)),
        (RUN, b'{"image": "?"}', "application/json", (400, 5004)),
        (RUN, b'{"image": [1.5]}', "application/json", (400, 5006)),
        (RUN, IMAGE, "application/json", (400, 5006)),
        (f"{RUN}?threshold=2", IMAGE, "", (400, 5006)),
        (f"{RUN}-51", IMAGE, "", (400, 5007)),
        ("/v1/a/g/workers-ai/@cf/other", IMAGE, "", (400, 5007)),
        ("/client/v4/nothing", IMAGE, "", (400, 7000)),
        ("/client/v4/accounts/a/b", IMAGE, "", (404, 7003)),
        ("/healthz", IMAGE, "", (405, 7001)),
    ],
)
def test_a_wrong_request_gets_its_status_code_and_envelope(server, path, body, kind, refused):
    answer = server.post(path, body, **({"content_type": kind} if kind else {}))
    assert answer.error[:2] == refused


def test_a_wrong_method_gets_405_with_the_allowed_methods(server):
    answer = server.get(RUN)
    assert answer.error == (405, 7001, "Method GET not available for that URI.")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/", "GET, HEAD, POST"), ("/healthz", "GET, HEAD"), ("/run", "POST"), ("/page.js", "GET, HEAD")],
)
def test_all_methods_of_a_path_are_allowed(server, path, allowed):
    for method in ("PUT", "OPTIONS"):
        answer = server.ask(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/openapi.json", "/v2"])
def test_head_gives_the_headers_of_get_without_a_body(server, path):
    head, get = server.ask("HEAD", path), server.get(path)
    assert (head.status, head.body, head.headers["content-type"]) == (200, b"", get.headers["content-type"])
    assert path == "/metrics" or head.headers["content-length"] == str(len(get.body))


def test_the_catalogue_has_the_model_and_its_schemas(server):
    found = server.get("/client/v4/accounts/a/ai/models/search?search=detr").json
    assert [model["name"] for model in found["result"]] == ["@cf/facebook/detr-resnet-50"]
    assert server.get("/client/v4/accounts/a/ai/models/search?search=llama").json["result"] == []
    schema = server.get("/client/v4/accounts/a/ai/models/schema?model=@cf/facebook/detr-resnet-50").json["result"]
    assert set(schema) == {"input", "output"}
    assert server.get("/client/v4/accounts/a/ai/models/schema?model=x").error[:2] == (400, 5007)


@pytest.mark.parametrize(
    ("query", "counts", "names"),
    [
        ("", (1, 1, 20, 1), 1),
        ("?page=2", (0, 2, 20, 1), 0),
        ("?page=1&per_page=5", (1, 1, 5, 1), 1),
        ("?page=x&per_page=0", (1, 1, 20, 1), 1),
        ("?search=llama&page=3", (0, 3, 20, 0), 0),
    ],
)
def test_the_catalogue_counts_the_page_that_was_requested(server, query, counts, names):
    answer = server.get(f"/client/v4/accounts/a/ai/models/search{query}").json
    assert tuple(answer["result_info"][key] for key in ("count", "page", "per_page", "total_count")) == counts
    assert len(answer["result"]) == names


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{RUN}?queueRequest=true", {"image": list(IMAGE)}),
        (f"{RUN}?queueRequest=true", {"requests": [{"image": list(IMAGE)}]}),
        (RUN, {"requests": [{"image": list(IMAGE)}]}),
        ("/run?version=3", {"inputs": {"requests": [{"image": [1]}]}, "options": {}}),
        ("/run?version=3", {"inputs": {"image": list(IMAGE)}, "options": {"queueRequest": True}}),
    ],
)
def test_the_asynchronous_queue_is_refused_by_name(server, path, body):
    answer = server.post_json(path, body)
    assert answer.status == 400
    assert b"queueRequest" in answer.body
    assert b"5006" in answer.body


def test_queue_request_false_is_an_ordinary_request(server, expected):
    assert server.post(f"{RUN}?queueRequest=false", IMAGE).json["result"] == expected


def test_headers_of_the_hosted_api_are_in_its_own_responses_alone(server):
    ours = [server.post(RUN, IMAGE), server.post(RUN, b"?"), server.get("/client/v4/nothing")]
    others = [server.get(path) for path in ("/healthz", "/metrics", "/", "/v2", "/v2/models/none", "/models/x")]
    others += [server.post(path, IMAGE) for path in ("/models/demo", INFER)]
    assert all(answer.headers["cf-ai-req-id"] == answer.headers["x-request-id"] for answer in ours)
    assert [name for answer in others for name in answer.headers if name.startswith("cf-")] == []
    assert all(answer.headers["x-request-id"] for answer in others)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [("/models/none", 404, "there is no model none"), ("/v2/models/none/infer", 404, "unknown model: 'none'"),
     ("/v2/nothing", 404, "Not found"), ("/models/demo", 400, "found 5 bytes of text")],
)  # fmt: skip
def test_the_other_dialects_name_the_error_in_one_sentence(server, path, status, words):
    answer = server.post(path, b"hello")
    assert (answer.status, set(answer.json)) == (status, {"error"})
    assert words in answer.json["error"]
    assert "AiError" not in answer.json["error"]


# Access


@pytest.fixture(scope="module")
def guarded(detector):
    with LiveServer(detector, token="s3cret") as server:
        yield server


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, (400, 9106)),
        ({"authorization": "s3cret"}, (400, 6003)),
        ({"authorization": "Basic s3cret"}, (400, 6003)),
        ({"authorization": "Bearer "}, (400, 6003)),
        ({"authorization": "Bearer wrong"}, (401, 10000)),
        ({"authorization": "Bearer s3cre"}, (401, 10000)),
        ({"x_auth_key": "wrong", "x_auth_email": "a@b.c"}, (401, 10000)),
        ({"x_auth_key": "s3cret"}, (400, 9106)),
        ({"x_auth_key": "s3cret", "x_auth_email": ""}, (400, 9106)),
    ],
)
def test_a_request_without_the_token_is_refused(guarded, headers, refused):
    assert guarded.post(RUN, IMAGE, **headers).error[:2] == refused


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer s3cret"}, {"x_auth_key": "s3cret", "x_auth_email": "a@b.c"}]
)
def test_a_request_with_the_token_is_accepted(guarded, expected, headers):
    assert guarded.post(RUN, IMAGE, **headers).json["result"] == expected


@pytest.mark.parametrize("path", ["/models/facebook/detr-resnet-50", "/v2/models/detr-resnet-50/infer", "/run"])
def test_the_other_dialects_require_the_token_too(guarded, path):
    assert guarded.post(path, IMAGE).status == 400
    assert guarded.post(path, IMAGE, authorization="Bearer wrong").status == 401


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v2/health/live", "/v2"])
def test_health_and_the_page_need_no_token(guarded, path):
    assert guarded.get(path).status == 200


def test_a_token_can_be_verified(guarded):
    answer = guarded.get("/client/v4/user/tokens/verify", authorization="Bearer s3cret")
    assert (answer.status, answer.json["result"]["status"]) == (200, "active")
    assert b"s3cret" not in answer.body
    assert guarded.get("/client/v4/user/tokens/verify", authorization="Bearer x").error[1] == 10000


@pytest.mark.parametrize("token", ["", "  ", "two words", "tab\there", "gr\u00fcn", "line\nbreak"])
def test_a_token_that_no_request_can_send_is_refused_at_start(token):
    with pytest.raises(UsageError, match="the token cannot be sent in a header"):
        Settings(lambda: None, "demo", token=token)


def test_white_space_around_the_token_does_not_count(detector):
    with LiveServer(detector, token=" s3cret\n") as server:
        assert server.get("/client/v4/user/tokens/verify", authorization="Bearer s3cret").status == 200


# Hugging Face


@pytest.mark.parametrize("path", ["/", "/models/facebook/detr-resnet-50", "/hf-inference/models/demo"])
def test_hugging_faces_default_threshold_is_a_half(server, expected, path):
    answer = server.post(path, IMAGE, content_type="image/jpeg")
    assert answer.json == [item for item in expected if item["score"] > 0.5]


def test_hugging_faces_dialect_accepts_base64_and_a_threshold(server, expected):
    middle = expected[len(expected) // 2]["score"]
    body = {"inputs": base64.b64encode(IMAGE).decode(), "parameters": {"threshold": middle}}
    answer = server.post_json("/models/facebook/detr-resnet-50", body)
    assert answer.json == [item for item in expected if item["score"] > middle]


@pytest.mark.parametrize("path", ["/", "/models/demo"])
def test_a_threshold_in_the_query_counts_for_hugging_face_unless_the_body_has_one(server, expected, path):
    middle = expected[len(expected) // 2]["score"]
    above = [item for item in expected if item["score"] > middle]
    assert server.post(f"{path}?threshold={middle}", IMAGE).json == above
    body = {"inputs": base64.b64encode(IMAGE).decode(), "parameters": {"threshold": middle}}
    assert server.post_json(f"{path}?threshold=0.99", body).json == above
    assert server.post(f"{path}?threshold=2", IMAGE).status == 400


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"inputs": 5}', b'{"inputs": "?"}', b'{"inputs":"aa","parameters":{"threshold":9}}']
)
def test_hugging_faces_dialect_writes_errors_in_its_own_form(server, body):
    answer = server.post("/models/facebook/detr-resnet-50", body, content_type="application/json")
    assert (answer.status, set(answer.json)) == (400, {"error"})


# KServe


INFER = "/v2/models/detr-resnet-50/infer"


def outputs(answer) -> dict[str, list]:
    return {entry["name"]: entry["data"] for entry in answer.json["outputs"]}


def test_kserve_describes_the_models_inputs(server):
    tensors = server.get("/v2/models/detr-resnet-50").json
    assert {entry["name"] for entry in tensors["inputs"]} == {"image", "pixel_values", "pixel_mask"}
    assert server.get("/v2/models/detr-resnet-50/versions/1").json == tensors
    assert server.get("/v2/health/ready").json == {"ready": True}
    assert server.get("/v2/models/other").status == 404


def test_kserve_accepts_an_encoded_image(server, expected):
    data = [base64.b64encode(IMAGE).decode()]
    body = {"id": "7", "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": data}]}
    answer = server.post_json(INFER, body)
    found = outputs(answer)
    assert answer.json["id"] == "7"
    assert found["scores"] == [item["score"] for item in expected]
    assert found["names"] == [item["label"] for item in expected]
    assert [int(x) for x in found["boxes"][:4]] == list(expected[0]["box"].values())


def test_kserve_accepts_the_pixels_of_an_image(server, detector):
    pixels = np.asarray(Image.open(io.BytesIO(IMAGE)).convert("RGB"))
    entry = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.reshape(-1).tolist()}
    answer = server.post_json(
        INFER, {"inputs": [entry], "parameters": {"threshold": 0.5}, "outputs": [{"name": "scores"}]}
    )
    assert outputs(answer) == {"scores": detector(pixels, 0.5).by_score().scores.tolist()}


def test_kserve_accepts_and_returns_the_networks_tensors_in_binary(server, detector):
    pixels, mask, _ = detector.preprocess([encoded(90, 60)])
    data = pixels.tobytes() + mask.tobytes()
    inputs = [
        {"name": n, "datatype": d, "shape": list(a.shape), "parameters": {"binary_data_size": a.nbytes}}
        for n, d, a in (("pixel_values", "FP32", pixels), ("pixel_mask", "BOOL", mask))
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    answer = server.post(INFER, head + data, inference_header_content_length=str(len(head)))
    length = int(answer.headers["inference-header-content-length"])
    entries = json.loads(answer.body[:length])["outputs"]
    logits, boxes = detector.network(pixels, mask)
    assert [entry["shape"] for entry in entries] == [list(logits.shape), list(boxes.shape)]
    assert answer.body[length:] == logits.tobytes() + boxes.tobytes()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"?", b'{"inputs": []}', b'{"inputs": [5]}', b'{"inputs": [{"name": "image"}]}',
        b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [5]}]}',
        b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": ["aaaa"]}]}',
        b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1], "data": [5]}]}',
        b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [99999999999], "data": [5]}]}',
        b'{"inputs": [{"name": "image", "datatype": {}, "shape": [1], "data": [5]}]}',
        b'{"inputs": [{"name": "other", "datatype": "UINT8", "shape": [1], "data": [5]}]}',
        b'{"inputs": [{"name": "pixel_values", "datatype": "FP32", "shape": [1], "data": ["x"]}]}',
        b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 9}}]}',
    ],
)  # fmt: skip
def test_kserve_writes_errors_in_its_own_form(server, body):
    answer = server.post(INFER, body)
    assert (answer.status, set(answer.json)) == (400, {"error"})


# Compressed bodies


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(IMAGE, mtime=0)),
        ("GZIP", gzip.compress(IMAGE[:9000], mtime=0) + gzip.compress(IMAGE[9000:], mtime=0)),
        ("deflate", zlib.compress(IMAGE)),
        ("identity", IMAGE),
        ("identity, gzip", gzip.compress(IMAGE, mtime=0)),
    ],
)
@pytest.mark.parametrize("path", [RUN, "/models/demo?threshold=0.1"])
def test_a_compressed_body_is_decompressed(server, expected, path, encoding, body):
    answer = server.post(path, body, content_encoding=encoding).json
    assert (answer if path != RUN else answer["result"]) == expected


def test_a_compressed_json_body_is_decompressed(server, expected):
    body = gzip.compress(json.dumps({"image": list(IMAGE)}).encode())
    answer = server.post(RUN, body, content_type="application/json", content_encoding="gzip")
    assert answer.json["result"] == expected


@pytest.mark.parametrize(
    ("encoding", "body", "refused", "words"),
    [
        ("br", IMAGE, (415, 5006), "'br' is not supported; send gzip, deflate or none"),
        (
            "gzip, gzip",
            gzip.compress(gzip.compress(IMAGE, mtime=0), mtime=0),
            (415, 5006),
            "'gzip, gzip' is not supported",
        ),
        ("gzip", IMAGE, (400, 5006), "cannot be decompressed"),
        ("gzip", gzip.compress(IMAGE, mtime=0)[:-9], (400, 5006), "is not gzip, or is cut short"),
        ("gzip", gzip.compress(IMAGE, mtime=0) + b"more", (400, 5006), "cannot be decompressed"),
        ("gzip", gzip.compress(b"", mtime=0), (400, 3003), "missing headers or body"),
        ("gzip", b"", (400, 3003), "missing headers or body"),
    ],
)
def test_a_body_that_is_not_what_its_encoding_says_is_refused(server, encoding, body, refused, words):
    answer = server.post(RUN, body, content_encoding=encoding)
    assert answer.error[:2] == refused
    assert words in answer.error[2]


def test_the_limit_on_bodies_holds_after_decompression(detector):
    bomb = gzip.compress(bytes(64 << 20))
    assert len(bomb) < 100_000
    with LiveServer(detector, max_body=100_000) as server:
        assert server.post(RUN, bomb, content_encoding="gzip").error[:2] == (413, 3006)
        assert server.service.intake.held == 0


# Pages of other origins


PREFLIGHT = {"origin": "https://a.example", "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,content-type"}  # fmt: skip


def test_pages_of_other_origins_may_use_the_server_only_if_their_origin_is_allowed(detector):
    with LiveServer(detector, token="s3cret", cors_origins=("https://a.example",)) as server:
        allowed = server.ask("OPTIONS", RUN, headers=PREFLIGHT)
        assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, "https://a.example")
        refused = server.ask("OPTIONS", RUN, headers={**PREFLIGHT, "origin": "https://b.example"})
        assert "access-control-allow-origin" not in refused.headers
        answer = server.post(RUN, IMAGE, origin="https://a.example", authorization="Bearer s3cret")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://a.example")
        error = server.post(RUN, b"?", origin="https://a.example", authorization="Bearer s3cret")
        assert (error.status, error.headers["access-control-allow-origin"]) == (400, "https://a.example")


def test_no_origin_is_allowed_by_default(server):
    assert "access-control-allow-origin" not in server.post(RUN, IMAGE, origin="https://a.example").headers


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/path", "", "null "])
def test_what_is_not_an_origin_is_refused_at_start(origin):
    with pytest.raises(UsageError, match="--cors-origin is not an origin"):
        Settings(lambda: None, "demo", cors_origins=(origin,))


def test_a_batch_larger_than_the_model_takes_is_refused_at_start():
    settings = Settings(lambda: SimpleNamespace(batch_size=1), "demo", max_batch=4)
    with pytest.raises(UsageError, match="--max-batch is too large: found 4, expected at most 1, the model's batch"):
        open_detector(settings)


# Operations


def test_health_and_readiness(server):
    assert server.get("/healthz").json == {"status": "ok"}
    assert server.get("/readyz").json["status"] == "ready"


def test_metrics_count_requests_by_route_status_and_code(detector):
    with LiveServer(detector) as server:
        server.post(RUN, IMAGE)
        server.post(RUN, b"?")
        server.get("/secret/path/1")
        text = server.get("/metrics").body.decode()
    route = "/client/v4/accounts/{account}/ai/run/{model:path}"
    assert f'detr_requests_total{{code="0",route="{route}",status="200"}} 1.0' in text
    assert f'detr_requests_total{{code="3010",route="{route}",status="400"}} 1.0' in text
    assert 'detr_stage_seconds_count{stage="network"} 1.0' in text
    assert "secret" not in text


def test_a_request_keeps_its_id_if_the_id_is_a_plain_word(server):
    assert server.get("/healthz", x_request_id="abc-1.2_3").headers["x-request-id"] == "abc-1.2_3"
    assert server.get("/healthz", x_request_id="a b").headers["x-request-id"] != "a b"


def test_the_access_log_is_a_json_line_a_request(detector, capsys):
    with LiveServer(detector, access_log=True) as server:
        server.post(RUN, IMAGE, x_request_id="mine")
    line = json.loads(capsys.readouterr().err.splitlines()[0])
    assert (line["id"], line["method"], line["path"], line["status"], line["code"]) == ("mine", "POST", RUN, 200, 0)
    assert line["bytes_in"] == len(IMAGE)
    stages_ms = [line[f"{stage}_ms"] for stage in ("queue", "decode", "network")]
    assert line["ms"] >= line["network_ms"] > 0
    assert sum(stages_ms) <= line["ms"] + 0.05 * 4  # each is rounded


def test_a_bug_gets_3001_without_details(detector, caplog):
    with LiveServer(detector) as server:
        server.service.inference.detector = None
        assert server.post(RUN, IMAGE).error[:2] == (500, 3001)
        assert server.get("/healthz").status == 200
    assert "NoneType" in caplog.text


# Limits


def test_a_body_that_is_too_large_is_refused_with_and_without_a_declared_length(detector):
    with LiveServer(detector, max_body=10_000) as server:
        assert server.post(RUN, bytes(10_001)).error[:2] == (413, 3006)
        chunks = iter([bytes(6000)] * 2)
        assert server.ask("POST", RUN, chunks).error[:2] == (413, 3006)
        assert server.post(RUN, bytes(10_000)).error[:2] == (400, 3010)
        assert server.service.intake.held == 0


def test_an_image_of_too_many_pixels_is_refused(detector):
    with LiveServer(detector, max_pixels=100) as server:
        assert server.post(RUN, encoded(20, 20)).error[:2] == (413, 3006)
        assert server.post(RUN, encoded(10, 10)).status == 200
        pixels = {"name": "image", "datatype": "UINT8", "shape": [20, 20, 3], "data": [9] * 1200}
        refused = server.post_json(INFER, {"inputs": [pixels]})
        assert (refused.status, "20 x 20 pixels, expected at most 100" in refused.json["error"]) == (413, True)


class Gate:
    """A network that waits until `open` is set."""

    def __init__(self) -> None:
        self.detector = Detector("demo")
        self.open, self.sizes = threading.Event(), []
        self._network = self.detector.network
        self.detector.network = self

    def __call__(self, pixels, mask=None):
        self.sizes.append(len(pixels))
        assert self.open.wait(60)
        return self._network(pixels, mask)


def at_once(server, count: int, body: bytes = IMAGE) -> tuple[list[threading.Thread], list]:
    """Sends `count` requests at the same time; the threads, and the list of their responses."""
    answers: list = []
    threads = [threading.Thread(target=lambda: answers.append(server.post(RUN, body))) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, answers


def test_a_request_to_a_full_queue_gets_retry_after_and_the_others_are_served(expected):
    gate = Gate()
    with LiveServer(gate.detector, queue=2) as server:
        threads, answers = at_once(server, 3)
        until(lambda: server.service.inference.pending == 3)
        refused = server.post(RUN, IMAGE)
        assert refused.error[:2] == (429, 3040)
        assert int(refused.headers["retry-after"]) >= 1
        assert server.get("/healthz").status == 200
        gate.open.set()
        for thread in threads:
            thread.join()
    assert [answer.json["result"] for answer in answers] == [expected] * 3
    assert gate.sizes == [1, 1, 1]


def test_a_client_that_disconnects_leaves_the_queue(expected):
    gate = Gate()
    with LiveServer(gate.detector, queue=2) as server:
        threads, answers = at_once(server, 1)
        until(lambda: gate.sizes == [1])
        for _ in range(2):
            with server.raw() as connection:
                connection.sendall(
                    f"POST {RUN} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(IMAGE)}\r\n\r\n".encode() + IMAGE
                )
                until(lambda: server.service.inference.pending == 2)
            until(lambda: server.service.inference.pending == 1)
        gate.open.set()
        threads[0].join()
        assert server.service.intake.held == 0
    assert answers[0].json["result"] == expected
    assert gate.sizes == [1]


def test_a_request_that_waits_too_long_gets_408_and_the_server_goes_on(expected):
    gate = Gate()
    with LiveServer(gate.detector, timeout_s=0.3) as server:
        assert server.post(RUN, IMAGE).error[:2] == (408, 3007)
        gate.open.set()
        until(lambda: server.post(RUN, encoded(8, 8)).status == 200)
        assert server.service.inference.pending == 0


def slow(function, seconds: float):
    """The same function, later."""

    def later(*arguments):
        time.sleep(seconds)
        return function(*arguments)

    return later


def test_reading_a_request_and_the_network_share_the_time_of_a_request(detector, monkeypatch):
    body = {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(IMAGE).decode()]}]
    }
    monkeypatch.setattr(kserve_routes, "read_request", slow(kserve_routes.read_request, 1.6))
    monkeypatch.setattr(detector, "network", slow(detector.network, 2.8), raising=False)
    with LiveServer(detector, timeout_s=4) as server:
        assert server.post_json(INFER, body).status == 408
        until(lambda: server.service.inference.idle)


def test_the_network_and_writing_its_maps_share_the_time_of_a_request(detector, monkeypatch):
    monkeypatch.setattr(explain_routes, "write_explanations", slow(explain_routes.write_explanations, 1.6))
    monkeypatch.setattr(Detector, "attention", slow(Detector.attention, 2.8))
    detector.attention_network()
    with LiveServer(detector, timeout_s=4) as server:
        assert server.post("/explain", IMAGE).status == 408
        until(lambda: server.service.inference.idle)


def test_images_of_one_size_share_a_batch_if_max_batch_allows_it(detector):
    gate = Gate()
    with LiveServer(gate.detector, max_batch=4) as server:
        first, first_answer = at_once(server, 1)
        until(lambda: gate.sizes == [1])
        others, answers = at_once(server, 4)
        until(lambda: len(server.service.inference._network._waiting) == 4)
        gate.open.set()
        for thread in first + others:
            thread.join()
    assert gate.sizes == [1, 4]
    scores = [item["score"] for item in detector(IMAGE, 0.1).to_api()]
    for answer in first_answer + answers:
        np.testing.assert_allclose([item["score"] for item in answer.json["result"]], scores, atol=1e-4)


def test_all_settings_out_of_range_are_named():
    with pytest.raises(UsageError) as raised:
        Settings(lambda: None, "demo", workers=0, port=70000, timeout_s=math.inf)
    assert str(raised.value) == (
        "the server's settings are out of range: found workers 0, port 70000, timeout inf, "
        "expected workers at least 1, port from 0 to 65535, timeout a finite number above 0"
    )
