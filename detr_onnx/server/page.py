"""The page at `/`: three files that need nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from detr_onnx.server.errors import error_field
from detr_onnx.server.service import Dialect, route

HERE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_routes() -> list[Route]:
    """A route for each file of the page; none needs a token, the page asks for it."""
    return [_file_route(path, HERE / name, kind) for path, (name, kind) in FILES.items()]


def _file_route(path: str, file: Path, kind: str) -> Route:
    content = file.read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, headers={**HEADERS, "content-type": f"{kind}; charset=utf-8"})

    return route(path, answer, Dialect(error_field))
