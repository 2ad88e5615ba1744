"""Our own route: where the model looks for each object, for the page and whoever wants it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.server.errors import error_field
from detr_onnx.server.protocols.explanations import write_explanations
from detr_onnx.server.protocols.fields import parse_threshold, raw_image
from detr_onnx.server.service import Dialect, Service, answer_json, route

DIALECT = Dialect(error_field)


def routes(service: Service) -> list[Route]:
    """All routes of this dialect."""

    async def explain(request: Request) -> Response:
        threshold = parse_threshold(request.query_params.get("threshold"), service.settings.threshold)
        content_type = request.headers.get("content-type", "")

        def read(body: bytes) -> tuple[bytes, float]:
            return raw_image(content_type, body, or_json=False), threshold

        return answer_json(await service.explain(request, read, write_explanations))

    return [route("/explain", explain, DIALECT, methods=("POST",), token=service.settings.token)]
