"""Memory of a process that sees many images, each of another size: does it grow?

    python -m benchmarks.sizes [--engines onnxruntime,openvino,numpy] [--images 300] [--size 800]

Each engine runs in its own process, whose resident memory is recorded after 10 images and after each further tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.command import benchmark_parser, child_json, listed, parse_arguments, positive, run_main, write_results
from benchmarks.memory import subject_paths
from benchmarks.setting import environment
from detr_onnx.bench.setting import setting

ENGINES = "onnxruntime,openvino,numpy"
FIRST, IMAGES, SIZE = 10, 300, 800
AT_MOST = 1.15  # relative to the memory after the first ten images


def watch(engine: str, model: str, threads: int, images: int, size: int) -> dict[str, Any]:
    """Resident megabytes by number of images; this runs in the engine's own process."""
    import numpy as np

    from detr_onnx import Detector

    own_threads = None if engine == "numpy" else threads
    detector = Detector(model, engine=engine, threads=own_threads, shortest_edge=size)
    rng = np.random.default_rng(1)
    resident = {}
    for number, (height, width) in enumerate(different_sizes(images), start=1):
        detector(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        if number == FIRST or number % max(1, images // 10) == 0:
            resident[number] = round(resident_mb(), 1)
    return {"title": detector.runtime, "resident_mb": resident}


def different_sizes(count: int) -> list[tuple[int, int]]:
    """`count` heights and widths with different aspect ratios from 1:2 to 2:1, in a mixed order."""
    sides = [(400 + i, 800 - i) for i in range(count)]
    return [sides[(i * 7919) % count] for i in range(count)]


def resident_mb() -> float:
    """The resident set of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Measures every engine and writes the results; as a child process, measures one and prints it."""
    parser = benchmark_parser("benchmarks.sizes", "Memory over many sizes.", "--work", "--threads", results="sizes")
    parser.add_argument(
        "--engines", type=listed(*ENGINES.split(",")), default=ENGINES, metavar="NAME,…", help="(default: %(default)s)"
    )
    parser.add_argument("--images", type=positive, default=IMAGES, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--size", type=positive, default=SIZE, help="short side in the network (default: %(default)s)")
    parser.add_argument("--child", nargs=2, metavar=("ENGINE", "MODEL"), help=argparse.SUPPRESS)
    arguments = parse_arguments(parser, "engines")
    if arguments.child:
        engine, model = arguments.child
        print(json.dumps(watch(engine, model, arguments.threads, arguments.images, arguments.size)))
        return
    subject = subject_paths(arguments.work, None)
    variables = environment(arguments.work, arguments.threads)
    rows = []
    for engine in arguments.engines:
        command = [sys.executable, "-m", "benchmarks.sizes", *sys.argv[1:], "--child", engine, subject["model"]]
        measured = child_json(command, variables)
        resident = list(measured["resident_mb"].values())
        rows.append({"key": engine, **measured, "growth": round(resident[-1] / resident[0], 3), "at_most": AT_MOST})
        print(rows[-1], file=sys.stderr)
    results = {
        **setting("python -m benchmarks.sizes", sys.argv[1:]),
        "model": subject["title"],
        "threads": arguments.threads,
        "images": arguments.images,
        "size": arguments.size,
        "rows": rows,
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
