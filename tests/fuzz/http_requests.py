"""Requests to the server in every protocol, given to the ASGI application without sockets; the network is a stub.

An input is the text of a request: its line, its headers, an empty line, its body.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import gzip
import importlib.util
import io
import json
import logging
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from PIL import Image

from detr_onnx import Detector
from tests.fuzz.mutate import mutate_bytes, mutate_json
from tests.fuzz.run import Kind
from tests.fuzz.stub_networks import stub_attention, stub_network, stub_segments

PACKAGES = ("starlette", "anyio", "prometheus_client", "python_multipart")
SIDE = 16
TOKEN = "a-token"
MAX_BODY, MAX_PIXELS = 1 << 21, 1 << 16
RUN = "/client/v4/accounts/a/ai/run/@cf/facebook/detr-resnet-50"
GATEWAY = "/v1/account/gateway/workers-ai/@cf/facebook/detr-resnet-50"
BINDING = "/run"
HUGGING_FACE = "/models/facebook/detr-resnet-50"
SEGMENTATION = f"{HUGGING_FACE}/pipeline/image-segmentation"
INFER, INDEX = "/v2/models/detr-resnet-50/infer", "/v2/repository/index"
DEEPSTACK = "/v1/vision/detection"
EXPLAIN = "/explain"
LENGTH = "inference-header-content-length"
JSON, BINARY = "application/json", "application/octet-stream"
BOUNDARY = "a-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"

ODD_INPUTS = (256, 300, -1, 1.5, 255.0, 1e30, 1e39, [255] * 300, [300], [1.5], [True], "data:image/png;base64,AAAA",
              "data:,x", "https://example.org/x.png", "AAA", "@@@@", "UINT8", "FP32", "BYTES", "BOOL", "INT64",
              "FP16", [1], [0], [-1], [1, 3, 8, 8], [2**31, 2**31], [2**16] * 4, [1] * 70, [0] + [2**30] * 3, 5, 100, 0,
              {"b64": "AAAA"})  # fmt: skip


@dataclass(frozen=True)
class HttpRequest:
    """A request.

    Attributes:
        target: path and query.
        headers: by lower-case name.
    """

    target: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"

    def __bytes__(self) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body

    @classmethod
    def of(cls, data: bytes) -> HttpRequest:
        """The request of a text, as far as it is one."""
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = re.split(r"\r?\n", head.decode("latin-1"))
        method, target = (*first.split(" "), "", "")[:2]
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}
        return cls(f"/{target.lstrip('/')}", headers, body, method or "POST")

    @property
    def scope(self) -> dict[str, Any]:
        path, _, query = self.target.partition("?")
        headers = {**self.headers, "content-length": str(len(self.body))}
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8787),
        }


@dataclass(frozen=True)
class HttpResponse:
    """A response; its body as it is, and as JSON where it is JSON."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise AssertionError(f"a response with {name}, which is not JSON")


# The application


class Server:
    """The application, its loop, and the errors that it logged."""

    def __init__(self) -> None:
        from detr_onnx.server.app import application
        from detr_onnx.server.settings import Settings

        detector = Detector("demo", engine="numpy", shortest_edge=SIDE)
        network = stub_network(len(detector.class_names))
        detector._engine = replace(
            detector._engine, network=network, segment=stub_segments(network), attention=lambda: stub_attention(network)
        )
        settings = Settings(lambda: detector, "demo", max_body=MAX_BODY, max_pixels=MAX_PIXELS, access_log=False)
        self.app, self.service = application(settings, detector)
        self.guarded_app, self.guarded_service = application(replace(settings, token=TOKEN), detector)
        self.loop = asyncio.new_event_loop()
        self.errors: list[str] = []
        handler = logging.Handler(logging.ERROR)
        handler.emit = lambda record: self.errors.append(_named(record))  # type: ignore[method-assign]
        logging.getLogger("detr_onnx").addHandler(handler)

    def ask(self, request: HttpRequest) -> HttpResponse:
        """The response to a request; the guarded application takes those with a token."""
        guarded = "authorization" in request.headers or b"api_key" in request.body
        app, service = (self.guarded_app, self.guarded_service) if guarded else (self.app, self.service)
        self.errors.clear()
        response = self.loop.run_until_complete(_exchange(app, request))
        if service.intake.held or service.inference.pending:
            raise AssertionError(f"{service.intake.held} bytes and {service.inference.pending} requests are left")
        if response.status >= 500:
            raise AssertionError(f"status {response.status}: {'; '.join(self.errors)}")
        return response


def _named(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return f"{type(error).__name__}: {error}"[:150]


@functools.cache
def server() -> Server:
    return Server()


async def _exchange(app: Any, request: HttpRequest) -> HttpResponse:
    """One exchange: the body comes in pieces, then the client waits."""
    half = len(request.body) // 2
    pieces = [request.body[:half], request.body[half:]]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(request.scope, receive, send)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return HttpResponse(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


# Valid requests


@functools.cache
def png() -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def json_request(target: str, value: Any, **headers: str) -> HttpRequest:
    return HttpRequest(target, {"content-type": JSON, **headers}, json.dumps(value).encode())


def tensor(name: str, datatype: str, shape: Sequence[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    """An input of KServe's protocol."""
    entry = {"name": name, "datatype": datatype, "shape": list(shape)}
    entry |= {"data": data} if data is not None else {}
    return entry | ({"parameters": parameters} if parameters else {})


def binary_request(inputs: Sequence[dict[str, Any]], data: bytes, **fields: Any) -> HttpRequest:
    """A request with tensors behind the JSON."""
    text = json.dumps({"inputs": inputs, **fields}).encode()
    return HttpRequest(INFER, {"content-type": BINARY, LENGTH: str(len(text))}, text + data)


def form(**parts: bytes) -> bytes:
    """The body of a form."""
    body = b""
    for name, data in parts.items():
        file = b'; filename="x.png"\r\nContent-Type: image/png' if name == "image" else b""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        body += head + file + b"\r\n\r\n" + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def workers_ai() -> dict[str, HttpRequest]:
    text = base64.b64encode(png()).decode()
    return {
        "raw": HttpRequest(RUN, {"content-type": BINARY}, png()),
        "curl": HttpRequest(f"{RUN}?threshold=0.2", {"content-type": "application/x-www-form-urlencoded"}, png()),
        "array": json_request(RUN, {"image": [*png()]}),
        "array of the gateway": json_request(GATEWAY, {"image": [*map(float, png())]}),
        "base64": json_request(RUN, {"image": text}),
        "data url": json_request(RUN, f"data:image/png;base64,{text}"),
        "binding": json_request(BINDING, {"inputs": {"image": [*png()]}, "options": {"returnRawResponse": False}}),
        "token": HttpRequest(RUN, {"content-type": BINARY, "authorization": f"Bearer {TOKEN}"}, png()),
        "gzip": HttpRequest(RUN, {"content-type": BINARY, "content-encoding": "gzip"}, gzip.compress(png(), mtime=0)),
    }


RULES = {"threshold": 0.5, "mask_threshold": 0.4, "overlap_mask_area_threshold": 0.1, "subtask": "panoptic"}


def hugging_face() -> dict[str, HttpRequest]:
    text = base64.b64encode(png()).decode()
    return {
        "raw": HttpRequest(HUGGING_FACE, {"content-type": "image/png"}, png()),
        "json": json_request(HUGGING_FACE, {"inputs": text, "parameters": {"threshold": 0.25}}),
        "endpoint": json_request("/", {"inputs": text}),
        "segments": json_request(SEGMENTATION, {"inputs": text, "parameters": RULES}),
        "classes": json_request(SEGMENTATION, {"inputs": text, "parameters": {"subtask": "semantic"}}),
        "raw segments": HttpRequest(SEGMENTATION, {"content-type": "image/png"}, png()),
        "array": json_request(f"{HUGGING_FACE}?threshold=0.9", {"inputs": [*png()]}),
    }


def kserve() -> dict[str, HttpRequest]:
    pixels = np.linspace(-2, 2, 3 * 8 * 8, dtype=np.float32)
    text = base64.b64encode(png()).decode()
    string = struct.pack("<I", len(png())) + png()
    rgb = np.arange(8 * 8 * 3, dtype=np.uint8)
    outputs = [{"name": "scores"}, {"name": "boxes", "parameters": {"binary_data": True}}]
    mask = tensor("pixel_mask", "BOOL", (1, 8, 8), [True] * 64)
    return {
        "base64": json_request(INFER, {"inputs": [tensor("image", "BYTES", (1,), [text])], "id": "7"}),
        "rgb": json_request(INFER, {"inputs": [tensor("image", "UINT8", (8, 8, 3), rgb.reshape(8, 8, 3).tolist())]}),
        "pixels": json_request(
            INFER, {"inputs": [tensor("pixel_values", "FP32", (1, 3, 8, 8), pixels.tolist()), mask]}
        ),
        "binary": binary_request([tensor("image", "BYTES", (1,), binary_data_size=len(string))], string),
        "binary rgb": binary_request(
            [tensor("image", "UINT8", (8, 8, 3), binary_data_size=rgb.nbytes)], rgb.tobytes(), outputs=outputs
        ),
        "binary pixels": binary_request(
            [
                tensor("pixel_values", "FP32", (1, 3, 8, 8), binary_data_size=pixels.nbytes),
                tensor("pixel_mask", "INT64", (1, 8, 8), binary_data_size=512),
            ],
            pixels.tobytes() + np.ones(64, "<i8").tobytes(),
            parameters={"binary_data_output": True, "threshold": 0.5},
        ),
        "index": json_request(INDEX, {"ready": True}),
    }


def deepstack() -> dict[str, HttpRequest]:
    forms = {
        "image": form(image=png()),
        "all": form(image=png(), min_confidence=b"0.4", api_key=TOKEN.encode()),
        "others": form(api_key=TOKEN.encode(), one=b"1", image=png(), two=bytes(300)),
    }
    return {name: HttpRequest(DEEPSTACK, {"content-type": FORM}, body) for name, body in forms.items()}


def explain() -> dict[str, HttpRequest]:
    compressed = {"content-type": BINARY, "content-encoding": "gzip"}
    return {
        "raw": HttpRequest(EXPLAIN, {"content-type": "image/png"}, png()),
        "threshold": HttpRequest(f"{EXPLAIN}?threshold=0.001", {"content-type": BINARY}, png()),
        "token": HttpRequest(EXPLAIN, {"content-type": BINARY, "authorization": f"Bearer {TOKEN}"}, png()),
        "gzip": HttpRequest(EXPLAIN, compressed, gzip.compress(png(), mtime=0)),
    }


# Mutations


def mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A part of the request is changed: a JSON value, bytes of the body, the compressed body, or the head."""
    request, choice = HttpRequest.of(data), random.random()
    if choice < 0.1:
        head, _, body = data.partition(b"\r\n\r\n")
        return mutate_bytes(random, head, [data]) + b"\r\n\r\n" + body
    if choice < 0.15:
        body = mutate_bytes(random, gzip.compress(request.body, mtime=0), others)
        return bytes(replace(request, headers={**request.headers, "content-encoding": "gzip"}, body=body))
    changed = _with_json_changed if choice < 0.6 else _with_bytes_changed
    return bytes(changed(random, request, others))


def _with_json_changed(random: Random, request: HttpRequest, others: Sequence[bytes]) -> HttpRequest:
    """The request with changes in its JSON, whose length in the header follows in most cases."""
    end = int(request.headers.get(LENGTH, len(request.body)))
    text, rest = request.body[:end], request.body[end:]
    if not text.startswith((b"{", b'"')):
        return _with_bytes_changed(random, request, others)
    text = mutate_json(random, text, ODD_INPUTS)
    length = {LENGTH: str(len(text))} if LENGTH in request.headers and random.random() < 0.9 else {}
    return replace(request, headers={**request.headers, **length}, body=text + rest)


def _with_bytes_changed(random: Random, request: HttpRequest, others: Sequence[bytes]) -> HttpRequest:
    return replace(request, body=mutate_bytes(random, request.body, others))


# Responses


def refused(response: HttpResponse, message: Any) -> str:
    """The outcome of a refusal, whose message must be one line."""
    if not 400 <= response.status < 500 or not isinstance(message, str) or not message or "\n" in message:
        raise AssertionError(f"status {response.status} with {message!r}")
    return f"{response.status} {message}"


def checked(detections: Any) -> str:
    """The outcome of a list of detections in the API's form."""
    for item in detections:
        if "mask" in item:
            return checked_segments(detections)
        if not 0 <= item["score"] <= 1 or not all(type(pixels) is int for pixels in item["box"].values()):
            raise AssertionError(f"{item} is not a detection")
    return "detections" if detections else "no detections"


def checked_segments(segments: Any) -> str:
    """The outcome of a list of segments."""
    for item in segments:
        with Image.open(io.BytesIO(base64.b64decode(item["mask"]))) as mask:
            mask.load()
        if set(item) != {"score", "label", "mask"} or mask.mode != "L" or not 0 <= (item["score"] or 0) <= 1:
            raise AssertionError(f"{item} is not a segment")
    return "segments"


def read_workers_ai(response: HttpResponse) -> str:
    fields = response.json
    if set(fields) != {"result", "success", "errors", "messages"}:
        raise AssertionError(f"{fields} is not the envelope")
    if response.status != 200:
        return refused(response, f"{fields['errors'][0]['code']} {fields['errors'][0]['message'].split(' (')[0]}")
    return checked(fields["result"]) if isinstance(fields["result"], list) else "another resource"


def read_binding(response: HttpResponse) -> str:
    return checked(response.json) if response.status == 200 else refused(response, response.json["description"])


def read_hugging_face(response: HttpResponse) -> str:
    return checked(response.json) if response.status == 200 else refused(response, response.json["error"])


def read_kserve(response: HttpResponse) -> str:
    if response.status != 200:
        return refused(response, response.json["error"])
    if LENGTH not in response.headers:
        return "outputs" if isinstance(response.json, dict) and "outputs" in response.json else "another resource"
    length = int(response.headers[LENGTH])
    outputs = json.loads(response.body[:length], parse_constant=_no_constant)["outputs"]
    sizes = [output.get("parameters", {}).get("binary_data_size", 0) for output in outputs]
    if length + sum(sizes) != len(response.body):
        raise AssertionError("the binary data is not as long as the JSON says")
    return "binary outputs"


def read_deepstack(response: HttpResponse) -> str:
    fields = response.json
    if fields["success"] is not (response.status == 200):
        raise AssertionError(f"status {response.status} with {fields}")
    if response.status != 200:
        return refused(response, fields["error"])
    if not all(0 <= found["confidence"] <= 1 for found in fields["predictions"]):
        raise AssertionError(f"{fields} are not predictions")
    return "predictions" if fields["predictions"] else "no predictions"


def read_explain(response: HttpResponse) -> str:
    fields = response.json
    if response.status != 200:
        return refused(response, fields["error"])
    for item in fields["objects"]:
        with Image.open(io.BytesIO(base64.b64decode(item["heat"].partition(",")[2]))) as heat:
            heat.load()
        if heat.size != (fields["columns"], fields["rows"]) or not 0 < item["peak"] <= 1:
            raise AssertionError(f"{item} is not a map of {fields['rows']} rows and {fields['columns']} columns")
    return f"maps of {checked(fields['objects'])}"


READERS: dict[str, Callable[[HttpResponse], str]] = {
    "/v2": read_kserve,
    "/models/": read_hugging_face,
    "/hf-inference/": read_hugging_face,
    "/v1/vision/": read_deepstack,
    EXPLAIN: read_explain,
    "": read_workers_ai,
}
"""Prefixes of paths, and who reads the responses there."""


def read(data: bytes) -> str:
    """Sends the request; the protocol of its path, which may have changed, reads the response."""
    request = HttpRequest.of(data)
    response = server().ask(request)
    if not response.headers.get("content-type", "").startswith((JSON, BINARY)):
        return f"{response.status} a page"
    path = request.scope["path"]
    if path in READ_BY_PATH and (path == BINDING or response.status not in (404, 405)):
        return READ_BY_PATH[path](response)
    return next(reader for prefix, reader in READERS.items() if path.startswith(prefix))(response)


READ_BY_PATH = {"/": read_hugging_face, BINDING: read_binding}


def kind(requests: Callable[[], dict[str, HttpRequest]]) -> Kind:
    """The fuzzer of one protocol. No error is allowed: whatever comes is answered."""

    @functools.cache
    def seeds() -> Mapping[str, bytes]:
        is_installed = all(importlib.util.find_spec(package) for package in PACKAGES)
        return {name: bytes(request) for name, request in requests().items()} if is_installed else {}

    return Kind(seeds, mutate, read, (), 8)


WORKERS_AI, HUGGING_FACE_API, KSERVE, DEEPSTACK_API, EXPLANATIONS = map(
    kind, (workers_ai, hugging_face, kserve, deepstack, explain)
)
