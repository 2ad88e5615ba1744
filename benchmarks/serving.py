"""The server under load: `python -m benchmarks.serving` writes results/serving.json.

Requests of every kind, good and bad, from many clients at once: whether each is answered as it should be, whether the
server's memory grows, and how fast its health answers meanwhile. Then, on a quiet server, what a request costs beside
`Detector` in process.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import random
import statistics
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from benchmarks.setting import setting
from detr_onnx import Detector

HERE = Path(__file__).parent
PICTURE = HERE.parent / "examples" / "demo-scene.jpg"
RUN = "/client/v4/accounts/0123/ai/run/@cf/facebook/detr-resnet-50"
JSON = {"content-type": "application/json"}
BARS = {"memory": 1.05, "raw_ms": 5.0, "json_ms": 25.0, "health_ms": 100.0}
OVERHEAD_BYTES = 100_000


@dataclass(frozen=True)
class Kind:
    """A request and the answer that is right: status, and code or result."""

    name: str
    share: int
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    right: Any


def jpeg(picture: Image.Image, quality: int = 85) -> bytes:
    """An encoded picture."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def kinds(detector: Detector) -> list[Kind]:
    """Good and bad requests, and what is right by `detector`."""
    scene = Image.open(PICTURE).convert("RGB")
    crops = [jpeg(scene.crop((0, 0, 320 + 40 * i, 240 + 30 * i))) for i in range(4)]
    found = [detector(crop, 0.1).to_api() for crop in crops]
    good = [
        kind
        for i, (crop, result) in enumerate(zip(crops, found, strict=True))
        for kind in (
            Kind(f"raw {i}", 5, RUN, {}, crop, 200, result),
            Kind(f"json {i}", 4, RUN, JSON, json.dumps({"image": list(crop)}).encode(), 200, result),
        )
    ]
    header = b"IHDR\0\0\xff\xff\0\0\xff\xff\x08\x02\0\0\0"  # 65535 x 65535
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + zlib.crc32(header).to_bytes(4, "big") + b"\0\0\0\0IDAT"
    return [
        *good,
        Kind("nothing", 5, RUN, {}, b"", 400, 3003),
        Kind("no picture", 10, RUN, {}, bytes(5000), 400, 3010),
        Kind("cut short", 5, RUN, {}, crops[0][:3000], 400, 3010),
        Kind("bomb", 5, RUN, {}, bomb, 413, 3006),
        Kind("not json", 10, RUN, JSON, b"{", 400, 5006),
        Kind("not bytes", 10, RUN, JSON, json.dumps({"image": [*crops[0], 256]}).encode(), 400, 5006),
        Kind("no base64", 5, RUN, JSON, b'{"image": "?"}', 400, 5004),
        Kind("no model", 5, f"{RUN}x", {}, crops[0], 400, 5007),
        Kind("no route", 5, "/client/v4/x", {}, b"x", 400, 7000),
        Kind("too large", 1, RUN, {}, bytes(33 << 20), 413, 3006),
    ]


@contextlib.contextmanager
def serving() -> Iterator[tuple[int, str]]:
    """A server as a user starts it: its process and its address."""
    command = [
        sys.executable,
        "-m",
        "detr_onnx",
        "serve",
        "-m",
        "demo",
        "--port",
        "0",
        "--no-access-log",
        "--timeout",
        "600",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process.pid, urlsplit(json.loads(process.stderr.readline())["url"]).netloc
    finally:
        process.terminate()
        process.wait()


def ask(connection: http.client.HTTPConnection, kind: Kind) -> str | None:
    """What is wrong with the answer, or None."""
    try:
        connection.request("POST", kind.path, kind.body, kind.headers)
        answer = connection.getresponse()
        fields = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        return f"{kind.name}: {type(error).__name__}"
    said = fields["result"] if fields["success"] else fields["errors"][0]["code"]
    return (
        None if (answer.status, said) == (kind.status, kind.right) else f"{kind.name}: {answer.status} {str(said)[:80]}"
    )


def load(address: str, pid: int, some: list[Kind], count: int, concurrency: int) -> dict[str, Any]:
    """The mixed load."""
    asked = random.Random(1).choices(some, [kind.share for kind in some], k=count)
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
            if trouble := ask(connection, asked[number]):
                with lock:
                    wrong[trouble] += 1

    def look() -> None:
        while not done.wait(0.25):
            health.append(health_ms(address))

    watcher, clients = threading.Thread(target=look), [threading.Thread(target=client) for _ in range(concurrency)]
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
        "by_kind": dict(sorted(Counter(kind.name for kind in asked).items())),
        "wrong": dict(wrong),
        "memory_mb_first_quarter": round(first, 1),
        "memory_mb_last_quarter": round(last, 1),
        "memory_ratio": round(last / first, 3),
        "health_ms_p50": round(statistics.median(health), 1),
        "health_ms_p99": round(sorted(health)[int(len(health) * 0.99) - 1], 1),
        "health_ms_max": round(max(health), 1),
    }


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def health_ms(address: str) -> float:
    """How long /healthz takes, with a connection of its own."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    connection.close()
    return (time.perf_counter() - started) * 1e3


def overhead(address: str, detector: Detector, rounds: int) -> dict[str, Any]:
    """Milliseconds of a request of 100 kB, raw and in JSON, beside the same picture in process, in turns."""
    scene = Image.open(PICTURE).convert("RGB").resize((1024, 768))
    picture = min((jpeg(scene, quality) for quality in range(60, 100)), key=lambda p: abs(len(p) - OVERHEAD_BYTES))
    body = json.dumps({"image": list(picture)}).encode()
    connection = http.client.HTTPConnection(address, timeout=600)

    def in_process() -> None:
        detector(picture, 0.1)

    def over_http(body: bytes, headers: dict[str, str]) -> None:
        connection.request("POST", RUN, body, headers)
        connection.getresponse().read()

    ways = {"in_process": in_process, "raw": lambda: over_http(picture, {}), "json": lambda: over_http(body, JSON)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 3):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if number >= 3:
                times[name].append((time.perf_counter() - started) * 1e3)
            time.sleep(0.02)  # thread pools of the other process spin down
    connection.close()
    alone = statistics.median(times["in_process"])
    extra = {
        f"{name}_ms": round(statistics.median(a - b for a, b in zip(times[name], times["in_process"], strict=True)), 1)
        for name in ("raw", "json")
    }
    return {"bytes": len(picture), "rounds": rounds, "in_process_ms": round(alone, 1), **extra}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description="The server under load.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=40, help="of the overhead")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "serving.json", metavar="FILE")
    arguments = parser.parse_args()
    result = setting("benchmarks.serving", sys.argv[1:])
    detector = Detector("demo")
    with serving() as (pid, address):
        result["overhead"] = overhead(address, detector, arguments.rounds)
        result["load"] = load(address, pid, kinds(detector), arguments.requests, arguments.concurrency)
        result["alive_after"] = health_ms(address) > 0
    result["bars"] = BARS
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: result[name] for name in ("overhead", "load")}, indent=1))
    return 1 if result["load"]["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
