"""DeepStack's route: object detection as camera software calls it (Frigate, Blue Iris, Agent DVR, Home Assistant)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.server.access import check_access, check_token
from detr_onnx.server.protocols.deepstack import failure, image_and_confidence, read_form, write_predictions
from detr_onnx.server.service import Dialect, Service, answer_json, route

DIALECT = Dialect(failure)


def routes(service: Service) -> list[Route]:
    """All routes of this dialect. The token may be a field of the form, and is then checked after the body is read."""
    token = service.settings.token

    async def detect(request: Request) -> Response:
        has_header = "authorization" in request.headers
        if has_header:
            check_access(request.headers, token)

        def read(body: bytes) -> tuple[bytes, float]:
            fields = read_form(request.headers.get("content-type", ""), body)
            if token is not None and not has_header:
                check_token(fields.get("api_key", b"").decode("utf-8", "replace"), token)
            return image_and_confidence(fields)

        return answer_json(write_predictions(await service.detect(request, read)))

    return [route("/v1/vision/detection", detect, DIALECT, methods=("POST",))]
