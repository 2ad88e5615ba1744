"""Size, start and memory of container images that were built from examples/Containerfile.

    podman build --target numpy -f examples/Containerfile -t detr-onnx-numpy .
    podman build --format docker -f examples/Containerfile -t detr-onnx .
    python -m benchmarks.containers [--base NAME] [--builder "buildah …"]

The images run in buildah's chroot isolation, which needs neither a container runtime nor control groups.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import benchmark_parser, run_main, write_results
from detr_onnx.bench.setting import setting

SMALL_AT_MOST_MB = 120
BASE = "docker.io/library/python:3.12-slim"
START = """
import json, resource, time
start = time.perf_counter()
from detr_onnx import Detector
from detr_onnx.models.open import demo_image
detector = Detector("demo")
found = len(detector(demo_image()))
seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"engine": detector.engine, "detections": found, "seconds": seconds, "peak_mb": peak * 1024 / 1e6}))
"""


@dataclass(frozen=True)
class Image:
    """An image, what it is, and its Python."""

    name: str
    title: str
    python: str


IMAGES = (
    Image("detr-onnx-numpy", "`--target numpy`: the command with numpy alone, no shell", "/usr/bin/python3"),
    Image("detr-onnx", "the server, with ONNX Runtime and export", "/opt/detr-onnx/bin/python"),
)


def size_mb(directory: Path) -> float:
    """Megabytes of the files below a directory, hard links once."""
    files = {(s.st_dev, s.st_ino): s.st_size for p in directory.rglob("*") if (s := p.lstat()) and p.is_file()}
    return sum(files.values()) / 1e6


def measured(builder: list[str], image: Image, runs: int) -> dict[str, Any]:
    """A row of the results: the image's size, and medians of fresh processes that detect in the demo scene."""

    def ask(*arguments: str) -> str:
        return subprocess.run([*builder, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    container = ask("from", f"localhost/{image.name}")
    try:
        size = size_mb(Path(ask("mount", container)))
        command = ("run", "--isolation", "chroot", container, "--", image.python, "-c", START)
        starts = [json.loads(ask(*command)) for _ in range(runs)]
    finally:
        ask("rm", container)
    return {
        "key": image.name,
        "title": image.title,
        "mb": round(size, 1),
        "engine": starts[0]["engine"],
        "detections": starts[0]["detections"],
        "start_s": round(statistics.median(s["seconds"] for s in starts), 2),
        "peak_mb": round(statistics.median(s["peak_mb"] for s in starts)),
    }


def main() -> None:
    """Measures the images and writes the results."""
    parser = benchmark_parser("benchmarks.containers", "Container images.", results="containers", runs=5)
    parser.add_argument("--builder", default="buildah", metavar="COMMAND", help="buildah with its global options")
    parser.add_argument("--base", default=BASE, help="what the images were built on (default: %(default)s)")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("mounting an image needs root; or run it in buildah unshare")
    head = setting("python -m benchmarks.containers", sys.argv[1:])
    rows = [measured(shlex.split(arguments.builder), image, arguments.runs) for image in IMAGES]
    results = {**head, "base": arguments.base, "runs": arguments.runs, "at_most_mb": SMALL_AT_MOST_MB, "rows": rows}
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
