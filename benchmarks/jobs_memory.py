"""Resident memory of a job over a million names, with the decoder and the network stubbed.

    python -m benchmarks.jobs_memory [--names 1000000]

A list of names, a row for each, parts of a thousand rows; then the same job again, which reads all parts and has
nothing to do.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.command import benchmark_parser, run_main, whole_number, write_results
from detr_onnx import Detector
from detr_onnx import detector as detector_module
from detr_onnx.bench.setting import setting
from detr_onnx.engines import Engine
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.jobs import detect
from detr_onnx.jobs.inputs import Inputs
from detr_onnx.jobs.job import Job
from detr_onnx.jobs.parts import Tally
from detr_onnx.jobs.settings import JobSettings
from detr_onnx.models.open import OpenModel

NAMES = 1_000_000
FIRST = 10_000  # from here on memory has to be flat
FLAT_MB = 8.0  # what the allocator and SQLite's pages may still take
QUERIES, CLASSES = 3, ("cat", "dog", "N/A")


def resident_mb() -> float:
    """Resident memory of this process in megabytes."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # the peak, in bytes, on macOS


def stubbed_detector() -> Detector:
    """A detector that answers at once: one cat in every image."""

    def network(pixels: Any, mask: Any) -> tuple[Any, Any]:
        logits = np.tile(np.array([9, 0, 0, 1], np.float32), (len(pixels), QUERIES, 1))
        return logits, np.full((len(pixels), QUERIES, 4), 0.5, np.float32)

    preprocessing = Preprocessing(shortest_edge=8, longest_edge=16)
    opened = OpenModel(Engine("stub 1, fp32", network), CLASSES, preprocessing, "stub")
    detector_module.open_model = lambda *arguments, **options: opened  # type: ignore[assignment]
    image = Image.new("RGB", (8, 8))
    detect.read_rgb = lambda source, **options: image  # type: ignore[assignment]
    return Detector("stub")


def measure(names: int, directory: Path) -> dict[str, Any]:
    """Resident memory after so many rows, of the job and of the same job again."""
    listed = directory / "names.txt"
    with listed.open("w") as file:
        file.writelines(f"/data/photographs/{number:012d}.jpg\n" for number in range(names))
    detector = stubbed_detector()
    settings = JobSettings.of(detector, "stub", 0.5, None, "ndjson", 1)
    job = Job(directory / "out", Inputs([f"@{listed}"]), settings)
    marks = sorted({FIRST, *(names * part // 10 for part in range(1, 11))})
    resident: dict[str, float] = {}

    def show(tally: Tally) -> None:
        if tally.rows in marks:
            resident[str(tally.rows)] = round(resident_mb(), 1)

    begun = time.perf_counter()
    tally = job.run(detector, show=show)
    seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    again = job.run(detector)
    assert tally == again == Tally(names, 0)
    return {
        "names": names,
        "resident_mb": resident,
        "growth_mb": round(max(resident.values()) - resident[str(FIRST)], 1),
        "at_most_mb": FLAT_MB,
        "rows_per_s": round(names / seconds),
        "again": {"resident_mb": round(resident_mb(), 1), "seconds": round(time.perf_counter() - begun, 1)},
    }


def main() -> None:
    """Measures and writes the results."""
    parser = benchmark_parser("benchmarks.jobs_memory", "Memory of a job over many names.", results="jobs-memory")
    parser.add_argument(
        "--names", type=whole_number(FIRST), default=NAMES, metavar="N", help="names (default: %(default)s)"
    )
    arguments = parser.parse_args()
    head = setting("python -m benchmarks.jobs_memory", sys.argv[1:])
    with tempfile.TemporaryDirectory() as directory:
        results = measure(arguments.names, Path(directory))
    write_results(arguments.json, {**head, **results})


if __name__ == "__main__":
    run_main(main)
