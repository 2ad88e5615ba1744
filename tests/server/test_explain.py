"""`/explain`: a map for each detection, as a small image; what it refuses; that it goes through the limits."""

from __future__ import annotations

import base64
import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")

from detr_onnx import Detector
from detr_onnx.image.heatmap import colour_map
from detr_onnx.models.open import demo_directory
from tests.server.live_server import RUN, LiveServer, until

IMAGE = (Path(__file__).parents[2] / "examples" / "demo-scene.jpg").read_bytes()
EXPLAIN = "/explain"


@pytest.fixture(scope="module")
def detector():
    return Detector("demo", engine="numpy")


@pytest.fixture(scope="module")
def server(detector):
    with LiveServer(detector) as server:
        yield server


def heat_of(found) -> Image.Image:
    kind, _, data = found["heat"].partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_each_detection_has_a_map(server, detector):
    answer = server.post(f"{EXPLAIN}?threshold=0.5", IMAGE)
    maps = detector.attention(IMAGE, 0.5)
    assert answer.status == 200
    assert (answer.json["rows"], answer.json["columns"]) == maps.decoder.shape[-2:]
    expected = server.post(f"{RUN}?threshold=0.5", IMAGE).json["result"]
    objects = answer.json["objects"]
    assert [{key: each[key] for key in ("score", "label", "box")} for each in objects] == expected
    for found, number in zip(objects, maps.best_first(), strict=True):
        cells, heat = maps.object_map(number), heat_of(found)
        assert (heat.mode, heat.size) == ("RGBA", cells.shape[::-1])
        assert found["peak"] == pytest.approx(float(cells.max()))
        lightest = np.unravel_index(cells.argmax(), cells.shape)
        assert np.array_equal(np.asarray(heat)[lightest][:3], colour_map()[-1])
    assert len(answer.body) < 60_000


def test_nothing_detected_is_an_empty_list(server):
    answer = server.post(f"{EXPLAIN}?threshold=1", IMAGE)
    assert (answer.status, answer.json["objects"]) == (200, [])
    assert answer.json["rows"] > 0


@pytest.mark.parametrize(("query", "body", "status", "message"), [
    ("", b"", 400, "no body"),
    ("", b"not an image", 400, "cannot be decoded"),
    ("?threshold=2", IMAGE, 400, "must be a number from 0 to 1"),
    ("?threshold=x", IMAGE, 400, "must be a number from 0 to 1"),
])  # fmt: skip
def test_a_wrong_request_gets_one_sentence(server, query, body, status, message):
    answer = server.post(EXPLAIN + query, body)
    assert answer.status == status
    assert [*answer.json] == ["error"]
    assert message in answer.json["error"] or "is not an image" in answer.json["error"]


def test_only_post_is_allowed(server):
    answer = server.get(EXPLAIN)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert [*answer.json] == ["error"]


def test_an_image_that_is_too_small_or_too_large_is_refused(detector):
    with LiveServer(detector, max_pixels=1000) as server:
        assert server.post(EXPLAIN, IMAGE).status == 413
    with LiveServer(detector, max_body=1000) as server:
        assert server.post(EXPLAIN, IMAGE).status == 413
        file = io.BytesIO()
        Image.new("RGB", (3, 3)).save(file, "PNG")
        assert server.post(EXPLAIN, file.getvalue()).status == 400


def test_the_token_is_required(detector):
    with LiveServer(detector, token="s3cret") as server:
        assert server.post(EXPLAIN, IMAGE).status == 400
        assert server.post(EXPLAIN, IMAGE, authorization="Bearer wrong").status == 401
        assert server.post(EXPLAIN, IMAGE, authorization="Bearer s3cret").status == 200


def test_a_model_file_without_maps_says_what_to_do():
    with LiveServer(Detector(demo_directory() / "model.onnx")) as server:
        answer = server.post(EXPLAIN, IMAGE)
        assert answer.status == 400
        assert "use the checkpoint, or export it with --attention" in answer.json["error"]
        assert server.post(RUN, IMAGE).status == 200


def test_a_full_queue_refuses_explanations_too(detector, monkeypatch):
    started, go_on = threading.Event(), threading.Event()

    def attention(self, *arguments):
        started.set()
        go_on.wait(60)
        return original(self, *arguments)

    original = Detector.attention
    monkeypatch.setattr(Detector, "attention", attention)
    with LiveServer(detector, queue=0) as server:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(server.post(EXPLAIN, IMAGE)))
        thread.start()
        assert started.wait(60)
        busy = server.post(EXPLAIN, IMAGE)
        assert (busy.status, busy.headers["retry-after"].isdigit()) == (429, True)
        go_on.set()
        thread.join()
        assert answers[0].status == 200
        until(lambda: server.service.inference.pending == 0)


def test_explanations_and_detections_wait_for_the_same_network(detector):
    with LiveServer(detector, max_batch=4, timeout_s=600) as server:
        answers = {}

        def post(number: int) -> None:
            answers[number] = server.post(EXPLAIN if number % 2 else RUN, IMAGE)

        threads = [threading.Thread(target=post, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {answer.status for answer in answers.values()} == {200}
    assert len({answers[number].body for number in (1, 3)}) == 1
    assert len({answers[number].body for number in (0, 2)}) == 1


def test_the_openapi_document_describes_it(server):
    jsonschema = pytest.importorskip("jsonschema")
    operation = server.get("/openapi.json").json["paths"]["/explain"]["post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(server.post(EXPLAIN, IMAGE).json, schema)
