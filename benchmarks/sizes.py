"""Memory of a process that sees image after image, each of another size: does it grow?

    python -m benchmarks.sizes [--engines onnxruntime,openvino,numpy] [--images 300] [--size 800]

An engine that keeps something for every shape it has met does. Each engine runs in a process of its own, which is asked
for its resident set after 10 images and after each further tenth of all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.memory import subject_place
from benchmarks.setting import environment
from detr_onnx.bench.setting import setting

RESULTS = Path(__file__).parent / "results" / "sizes.json"
ENGINES = "onnxruntime,openvino,numpy"
FIRST, IMAGES, SIZE = 10, 300, 800
AT_MOST = 1.15  # of what it was after the first ten


def watch(engine: str, model: str, threads: int, images: int, size: int) -> dict[str, Any]:
    """Resident megabytes after so many images; this runs in the engine's own process."""
    import numpy as np

    from detr_onnx import Detector

    own_threads = None if engine == "numpy" else threads
    detector = Detector(model, engine=engine, threads=own_threads, shortest_edge=size)
    rng = np.random.default_rng(1)
    grown = {}
    for number, (height, width) in enumerate(different_sizes(images), start=1):
        detector(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        if number == FIRST or number % max(1, images // 10) == 0:
            grown[number] = round(resident_mb(), 1)
    return {"title": detector.runtime, "resident_mb": grown}


def different_sizes(count: int) -> list[tuple[int, int]]:
    """`count` heights and widths whose aspects, from 1:2 to 2:1, all differ, in an order that jumps about."""
    sides = [(400 + i, 800 - i) for i in range(count)]
    return [sides[(i * 7919) % count] for i in range(count)]


def resident_mb() -> float:
    """The resident set of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Measures every engine and writes the results; as a child, one engine, on stdout."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description="Memory over many sizes.")
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="where what is measured is kept")
    parser.add_argument("--engines", default=ENGINES, metavar="A,B")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--size", type=int, default=SIZE, help=f"short side in the network (default: {SIZE})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--child", nargs=2, metavar=("ENGINE", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        engine, model = arguments.child
        print(json.dumps(watch(engine, model, arguments.threads, arguments.images, arguments.size)))
        return
    place = subject_place(arguments.work, None)
    rows = []
    for engine in arguments.engines.split(","):
        command = [sys.executable, "-m", "benchmarks.sizes", *sys.argv[1:], "--child", engine, place["model"]]
        surroundings = environment(arguments.work, arguments.threads)
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=surroundings)
        found = json.loads(done.stdout)
        resident = list(found["resident_mb"].values())
        rows.append({"key": engine, **found, "growth": round(resident[-1] / resident[0], 3), "at_most": AT_MOST})
        print(rows[-1], file=sys.stderr)
    results = {
        **setting("python -m benchmarks.sizes", sys.argv[1:]),
        "model": place["title"],
        "threads": arguments.threads,
        "images": arguments.images,
        "size": arguments.size,
        "rows": rows,
    }
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
