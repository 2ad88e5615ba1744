"""The page at `/` and its files. The page loads nothing from anywhere else."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.models.open import demo_image
from detr_onnx.server.errors import error_field
from detr_onnx.server.service import Dialect, route

HERE = Path(__file__).parent / "page"
FILES = {
    "/": (HERE / "index.html", "text/html; charset=utf-8"),
    "/page.js": (HERE / "page.js", "text/javascript; charset=utf-8"),
    "/boxes.js": (HERE / "boxes.js", "text/javascript; charset=utf-8"),
    "/sources.js": (HERE / "sources.js", "text/javascript; charset=utf-8"),
    "/page.css": (HERE / "page.css", "text/css; charset=utf-8"),
    "/sample.jpg": (demo_image(), "image/jpeg"),
}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_routes() -> list[Route]:
    """A route for each file. None requires the token; the page asks for it."""
    return [_file_route(path, file, media_type) for path, (file, media_type) in FILES.items()]


def _file_route(path: str, file: Path, media_type: str) -> Route:
    content = file.read_bytes()

    async def respond(request: Request) -> Response:
        return Response(content, headers={**HEADERS, "content-type": media_type})

    return route(path, respond, Dialect(error_field))
