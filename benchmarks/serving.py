"""The server under load: `python -m benchmarks.serving` writes results/serving.json.

Requests of every kind, good and bad, from many clients at once: whether each is answered as it should be, whether the
server's memory grows, and how fast its health answers meanwhile. The same under siege by rough clients. And, while all
is quiet, what a request costs beside `Detector` in process.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from benchmarks.load import BOMB, IMAGE, JSON, RUN, health_ms, jpeg, kinds, load
from benchmarks.siege import siege
from detr_onnx import Detector
from detr_onnx.bench.setting import setting
from detr_onnx.server.run import raise_file_limit

HERE = Path(__file__).parent
BARS = {"memory": 1.05, "raw_ms": 5.0, "json_ms": 25.0, "health_ms": 100.0}
OVERHEAD_BYTES = 100_000


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


def overhead(address: str, detector: Detector, rounds: int) -> dict[str, Any]:
    """Milliseconds of a request of 100 kB, raw and in JSON, beside the same image in process, in turns."""
    scene = Image.open(IMAGE).convert("RGB").resize((1024, 768))
    image = min((jpeg(scene, quality) for quality in range(60, 100)), key=lambda p: abs(len(p) - OVERHEAD_BYTES))
    body = json.dumps({"image": list(image)}).encode()
    connection = http.client.HTTPConnection(address, timeout=600)

    def in_process() -> None:
        detector(image, 0.1)

    def over_http(body: bytes, headers: dict[str, str]) -> None:
        connection.request("POST", RUN, body, headers)
        connection.getresponse().read()

    ways = {"in_process": in_process, "raw": lambda: over_http(image, {}), "json": lambda: over_http(body, JSON)}
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
    return {"bytes": len(image), "rounds": rounds, "in_process_ms": round(alone, 1), **extra}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description="The server under load.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=40, help="of the overhead")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "serving.json", metavar="FILE")
    arguments = parser.parse_args()
    result = setting("python -m benchmarks.serving", sys.argv[1:])
    raise_file_limit()
    detector = Detector("demo")
    with serving() as (pid, address):
        result["overhead"] = overhead(address, detector, arguments.rounds)
        result["load"] = load(address, pid, kinds(detector), arguments.requests, arguments.concurrency)
        result["siege"] = siege(address, pid, BOMB)
        result["alive_after"] = health_ms(address) > 0
    result["bars"] = BARS
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: result[name] for name in ("overhead", "load", "siege")}, indent=1))
    return 1 if result["load"]["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
