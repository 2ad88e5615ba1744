"""What decoding ahead hides: `Detector.stream` beside the network alone, and decoding and preprocessing alone.

    python -m benchmarks.stream [--runs 10] [--images 10]

Each turn is so many photographs of one size. The hidden share is that part of the time of decoding and preprocessing
that a streamed image does not cost beside its network. Both use the same cores, so it cannot be all of it: the bar is
half. Of small photographs it is a small difference of large times, hence the large ones beside them.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import benchmark_parser, positive, run_main, write_results
from benchmarks.memory import subject_paths
from benchmarks.setting import CACHE, show
from detr_onnx import Detector
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import Figures, figures
from detr_onnx.verify.sample_photo import jpeg

RUNS, IMAGES = 10, 10
SIZES_WH = ((640, 480), (4000, 3000))
HIDDEN_AT_LEAST = 0.5
CONTENDERS = {
    "onnxruntime": ("ONNX Runtime", "onnxruntime", "fp32"),
    "openvino-bf16": ("OpenVINO, bf16", "openvino", "bf16"),
    "openvino-int8": ("OpenVINO, int8", "openvino", None),
}
"""Key -> title, engine and precision; int8 is a file of its own."""

INT8 = """
import sys
from pathlib import Path
from detr_onnx.exporter.calibrate import find_quant_params
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.metadata import read_model
model, image, file = map(Path, sys.argv[1:])
read = read_model(model)
ranges = find_quant_params(read, [image], "minmax")
write_onnx(file, *read, ExportOptions(precision="int8", quant_params=ranges))
"""


def int8_file(work: Path, model: str, photograph: str) -> Path:
    """The model in int8, calibrated with one photograph: speed does not depend on the ranges."""
    file = work / "stream-int8.onnx"
    if not file.exists():
        subprocess.run([sys.executable, "-c", INT8, model, photograph, str(file)], check=True)
    return file


def seconds_by_way(detector: Detector, paths: Sequence[Path]) -> dict[str, float]:
    """Seconds an image of each way; those of the parts are of the same images."""
    prepared = [detector.preprocess([path]) for path in paths]
    ways: dict[str, Callable[[], object]] = {
        "stream": lambda: list(detector.stream(paths)),
        "network": lambda: [detector.postprocess(*detector.network(p, m), sizes) for p, m, sizes in prepared],
        "prepare": lambda: [detector.preprocess([path]) for path in paths],
    }
    return {way: seconds(run) / len(paths) for way, run in ways.items()}


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def hidden(taken: Sequence[dict[str, float]]) -> Figures:
    """The share of the time of decoding and preprocessing that `stream` hides, round by round."""
    return figures([1 - (t["stream"] - t["network"]) / t["prepare"] for t in taken], digits=2)


def row(key: str, size: str, runs_on: str, taken: Sequence[dict[str, float]]) -> dict[str, Any]:
    """A contender's row of the results."""
    return {
        "key": key,
        "title": CONTENDERS[key][0],
        "size": size,
        "runs_on": runs_on,
        "image_ms": {way: figures([t[way] for t in taken], 1000, digits=1) for way in taken[0]},
        "hidden": hidden(taken),
        "at_least": HIDDEN_AT_LEAST,
    }


def measure(detectors: dict[str, Detector], photographs: dict[str, list[Path]], runs: int) -> list[dict[str, Any]]:
    """A row for each detector and size; they take turns, after a round that is not counted."""
    taken: dict[tuple[str, str], list[dict[str, float]]] = {
        (size, key): [] for size in photographs for key in detectors
    }
    for number in range(runs + 1):
        for (size, key), seconds_of in taken.items():
            show(number, f"{CONTENDERS[key][0]}, {size}")
            found = seconds_by_way(detectors[key], photographs[size][: 2 if number == 0 else None])
            seconds_of += [found] if number > 0 else []
    return [row(key, size, detectors[key].runtime, values) for (size, key), values in taken.items()]


def write_photographs(work: Path, count: int) -> dict[str, list[Path]]:
    """So many different photographs of each size."""
    written: dict[str, list[Path]] = {}
    for width, height in SIZES_WH:
        size = f"{width}x{height}"
        folder = work / f"photographs-{size}"
        folder.mkdir(parents=True, exist_ok=True)
        written[size] = [folder / f"{seed:04d}.jpg" for seed in range(count)]
        for seed, path in enumerate(written[size]):
            if not path.exists():
                path.write_bytes(jpeg(width, height, seed))
    return written


def main() -> None:
    """Measures and writes the results."""
    shared = ("--work", "--model", "--threads")
    parser = benchmark_parser("benchmarks.stream", "Decoding ahead.", *shared, results="stream", runs=RUNS)
    parser.add_argument(
        "--images", type=positive, default=IMAGES, metavar="N", help="in each turn (default: %(default)s)"
    )
    arguments = parser.parse_args()
    head = setting("python -m benchmarks.stream", sys.argv[1:])
    subject = subject_paths(arguments.work, arguments.model)
    photographs = write_photographs(arguments.work, arguments.images)
    opened = functools.partial(Detector, threads=arguments.threads, cache_dir=arguments.work / CACHE)
    models = {"openvino-int8": int8_file(arguments.work, subject["model"], subject["photograph"])}
    detectors = {
        key: opened(models.get(key, subject["model"]), engine=engine, precision=precision)
        for key, (_, engine, precision) in CONTENDERS.items()
    }
    results = {
        **head,
        "model": subject["title"],
        "threads": arguments.threads,
        "runs": arguments.runs,
        "images": arguments.images,
        "rows": measure(detectors, photographs, arguments.runs),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
