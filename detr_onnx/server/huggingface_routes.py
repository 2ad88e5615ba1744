"""Hugging Face's routes: object detection and image segmentation as the clients of its inference API call them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.defaults import DEFAULT_MODEL
from detr_onnx.detector import Detector
from detr_onnx.engines import PanopticOutputs
from detr_onnx.panoptic import panoptic_of, semantic_of
from detr_onnx.server.errors import BAD_INPUT, NO_MODEL, RequestError, error_field
from detr_onnx.server.protocols import huggingface as protocol
from detr_onnx.server.protocols.fields import parse_threshold
from detr_onnx.server.service import Dialect, Service, answer_json, route

DIALECT = Dialect(error_field)
DETECTION, SEGMENTATION = "object-detection", "image-segmentation"
MODEL_PATHS = ("/models/{model:path}", "/hf-inference/models/{model:path}")
NO_MASKS = f"the model detects objects and has no masks, which {SEGMENTATION} needs"


def routes(service: Service) -> list[Route]:
    """All routes of this dialect."""

    async def run_task(request: Request) -> Response:
        return await answer(service, request, task_of(service, request.path_params.get("model")))

    async def detect(request: Request) -> Response:
        check_model(service, request.path_params["model"])
        return await answer(service, request, DETECTION)

    async def segment(request: Request) -> Response:
        check_model(service, request.path_params["model"])
        return await answer(service, request, SEGMENTATION)

    endpoints = {
        **{f"{path}/pipeline/{DETECTION}": detect for path in MODEL_PATHS},
        **{f"{path}/pipeline/{SEGMENTATION}": segment for path in MODEL_PATHS},
        **dict.fromkeys(("/", *MODEL_PATHS), run_task),  # "/" is an inference endpoint's own
    }
    token = service.settings.token
    return [route(path, endpoint, DIALECT, methods=("POST",), token=token) for path, endpoint in endpoints.items()]


def check_model(service: Service, name: str | None) -> None:
    """Raises RequestError for a name of another model than the one that is served."""
    if name not in (None, DEFAULT_MODEL, service.settings.model):
        raise RequestError(NO_MODEL, subject=name or "")


def task_of(service: Service, name: str | None) -> str:
    """What a model does, as on the hub: a panoptic one segments. One that is called as the detection model detects."""
    check_model(service, name)
    service.inference.check_room()  # it has a detector from now on
    is_detection = name == DEFAULT_MODEL or not service.inference.detector.has_masks
    return DETECTION if is_detection else SEGMENTATION


async def answer(service: Service, request: Request, task: str) -> Response:
    """The response to a request for a task.

    Raises:
        RequestError: BAD_INPUT: the model has no masks, or parameters are wrong.
    """
    content_type, query = request.headers.get("content-type", ""), request.query_params.get("threshold")
    if task == DETECTION:
        read = partial(protocol.read_request, content_type, parse_threshold(query, protocol.THRESHOLD))
        return answer_json((await service.detect(request, read)).to_api())
    service.inference.check_room()
    detector = service.inference.detector
    if not detector.has_masks:
        raise RequestError(BAD_INPUT, NO_MASKS)
    threshold = parse_threshold(query, protocol.SEGMENT_THRESHOLD)
    read_wanted = partial(protocol.read_segmentation, content_type, threshold)
    return answer_json(await service.segment(request, read_wanted, partial(segments_of, detector)))


def segments_of(
    detector: Detector,
    segments: PanopticOutputs,
    mask: NDArray[np.bool_],
    sizes_hw: NDArray[np.int64],
    wanted: protocol.Segmentation,
) -> list[dict[str, Any]]:
    """The segments of an image as the protocol writes them."""
    if wanted.subtask == protocol.SEMANTIC:
        return protocol.write_classes(semantic_of(segments, mask, sizes_hw), detector.class_names)
    return protocol.write_segments(panoptic_of(segments, mask, sizes_hw, detector.class_names, wanted.rules))
