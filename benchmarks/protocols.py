"""Requests of every protocol of the server, for a panoptic model; the expected responses are those of `Detector`.

The server's own writers, which need no sockets, put `Detector`'s answers into each protocol's form.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from benchmarks.load import JSON, RUN, Kind, api_content, kinds, scene_crops
from detr_onnx import Detector, __version__
from detr_onnx.server.kserve_routes import LENGTH_HEADER, NAME, outputs_of
from detr_onnx.server.openapi import document
from detr_onnx.server.page import FILES
from detr_onnx.server.protocols import huggingface
from detr_onnx.server.protocols.deepstack import MIN_CONFIDENCE, write_predictions
from detr_onnx.server.protocols.explanations import write_explanations
from detr_onnx.server.protocols.kserve import InferRequest, write_response
from detr_onnx.server.protocols.tensors import Array

API_THRESHOLD = 0.1  # of the hosted API's form, KServe and /explain
MODEL = {**JSON, "cf-consn-model-id": "@cf/facebook/detr-resnet-50"}
FORM, BOUNDARY = {"content-type": "multipart/form-data; boundary=soak"}, b"--soak"


def every_kind(detector: Detector) -> list[Kind]:
    """Valid and invalid requests of every protocol, and those for operators and for the page."""
    images = [kind for number, image in enumerate(scene_crops()) for kind in of_image(detector, image, number)]
    return [*kinds(detector), *images, *invalid(), *operations()]


def of_image(detector: Detector, image: bytes, number: int) -> Iterator[Kind]:
    """The requests for one image."""
    text = base64.b64encode(image).decode()
    best_first = detector(image, API_THRESHOLD).by_score()
    api, huggingface_rows = best_first.to_api(), detector(image, huggingface.THRESHOLD).to_api()
    maps = write_explanations(detector.attention(image, API_THRESHOLD))
    form = b'%b\r\ncontent-disposition: form-data; name="image"\r\n\r\n%b\r\n%b--\r\n' % (BOUNDARY, image, BOUNDARY)
    predictions = write_predictions(detector(image, MIN_CONFIDENCE))
    inputs = json.dumps({"inputs": text}).encode()

    def kind(name: str, share: int, path: str, headers: dict[str, str], body: bytes, expected: object) -> Kind:
        return Kind(f"{name} {number}", share, path, headers, body, 200, expected, json.loads)

    yield Kind(f"base64 {number}", 2, RUN, JSON, json.dumps({"image": text}).encode(), 200, api, api_content)
    yield kind("binding", 1, "/run?version=3", MODEL, json.dumps({"inputs": {"image": list(image)}}).encode(), api)
    yield kind("hugging face", 2, "/models/facebook/detr-resnet-50", {}, image, huggingface_rows)
    yield kind("panoptic", 1, "/", JSON, inputs, segments(detector, image))
    yield kind("deepstack", 2, "/v1/vision/detection", FORM, form, predictions)
    yield kind("explain", 1, "/explain", {}, image, maps)
    encoded = len(image).to_bytes(4, "little") + image
    yield infer(f"kserve {number}", "image", "BYTES", (1,), encoded, outputs_of(best_first))
    pixels = detector.preprocess([image])[0]
    logits, boxes = detector.network(pixels, None)
    outputs = {"logits": logits, "pred_boxes": boxes}
    yield infer(f"kserve pixels {number}", "pixel_values", "FP32", pixels.shape, pixels.tobytes(), outputs)


def segments(detector: Detector, image: bytes) -> list[dict[str, object]]:
    """An image segmentation with Hugging Face's defaults."""
    thresholds = huggingface.MASK_THRESHOLD, huggingface.OVERLAP_THRESHOLD
    found = detector.panoptic(
        image, huggingface.SEGMENT_THRESHOLD, mask_threshold=thresholds[0], overlap_mask_area_threshold=thresholds[1]
    )
    return huggingface.write_segments(found)


def infer(
    name: str, tensor: str, datatype: str, shape: tuple[int, ...], data: bytes, outputs: dict[str, Array]
) -> Kind:
    """A request of KServe's protocol with one binary tensor, for binary outputs; the response is known byte by byte."""
    entry = {"name": tensor, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    expected, _ = write_response(InferRequest({}, {}, binary=True), NAME, outputs)
    headers = {LENGTH_HEADER: str(len(head))}
    return Kind(name, 2, f"/v2/models/{NAME}/infer", headers, head + data, 200, expected, bytes)


def invalid() -> list[Kind]:
    """Requests that the protocols refuse, by their status."""

    def kind(name: str, share: int, path: str, headers: dict[str, str], body: bytes, status: int) -> Kind:
        return Kind(name, share, path, headers, body, status, True, is_error)

    return [
        kind("kserve not json", 5, f"/v2/models/{NAME}/infer", {}, b"{", 400),
        kind("kserve no model", 5, "/v2/models/none/infer", {}, b"{}", 404),
        kind("hugging face no image", 5, "/", {}, bytes(5000), 400),
        kind("deepstack no form", 5, "/v1/vision/detection", {}, b"x", 400),
        kind("explain no image", 5, "/explain", {}, bytes(5000), 400),
    ]


def is_error(body: bytes) -> bool:
    """Whether a response says what is wrong."""
    return bool(json.loads(body)["error"])


def operations() -> list[Kind]:
    """Requests for operators, and for the page and its files."""
    api = json.loads(json.dumps(document(__version__, secured=False)))

    def get(name: str, share: int, path: str, expected: object, content: object = json.loads) -> Kind:
        return Kind(name, share, path, {}, b"", 200, expected, content, "GET")  # type: ignore[arg-type]

    return [
        get("health", 30, "/healthz", {"status": "ok"}),
        get("kserve ready", 15, f"/v2/models/{NAME}/ready", {"name": NAME, "ready": True}),
        get("openapi", 2, "/openapi.json", api),
        get("metrics", 5, "/metrics", True, lambda body: b"\ndetr_requests_total{" in body),
        *(get(f"page {path}", 2, path, file.read_bytes(), bytes) for path, (file, _) in FILES.items()),
    ]
