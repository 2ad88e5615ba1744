"""The server under load.

    python -m benchmarks.serving [--requests 10000] [--concurrency 32] [--runs 40]

Many clients send requests of every kind, valid and invalid. The results say whether each response is right, whether
the server's memory grows, and how fast its health check answers meanwhile, also while misbehaving clients attack. Then,
without other load, the overhead of a request over `Detector` in the same process is measured.
"""

from __future__ import annotations

import http.client
import itertools
import json
import statistics
import sys
import time
from typing import Any

from PIL import Image

from benchmarks.command import benchmark_parser, positive, run_main, write_results
from benchmarks.load import IMAGE, JSON, LOST, RUN, WRONG, jpeg, kinds, load, mixed
from benchmarks.server import health_ms, serving
from benchmarks.siege import siege
from detr_onnx import Detector
from detr_onnx.bench.setting import setting
from detr_onnx.server.run import raise_file_limit

BARS = {"memory": 1.05, "raw_ms": 5.0, "json_ms": 25.0, "health_ms": 100.0}
OVERHEAD_BYTES = 100_000
RUNS, WARM_UP = 40, 3


def overhead(address: str, detector: Detector, runs: int) -> dict[str, Any]:
    """Milliseconds that a request of 100 kB, raw and as JSON, adds to the same image in this process; in turns."""
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
    for number in range(runs + WARM_UP):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if number >= WARM_UP:
                times[name].append((time.perf_counter() - started) * 1e3)
            time.sleep(0.02)  # until the thread pools of the other process sleep
    connection.close()
    alone = statistics.median(times["in_process"])
    extra = {
        f"{name}_ms": round(statistics.median(a - b for a, b in zip(times[name], times["in_process"], strict=True)), 1)
        for name in ("raw", "json")
    }
    return {"bytes": len(image), "rounds": runs, "in_process_ms": round(alone, 1), **extra}


def main() -> int:
    """Measures and writes the results; 1 if a response was wrong."""
    parser = benchmark_parser("benchmarks.serving", "The server under load.", results="serving", runs=RUNS)
    parser.add_argument("--requests", type=positive, default=10_000, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--concurrency", type=positive, default=32, metavar="N", help="clients (default: %(default)s)")
    arguments = parser.parse_args()
    results = setting("python -m benchmarks.serving", sys.argv[1:])
    raise_file_limit()
    detector = Detector("demo")
    with serving("-m", "demo", "--timeout", "600") as (process, address):
        requests = itertools.islice(mixed(kinds(detector)), arguments.requests)
        results["overhead"] = overhead(address, detector, arguments.runs)
        results["load"] = load(address, process.pid, requests, arguments.concurrency)
        results["siege"] = siege(address, process.pid)
        results["alive_after"] = health_ms(address) > 0
    results["bars"] = BARS
    write_results(arguments.json, results)
    return 1 if results["load"][WRONG] or results["load"][LOST] else 0


if __name__ == "__main__":
    run_main(main)
