"""Requests of every kind, valid and invalid, from many clients at once, each with the response that is expected."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import random
import statistics
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.server import health_ms, resident_mb
from detr_onnx import Detector

IMAGE = Path(__file__).parent.parent / "examples" / "demo-scene.jpg"
RUN = "/client/v4/accounts/0123/ai/run/@cf/facebook/detr-resnet-50"
JSON = {"content-type": "application/json"}

RIGHT, WRONG, REFUSED, LOST, KILLED = ENDS = ("right", "wrong", "refused", "lost", "killed_with_worker")
"""What becomes of a request: its response is whole and as expected, or whole and another; it is refused for the time
being, with 429 or 503; there is no whole response; or that, and the test had killed the worker that held its
connection."""
REFUSALS = (429, 503)
SAMPLE_S = 0.25
QUARTERS = ((1, 2), (2, 4), (4, 6), (6, 8))  # eighths of a run; the first is left out, while caches fill

HEADER = b"IHDR\0\0\xff\xff\0\0\xff\xff\x08\x02\0\0\0"  # 65535 x 65535
BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\r" + HEADER + zlib.crc32(HEADER).to_bytes(4, "big") + b"\0\0\0\0IDAT"


def api_content(body: bytes) -> Any:
    """The result of a response of Cloudflare's API, or its error code."""
    fields = json.loads(body)
    return fields["result"] if fields["success"] else fields["errors"][0]["code"]


@dataclass(frozen=True)
class Kind:
    """A request and its expected response.

    Attributes:
        name: its name in the results.
        share: its weight in the mix.
        path, headers, body: of the request.
        status: the expected status.
        expected: the expected content.
        content: reads it from a response's body.
        method: of the request.
    """

    name: str
    share: int
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    expected: Any
    content: Callable[[bytes], Any] = api_content
    method: str = "POST"


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """An image as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def scene_crops() -> list[bytes]:
    """Four images of different sizes."""
    scene = Image.open(IMAGE).convert("RGB")
    return [jpeg(scene.crop((0, 0, 320 + 40 * i, 240 + 30 * i))) for i in range(4)]


def kinds(detector: Detector) -> list[Kind]:
    """Valid and invalid requests of Cloudflare's API; expected results are those of `detector`."""
    crops = scene_crops()
    results = [detector(crop, 0.1).to_api() for crop in crops]
    valid = [
        kind
        for i, (crop, result) in enumerate(zip(crops, results, strict=True))
        for kind in (
            Kind(f"raw {i}", 5, RUN, {}, crop, 200, result),
            Kind(f"json {i}", 4, RUN, JSON, json.dumps({"image": list(crop)}).encode(), 200, result),
        )
    ]
    return [
        *valid,
        Kind("nothing", 5, RUN, {}, b"", 400, 3003),
        Kind("no image", 10, RUN, {}, bytes(5000), 400, 3010),
        Kind("cut short", 5, RUN, {}, crops[0][:3000], 400, 3010),
        Kind("bomb", 5, RUN, {}, BOMB, 413, 3006),
        Kind("not json", 10, RUN, JSON, b"{", 400, 5006),
        Kind("not bytes", 10, RUN, JSON, json.dumps({"image": [*crops[0], 256]}).encode(), 400, 5006),
        Kind("no base64", 5, RUN, JSON, b'{"image": "?"}', 400, 5004),
        Kind("no model", 5, f"{RUN}x", {}, crops[0], 400, 5007),
        Kind("no route", 5, "/client/v4/x", {}, b"x", 400, 7000),
        Kind("too large", 1, RUN, {}, bytes(33 << 20), 413, 3006),
    ]


def sent(connection: http.client.HTTPConnection, kind: Kind, killed: set[int]) -> tuple[str, str]:
    """What became of a request, of `ENDS`, and a word on it.

    Args:
        connection: of one client; opened again where it is closed.
        kind: the request.
        killed: the clients' ports of connections whose worker the test has killed.
    """
    port = 0
    try:
        port = open_port(connection, killed)
        connection.request(kind.method, kind.path, kind.body, kind.headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return KILLED if port in killed else LOST, f"{kind.name}: {type(error).__name__}"
    if response.status in REFUSALS:
        return REFUSED, f"{kind.name}: {response.status}"
    try:
        content = kind.content(body)
    except (ValueError, LookupError, TypeError):
        content = body
    as_expected = (response.status, content) == (kind.status, kind.expected)
    return RIGHT if as_expected else WRONG, f"{kind.name}: {response.status} {str(content)[:80]}"


def open_port(connection: http.client.HTTPConnection, killed: set[int]) -> int:
    """The client's port of a connection, opened if need be; a new connection is not one of `killed`."""
    if connection.sock is None:
        connection.connect()
        killed.discard(connection.sock.getsockname()[1])  # that was an older connection's
    return int(connection.sock.getsockname()[1])


def mixed(kinds: Sequence[Kind]) -> Iterator[Kind]:
    """Requests without end, the same ones each time."""
    random_kinds, shares = random.Random(1), [kind.share for kind in kinds]
    while True:
        yield random_kinds.choices(kinds, shares)[0]


def load(
    address: str, pid: int, requests: Iterator[Kind], concurrency: int, killed: set[int] | None = None
) -> dict[str, Any]:
    """What became of the requests, sent by so many clients at once; health, and the memory of the process `pid`.

    Args:
        killed: see `sent`; None where the test kills no worker.
    """
    by_kind, ended = Counter[str](), {end: Counter[str]() for end in ENDS}
    memory, health = [], []
    lock, done = threading.Lock(), threading.Event()

    def client() -> None:
        connection = http.client.HTTPConnection(address, timeout=900)
        while True:
            with lock:
                kind = next(requests, None)
            if kind is None:
                return connection.close()
            end, detail = sent(connection, kind, set() if killed is None else killed)
            with lock:
                by_kind[kind.name] += 1
                ended[end][detail] += 1

    def watch() -> None:
        while not done.wait(SAMPLE_S):
            with contextlib.suppress(OSError, http.client.HTTPException):  # the worker that answers may be killed
                memory.append(resident_mb(pid))
                health.append(health_ms(address))

    threads = [threading.Thread(target=client) for _ in range(concurrency)]
    watcher = threading.Thread(target=watch)
    started = time.perf_counter()
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return {
        "requests": by_kind.total(),
        "concurrency": concurrency,
        "seconds": round(seconds, 1),
        "by_kind": dict(sorted(by_kind.items())),
        **{end: dict(ended[end]) for end in ENDS[1:]},
        **memory_by_quarter(memory),
        **percentiles(health),
    }


def memory_by_quarter(memory_mb: Sequence[float]) -> dict[str, Any]:
    """The medians of a run's quarters, and the last relative to the first; without the run's first eighth."""
    eighth = len(memory_mb) / 8
    parts = [memory_mb[int(first * eighth) : int(last * eighth)] or memory_mb for first, last in QUARTERS]
    medians = [round(statistics.median(part), 1) for part in parts]
    return {"memory_mb_by_quarter": medians, "memory_ratio": round(medians[-1] / medians[0], 3)}


def percentiles(health: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum of the milliseconds of health checks."""
    return {
        "health_ms_p50": round(statistics.median(health), 1),
        "health_ms_p99": round(sorted(health)[int((len(health) - 1) * 0.99)], 1),
        "health_ms_max": round(max(health), 1),
    }
