"""Requests of every kind, valid and invalid, from many clients at once, each with the response that is expected."""

from __future__ import annotations

import http.client
import io
import json
import random
import statistics
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from detr_onnx import Detector

IMAGE = Path(__file__).parent.parent / "examples" / "demo-scene.jpg"
RUN = "/client/v4/accounts/0123/ai/run/@cf/facebook/detr-resnet-50"
JSON = {"content-type": "application/json"}

HEADER = b"IHDR\0\0\xff\xff\0\0\xff\xff\x08\x02\0\0\0"  # 65535 x 65535
BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\r" + HEADER + zlib.crc32(HEADER).to_bytes(4, "big") + b"\0\0\0\0IDAT"


@dataclass(frozen=True)
class Kind:
    """A request and its expected response.

    Attributes:
        name: its name in the results.
        share: its weight in the mix.
        path, headers, body: of the request.
        status: the expected status.
        expected: the expected result, or the error code.
    """

    name: str
    share: int
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    expected: Any


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """An image as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def kinds(detector: Detector) -> list[Kind]:
    """Valid and invalid requests; expected results are those of `detector`."""
    scene = Image.open(IMAGE).convert("RGB")
    crops = [jpeg(scene.crop((0, 0, 320 + 40 * i, 240 + 30 * i))) for i in range(4)]
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


def send(connection: http.client.HTTPConnection, kind: Kind) -> str | None:
    """What is wrong with the response, or None."""
    try:
        connection.request("POST", kind.path, kind.body, kind.headers)
        response = connection.getresponse()
        fields = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        return f"{kind.name}: {type(error).__name__}"
    content = fields["result"] if fields["success"] else fields["errors"][0]["code"]
    as_expected = (response.status, content) == (kind.status, kind.expected)
    return None if as_expected else f"{kind.name}: {response.status} {str(content)[:80]}"


def load(address: str, pid: int, kinds: list[Kind], count: int, concurrency: int) -> dict[str, Any]:
    """Sends `count` requests of mixed kinds; counts, wrong responses, memory and health."""
    requests = random.Random(1).choices(kinds, [kind.share for kind in kinds], k=count)
    numbers, wrong, memory, health = iter(range(count)), Counter[str](), [], []
    lock = threading.Lock()
    done = threading.Event()

    def client() -> None:
        connection = http.client.HTTPConnection(address, timeout=900)
        while True:
            with lock:
                number = next(numbers, None)
                memory.append(resident_mb(pid))
            if number is None:
                return connection.close()
            if error := send(connection, requests[number]):
                with lock:
                    wrong[error] += 1

    def watch_health() -> None:
        while not done.wait(0.25):
            health.append(health_ms(address))

    watcher, clients = (
        threading.Thread(target=watch_health),
        [threading.Thread(target=client) for _ in range(concurrency)],
    )
    started = time.perf_counter()
    for thread in (watcher, *clients):
        thread.start()
    for thread in clients:
        thread.join()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    quarter = count // 4
    first, last = (statistics.median(part) for part in (memory[quarter // 2 : quarter], memory[-quarter:]))
    return {
        "requests": count,
        "concurrency": concurrency,
        "seconds": round(seconds, 1),
        "by_kind": dict(sorted(Counter(kind.name for kind in requests).items())),
        "wrong": dict(wrong),
        "memory_mb_first_quarter": round(first, 1),
        "memory_mb_last_quarter": round(last, 1),
        "memory_ratio": round(last / first, 3),
        "health_ms_p50": round(statistics.median(health), 1),
        "health_ms_p99": round(sorted(health)[int(len(health) * 0.99) - 1], 1),
        "health_ms_max": round(max(health), 1),
    }


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in megabytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def health_ms(address: str) -> float:
    """Milliseconds of a request to /healthz on a new connection."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    connection.close()
    return (time.perf_counter() - started) * 1e3
