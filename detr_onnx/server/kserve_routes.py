"""KServe's protocol, version 2, as clients of Triton and OpenVINO Model Server speak it.

Two ways in: `image`, an encoded image (BYTES) or its pixels (UINT8 [height, width, 3]), which gives detections; and
`pixel_values` with an optional `pixel_mask`, as the network sees them, which gives `logits` and `pred_boxes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx import __version__
from detr_onnx.detections import Detections
from detr_onnx.server.huggingface import refused
from detr_onnx.server.inference import Floats, Mask
from detr_onnx.server.protocols.kserve import Array, InferRequest, read_request, write_answer, wrong
from detr_onnx.server.protocols.workers_ai import MISSING_BODY, NO_OBJECT, ApiError, threshold_of
from detr_onnx.server.service import Service, answer_json, note_of, route, while_connected

NAME = "detr-resnet-50"
LENGTH_HEADER = "inference-header-content-length"


def kserve_routes(service: Service) -> list[Route]:
    """All routes of this dialect."""
    token = service.settings.token
    names = {NAME, service.settings.model, service.settings.model.rpartition("/")[2]}

    def check_name(request: Request) -> None:
        if request.path_params["model"] not in names:
            raise ApiError(NO_OBJECT, text=f"Request for unknown model: {request.path_params['model']!r}")

    async def live(request: Request) -> Response:
        return answer_json({"live": True})

    async def ready(request: Request) -> Response:
        return answer_json({"ready": service.ready}, 200 if service.ready else 503)

    async def model_ready(request: Request) -> Response:
        check_name(request)
        return await ready(request)

    async def model(request: Request) -> Response:
        check_name(request)
        return answer_json(metadata(request.path_params["model"]))

    async def infer(request: Request) -> Response:
        check_name(request)
        return await answer(service, request)

    def here(path: str, endpoint: Any, *methods: str, behind: str | None = token) -> Route:
        return route(path, endpoint, refused, methods=methods, token=behind)

    routes = [
        here("/v2", server, "GET", behind=None),
        here("/v2/health/live", live, "GET", behind=None),
        here("/v2/health/ready", ready, "GET", behind=None),
    ]
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            here(f"{base}/ready", model_ready, "GET", behind=None),
            here(f"{base}/infer", infer, "POST"),
            here(base, model, "GET"),
        ]
    return routes


async def server(request: Request) -> Response:
    """What the server is."""
    return answer_json({"name": "detr-onnx", "version": __version__, "extensions": ["binary_tensor_data"]})


def metadata(name: str) -> dict[str, Any]:
    """The model's inputs and outputs; -1 is any size."""

    def tensor(name: str, datatype: str, *shape: int) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": list(shape)}

    return {
        "name": name,
        "versions": ["1"],
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


async def answer(service: Service, request: Request) -> Response:
    """The answer to a request to infer."""
    length = request.headers.get(LENGTH_HEADER)
    if length is not None and not length.isdigit():
        raise wrong(f"{LENGTH_HEADER} is no number")
    service.inference.check_room()
    async with service.intake.body(request) as body:
        if not body:
            raise ApiError(MISSING_BODY)
        work = inferred(service, request, body, int(length) if length is not None else None)
        asked, outputs = await while_connected(request, work)
    text, header_length = write_answer(asked, request.path_params["model"], outputs)
    if header_length is None:
        return Response(text, media_type="application/json")
    return Response(text, headers={LENGTH_HEADER: str(header_length)}, media_type="application/octet-stream")


async def inferred(
    service: Service, request: Request, body: bytes, header_length: int | None
) -> tuple[InferRequest, dict[str, Array]]:
    """The request, read in a thread, and its outputs."""
    inference, timing = service.inference, note_of(request).timing
    asked = await inference.read(lambda: read_request(body, header_length))
    if "image" in asked.inputs:
        threshold = threshold_of(_text(asked.parameters.get("threshold")), service.settings.threshold)
        source = image_of(asked.inputs["image"])
        return asked, outputs_of((await inference.detect(lambda: source, threshold, timing)).by_score())
    tensors = tensors_of(asked.inputs, inference.largest_side_px**2)
    logits, boxes = await inference.infer(lambda: tensors, timing)
    return asked, {"logits": logits, "pred_boxes": boxes}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def image_of(array: Array) -> bytes | Image.Image:
    """The image of the input `image`."""
    if array.dtype == object and array.size == 1:
        return bytes(array.reshape(-1)[0])
    pixels = array[0] if array.ndim == 4 and len(array) == 1 else array
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise wrong("input image: expected one image, encoded as BYTES [1] or UINT8 [height, width, 3]")
    return Image.fromarray(np.ascontiguousarray(pixels))


def tensors_of(inputs: Any, most_pixels: int) -> tuple[Floats, Mask | None]:
    """pixels [B,3,H,W] and mask [B,H,W] of a request.

    Raises:
        ApiError: their shapes are wrong, or there are more than `most_pixels` pixels in all.
    """
    if "pixel_values" not in inputs:
        raise wrong("there is neither an input image nor pixel_values")
    pixels, mask = inputs["pixel_values"], inputs.get("pixel_mask")
    if pixels.dtype != np.float32 or pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.size:
        raise wrong("input pixel_values: expected FP32 [batch, 3, height, width]")
    batch, _, height, width = pixels.shape
    if batch * height * width > most_pixels:
        raise wrong(f"input pixel_values: {batch * height * width} pixels, at most {most_pixels} go through at a time")
    if not np.isfinite(pixels).all():
        raise wrong("input pixel_values: not all of them are finite")
    if mask is None:
        return pixels, None
    if mask.shape != (batch, height, width) or mask.dtype.kind not in "biu" or not mask.any(axis=(1, 2)).all():
        raise wrong("input pixel_mask: expected BOOL [batch, height, width], with image in each")
    return pixels, mask.astype(np.bool_)


def outputs_of(found: Detections) -> dict[str, Array]:
    """Detections as parallel tensors, best first; boxes are xyxy in pixels of the image."""
    names = np.empty(len(found), object)
    names[:] = [found.class_names[i].encode() for i in found.class_ids]
    return {"scores": found.scores, "labels": found.class_ids, "names": names, "boxes": found.xyxy}
