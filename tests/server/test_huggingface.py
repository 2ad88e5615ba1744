"""Image segmentation on Hugging Face's paths, and what a detection model answers there."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")

from tests.panoptic_stand_in import CLASSES, QUARTERS, panoptic_stand_in
from tests.server.live_server import RUN, LiveServer

SIZE = 48, 32
NAMES = [CLASSES[k] for k in QUARTERS]


def png(colour: str, size: tuple[int, int] = SIZE) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


IMAGE, DARK = png("white"), png("black")


@pytest.fixture(scope="module")
def segmenter() -> Iterator[LiveServer]:
    with pytest.MonkeyPatch.context() as patch:
        detector = panoptic_stand_in(patch)
    with LiveServer(detector, max_batch=4) as server:
        yield server


def asked(inputs: bytes = IMAGE, **parameters: object) -> dict[str, object]:
    return {"inputs": base64.b64encode(inputs).decode(), "parameters": parameters}


def mask_of(text: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", SIZE)
        return np.asarray(image)


SEGMENTATION = "/models/facebook/detr-resnet-50/pipeline/image-segmentation"


@pytest.mark.parametrize("path", ["/", "/models/demo", "/hf-inference/models/demo", SEGMENTATION])
def test_a_panoptic_model_gives_segments(segmenter, path):
    found = segmenter.post(path, IMAGE).json
    assert [[*segment] for segment in found] == [["score", "label", "mask"]] * 4
    assert [segment["label"] for segment in found] == NAMES
    assert all(0.9 < segment["score"] < 1 for segment in found)
    masks = [mask_of(segment["mask"]) for segment in found]
    assert set(np.unique(masks[0])) == {0, 255}
    assert (masks[0][:16, :24] == 255).all()
    assert [(mask == 255).sum() for mask in masks] == [SIZE[0] * SIZE[1] / 4] * 4


def test_parameters_are_those_of_the_pipeline(segmenter):
    every = segmenter.post_json("/", asked(threshold=0.5, mask_threshold=0.4, overlap_mask_area_threshold=0.5)).json
    assert every == segmenter.post_json("/", asked(subtask="instance", threshold=0.5)).json
    some = segmenter.post_json("/", asked(threshold=0.998)).json
    assert [segment["label"] for segment in some] == NAMES[:2]
    assert segmenter.post("/?threshold=0.998", IMAGE).json == some


def test_the_semantic_subtask_gives_one_mask_for_each_class_without_a_score(segmenter):
    found = segmenter.post_json("/", asked(subtask="semantic")).json
    assert [(segment["label"], segment["score"]) for segment in found] == [("cat", None), ("dog", None), ("sky", None)]
    pixels = [(mask_of(segment["mask"]) == 255).sum() for segment in found]
    assert sum(pixels) == SIZE[0] * SIZE[1]
    assert pixels == pytest.approx([384, 384, 768], abs=8)  # equal ones at the edges go to the first class


@pytest.mark.parametrize("parameters", [{}, {"subtask": "instance"}])
def test_nothing_found_is_an_empty_list(segmenter, parameters):
    assert segmenter.post_json("/", asked(DARK, **parameters)).json == []


@pytest.mark.parametrize("path", ["/models/facebook/detr-resnet-50", "/models/demo/pipeline/object-detection", RUN])
def test_a_panoptic_model_gives_detections_where_these_are_asked_for(segmenter, path):
    answer = segmenter.post(path, IMAGE).json
    found = answer["result"] if path == RUN else answer
    assert [item["label"] for item in found] == NAMES
    assert all("box" in item and "mask" not in item for item in found)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"subtask": "all"}, "'/parameters/subtask' must be one of panoptic, instance, semantic"),
        ({"subtask": [1]}, "'/parameters/subtask' must be one of panoptic, instance, semantic"),
        ({"threshold": 2}, "'/threshold' must be a number from 0 to 1, found '2'"),
        ({"mask_threshold": "x"}, "'/mask_threshold' must be a number from 0 to 1, found 'x'"),
        (
            {"overlap_mask_area_threshold": -1},
            "'/overlap_mask_area_threshold' must be a number from 0 to 1, found '-1'",
        ),
    ],
)
def test_wrong_parameters_are_400(segmenter, parameters, says):
    answer = segmenter.post_json("/", asked(**parameters))
    assert (answer.status, answer.json) == (400, {"error": says})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"inputs": "aaaa", "parameters": [["threshold", 1]]}, "'/parameters' must be an object, found an array"),
        ({"inputs": "aaaa", "parameters": 0.5}, "'/parameters' must be an object, found a number"),
        ({"image": "aaaa"}, 'expected {"inputs": base64 of an image}, found no inputs'),
        ({"inputs": None}, 'expected {"inputs": base64 of an image}, found null as inputs'),
        ([1, 2], 'expected {"inputs": base64 of an image}, found an array'),
    ],
)
def test_json_of_another_form_is_400_and_nothing_in_it_is_ignored(segmenter, value, says):
    for path in ("/", "/models/facebook/detr-resnet-50"):
        answer = segmenter.post_json(path, value)
        assert (answer.status, answer.json) == (400, {"error": says})


def test_null_parameters_are_none(segmenter):
    assert segmenter.post_json("/", {**asked(), "parameters": None}).json == segmenter.post("/", IMAGE).json


@pytest.mark.parametrize("name", ["subtask", "mask_threshold", "overlap_mask_area_threshold"])
def test_a_detection_model_refuses_the_parameters_of_segmentation(server, name):
    answer = server.post_json("/", asked(**{name: "panoptic" if name == "subtask" else 0.5}))
    says = f"'/parameters/{name}' belongs to image-segmentation, but the task is detection"
    assert (answer.status, answer.json) == (400, {"error": says})


def test_a_detection_model_asked_for_segmentation_is_400(server):
    answer = server.post("/models/demo/pipeline/image-segmentation", IMAGE)
    says = "the model detects objects and has no masks, which image-segmentation needs"
    assert (answer.status, answer.json) == (400, {"error": says})
    assert server.post("/models/none/pipeline/image-segmentation", IMAGE).status == 404
    assert server.post("/models/demo/pipeline/object-detection", IMAGE).status == 200


def test_bad_images_are_refused_as_for_detection(segmenter):
    assert segmenter.post("/", b"no image").status == 400
    assert segmenter.post("/", b"").status == 400
    assert "too small" in segmenter.post("/", png("white", (1, 5000))).json["error"]
    assert len(segmenter.post("/", png("white", (4, 3000))).json) == 4


def test_hugging_faces_client_reads_the_segments(segmenter):
    hub = pytest.importorskip("huggingface_hub")
    found = hub.InferenceClient(segmenter.url, timeout=120).image_segmentation(IMAGE)
    assert [item.label for item in found] == NAMES
    assert found[0].mask.size == SIZE
    refused = hub.InferenceClient(f"{segmenter.url}/models/none", timeout=120)
    with pytest.raises(hub.errors.HfHubHTTPError, match="404"):
        refused.image_segmentation(IMAGE)


@pytest.mark.parametrize("task", ["object-detection", "image-segmentation"])
def test_the_answers_fit_the_openapi_document(segmenter, task):
    jsonschema = pytest.importorskip("jsonschema")
    path = f"/models/{{model}}/pipeline/{task}"
    operation = segmenter.get("/openapi.json").json["paths"][path]["post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    answer = segmenter.post(path.format(model="demo"), IMAGE)
    jsonschema.validate(json.loads(answer.body), schema)
