"""KServe's routes: the protocol, version 2, that clients of Triton and OpenVINO Model Server use.

The model takes either `image`, an encoded image (BYTES) or its pixels (UINT8 [height, width, 3]), and returns
detections; or the network's own inputs, `pixel_values` and an optional `pixel_mask`, and returns `logits` and
`pred_boxes`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx import __version__
from detr_onnx.detections import Detections
from detr_onnx.errors import EngineError
from detr_onnx.server.batches import Floats, Mask
from detr_onnx.server.errors import NO_BODY, NOT_FOUND, RequestError, error_field
from detr_onnx.server.protocols.fields import parse_threshold
from detr_onnx.server.protocols.kserve import (
    VERSION,
    InferRequest,
    read_index_request,
    read_request,
    write_response,
)
from detr_onnx.server.protocols.tensors import Array, invalid
from detr_onnx.server.service import Dialect, Service, answer_json, record_of, route, while_connected

NAME = "detr-resnet-50"
LENGTH_HEADER = "inference-header-content-length"
EXTENSIONS = ["binary_tensor_data", "model_repository"]
INPUTS = {"image", "pixel_values", "pixel_mask"}
LEAST_COUNTED_PX = 64 * 64  # in each image, however small: its queries take about as much memory as so many pixels
DIALECT = Dialect(error_field)


def routes(service: Service) -> list[Route]:
    """All routes of this dialect. Health and the server's metadata need no token."""
    return [*_server_routes(service), *_repository_routes(service), *_model_routes(service)]


def _server_routes(service: Service) -> list[Route]:
    async def live(request: Request) -> Response:
        return answer_json({"live": True})

    async def ready(request: Request) -> Response:
        is_ready = service.status == "ready"
        return answer_json({"ready": is_ready}, 200 if is_ready else 503)

    endpoints = {"/v2": server, "/v2/health/live": live, "/v2/health/ready": ready}
    return [route(path, endpoint, DIALECT) for path, endpoint in endpoints.items()]


def _repository_routes(service: Service) -> list[Route]:
    async def index(request: Request) -> Response:
        async with service.intake.body(request) as body:
            only_ready = read_index_request(body)
        state = "READY" if service.status == "ready" else "UNAVAILABLE"
        entry = {"name": NAME, "version": VERSION, "state": state, "reason": "" if state == "READY" else service.status}
        return answer_json([entry] if state == "READY" or not only_ready else [])

    async def load(request: Request) -> Response:
        check_model(service, request)
        raise invalid("models cannot be loaded or unloaded while the server runs")

    model = "/v2/repository/models/{model}"
    endpoints = {"/v2/repository/index": index, f"{model}/load": load, f"{model}/unload": load}
    token = service.settings.token
    return [route(path, endpoint, DIALECT, methods=("POST",), token=token) for path, endpoint in endpoints.items()]


def _model_routes(service: Service) -> list[Route]:
    async def ready(request: Request) -> Response:
        name, is_ready = check_model(service, request), service.status == "ready"
        return answer_json({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    async def model(request: Request) -> Response:
        return answer_json(metadata(check_model(service, request)))

    async def run(request: Request) -> Response:
        check_model(service, request)
        return await respond(service, request)

    model_routes: list[Route] = []
    token = service.settings.token
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        model_routes += [
            route(f"{base}/ready", ready, DIALECT),
            route(f"{base}/infer", run, DIALECT, methods=("POST",), token=token),
            route(base, model, DIALECT, token=token),
        ]
    return model_routes


def check_model(service: Service, request: Request) -> str:
    """The name of the model in the path.

    Raises:
        RequestError: NOT_FOUND, there is no such model or version.
    """
    name, version = request.path_params["model"], request.path_params.get("version", VERSION)
    model = service.settings.model
    if name not in (NAME, model, model.rpartition("/")[2]):
        raise RequestError(NOT_FOUND, f"Request for unknown model: {name!r}")
    if version != VERSION:
        raise RequestError(NOT_FOUND, f"Request for unknown model: {name!r} has no version {version!r}")
    return str(name)


async def server(request: Request) -> Response:
    """The server's metadata."""
    return answer_json({"name": "detr-onnx", "version": __version__, "extensions": EXTENSIONS})


def metadata(name: str) -> dict[str, Any]:
    """The model's inputs and outputs; -1 is any size."""

    def tensor(name: str, datatype: str, *shape: int) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": list(shape)}

    return {
        "name": name,
        "versions": [VERSION],
        "platform": "detr_onnx",
        "inputs": [
            tensor("image", "BYTES", 1),
            tensor("pixel_values", "FP32", -1, 3, -1, -1),
            tensor("pixel_mask", "BOOL", -1, -1, -1),
        ],
        "outputs": [
            tensor("scores", "FP32", -1),
            tensor("labels", "INT64", -1),
            tensor("names", "BYTES", -1),
            tensor("boxes", "FP32", -1, 4),
            tensor("logits", "FP32", -1, -1, -1),
            tensor("pred_boxes", "FP32", -1, -1, 4),
        ],
    }


async def respond(service: Service, request: Request) -> Response:
    """The response to an inference request."""
    length = request.headers.get(LENGTH_HEADER)
    if length is not None and not re.fullmatch("[0-9]{1,18}", length):
        raise invalid(f"{LENGTH_HEADER} is not a number")
    service.inference.check_room()
    async with service.intake.body(request) as body:
        if not body:
            raise RequestError(NO_BODY)
        work = infer(service, request, body, int(length) if length is not None else None)
        infer_request, outputs = await while_connected(request, work)
    text, header_length = write_response(infer_request, request.path_params["model"], outputs)
    if header_length is None:
        return Response(text, media_type="application/json")
    return Response(text, headers={LENGTH_HEADER: str(header_length)}, media_type="application/octet-stream")


async def infer(
    service: Service, request: Request, body: bytes, header_length: int | None
) -> tuple[InferRequest, dict[str, Array]]:
    """The parsed request and the outputs for it."""
    inference, timing = service.inference, record_of(request).timing
    with inference.time_limit():  # reading the request takes of the same time as the network
        parsed = await inference.read(lambda: read_request(body, header_length))
        check_inputs(parsed)
        if "image" in parsed.inputs:
            threshold = parse_threshold(_text(parsed.parameters.get("threshold")), service.settings.threshold)
            image = image_of(parsed.inputs["image"])
            return parsed, outputs_of((await inference.detect(lambda: (image, threshold), timing)).by_score())
        tensors = tensors_of(parsed.inputs, inference.largest_side_px**2)
        try:
            logits, boxes = await inference.infer(lambda: tensors, timing)
        except EngineError as error:  # such as of a graph for one size of images
            shape = list(tensors[0].shape)
            raise invalid(f"input pixel_values: the network failed on the shape {shape}: {error.found}") from error
    if not (np.isfinite(logits).all() and np.isfinite(boxes).all()):
        raise invalid("input pixel_values: the network's outputs for these values are not finite")
    return parsed, {"logits": logits, "pred_boxes": boxes}


def check_inputs(request: InferRequest) -> None:
    """Raises RequestError unless the inputs are `image`, or `pixel_values` with or without `pixel_mask`."""
    names = set(request.inputs)
    if not names & {"image", "pixel_values"}:
        raise invalid("there is neither an input image nor pixel_values")
    if unknown := sorted(names - INPUTS):
        raise invalid(f"unknown input {', '.join(unknown)}")
    if "image" in names and len(names) > 1:
        raise invalid("input image: expected without pixel_values and pixel_mask")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def image_of(array: Array) -> bytes | Image.Image:
    """The image of the input `image`."""
    if array.dtype == object and array.size == 1:
        return bytes(array.reshape(-1)[0])
    pixels = array[0] if array.ndim == 4 and len(array) == 1 else array
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise invalid("input image: expected one image, encoded as BYTES [1] or UINT8 [height, width, 3]")
    return Image.fromarray(np.ascontiguousarray(pixels))


def tensors_of(inputs: Any, most_pixels: int) -> tuple[Floats, Mask | None]:
    """pixels [B,3,H,W] and mask [B,H,W] of a request.

    Raises:
        RequestError: their shapes are wrong, or there are more than `most_pixels` pixels in all, of which an image
            has `LEAST_COUNTED_PX` at least.
    """
    pixels, mask = inputs["pixel_values"], inputs.get("pixel_mask")
    if pixels.dtype != np.float32 or pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.size:
        raise invalid("input pixel_values: expected FP32 [batch, 3, height, width]")
    batch, _, height, width = pixels.shape
    most = most_pixels // max(height * width, min(LEAST_COUNTED_PX, most_pixels))
    if batch > most:
        found = f"{batch} images of {height}x{width} pixels"
        raise invalid(f"input pixel_values: {found}, expected at most {most} of this size in one request")
    if not np.isfinite(pixels).all():
        raise invalid("input pixel_values: not all of them are finite")
    if mask is None:
        return pixels, None
    if mask.shape != (batch, height, width) or mask.dtype.kind not in "biu" or not mask.any(axis=(1, 2)).all():
        raise invalid("input pixel_mask: expected BOOL [batch, height, width], with image in each")
    return pixels, mask.astype(np.bool_)


def outputs_of(detections: Detections) -> dict[str, Array]:
    """Detections, best first, as parallel tensors; boxes are xyxy in pixels of the image."""
    names = np.empty(len(detections), object)
    names[:] = [detection.label.encode() for detection in detections]
    return {"scores": detections.scores, "labels": detections.class_ids, "names": names, "boxes": detections.xyxy}
