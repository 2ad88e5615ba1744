"""Parts of the network in bfloat16 in OpenVINO: time at full size, agreement with float32 on the demo model.

    python weights/training/scenes.py --seed 2 --count 500 --out build/held-out
    python -m benchmarks.regions --optimum build/optimum [--data build/held-out] [--runs 10]

Each row is one more part, then other choices. Times are of the network alone, in turns with optimum's export of any
size, which OpenVINO computes all in bfloat16 by default.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import agreement_figures, coco_figures, exported, with_all_queries
from benchmarks.command import absent, benchmark_parser, run_main, write_results
from benchmarks.latency import optimum_files
from benchmarks.setting import show
from benchmarks.subject import SEED, subject
from detr_onnx import Detector
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures, ratio
from detr_onnx.detections import Detections
from detr_onnx.engines.bfloat16 import BF16_MIXED, DECODER, ENCODER, PROJECTIONS, STAGES, STEM, lower
from detr_onnx.engines.openvino import COMPUTED_IN, openvino_engine
from detr_onnx.engines.openvino_package import import_openvino
from detr_onnx.evaluation.coco import Annotations, read_annotations
from detr_onnx.image.processor_config import Preprocessing

Files = dict[str, tuple[Path, str | None]]
"""Title -> file, and the precision to open it in."""

WARM_UP, PAUSE_S = 2, 0.05
STOCK = "optimum's export"
CONVOLUTIONS = (STAGES, PROJECTIONS)
FEED_FORWARD = r"/encoder/layers\.\d+/(fc1/|fc2/MatMul)"
KEYS_AND_VALUES = r"/decoder/layers\.\d+/encoder_attn/[kv]_proj/"
SUMS = r"/encoder/layers\.\d+/(Add|self_attn/out_proj|fc2|\w+_layer_norm)"
ATTENTION = r"/decoder/layers\.\d+/(encoder|self)_attn/"
REGIONS: dict[str, tuple[str, ...]] = {
    "stages and projection (`bf16-backbone`)": CONVOLUTIONS,
    "and the encoder's feed-forward layers": (*CONVOLUTIONS, FEED_FORWARD),
    "and the encoder's attention": (*CONVOLUTIONS, ENCODER),
    "and the decoder's keys and values": (*CONVOLUTIONS, ENCODER, KEYS_AND_VALUES),
    "and the decoder's feed-forward layers": (*CONVOLUTIONS, ENCODER, DECODER),
    "and the stem, from levels (`bf16-mixed`)": (*CONVOLUTIONS, ENCODER, DECODER, STEM),
    "and the encoder's sums": (*CONVOLUTIONS, ENCODER, DECODER, STEM, SUMS),
    "`bf16-mixed` and the decoder's attention": (*CONVOLUTIONS, ENCODER, DECODER, STEM, ATTENTION),
}
"""Title -> patterns of node names."""


def write_lowered(graph: Path, patterns: tuple[str, ...], file: Path) -> Path:
    """The graph in OpenVINO's format, with the nodes of the patterns in bfloat16."""
    openvino = import_openvino()
    model = openvino.Core().read_model(graph)
    lower(model, re.compile("|".join(patterns)), Preprocessing())  # of the demo model and of DETR-R50: ImageNet's
    model.set_rt_info(BF16_MIXED, ["framework", COMPUTED_IN])  # so that it is opened as it is
    openvino.serialize(model, file, file.with_suffix(".bin"))
    return file


def network_times(files: Files, pixels: Path, runs: int, threads: int) -> dict[str, list[float]]:
    """Seconds of one image, by title, in turns."""
    values = np.load(pixels)
    engines = {title: openvino_engine(file, precision, threads) for title, (file, precision) in files.items()}
    seconds: dict[str, list[float]] = {title: [] for title in engines}
    for number in range(1 - WARM_UP, runs + 1):
        show(number, "all")
        for title, engine in engines.items():
            start = time.perf_counter()
            engine.network(values, None)
            seconds[title] += [time.perf_counter() - start] if number > 0 else []
            time.sleep(PAUSE_S)
    return seconds


def found_by(file: Path, precision: str | None, images: dict[int, Path]) -> dict[int, Detections]:
    """All detections of the demo model in a file, by image."""
    detect = with_all_queries(Detector(file, engine="openvino", precision=precision))
    return {image_id: detect(image) for image_id, image in images.items()}


def rows(
    files: Files, seconds: dict[str, list[float]], truth: Annotations, images: dict[int, Path]
) -> Iterator[dict[str, Any]]:
    """A row for each file of the demo model: agreement and AP, beside the time of the full size."""
    exact: dict[int, Detections] = {}
    for title, (file, precision) in files.items():
        show(0, title)
        found = found_by(file, precision, images)
        exact = exact or found  # float32 comes first
        yield {
            "title": title,
            "network_ms": figures(seconds[title], 1000, digits=1),
            "ratio": ratio(seconds[title], seconds[STOCK]) if STOCK in seconds else None,
            **agreement_figures(found, exact),
            "AP": coco_figures(found, truth)["AP"],
        }


def files_of(graph: Path, work: Path) -> Files:
    """The graph in float32, lowered by each region, and all in bfloat16."""
    lowered: Files = {
        title: (write_lowered(graph, patterns, work / f"{graph.stem}-{number}.xml"), None)
        for number, (title, patterns) in enumerate(REGIONS.items())
    }
    return {"float32": (graph, "fp32"), **lowered, "everything (`bf16`)": (graph, "bf16")}


def main() -> None:
    """Measures and writes the results."""
    shared = ("--work", "--optimum", "--threads")
    parser = benchmark_parser("benchmarks.regions", "Parts in bfloat16.", *shared, results="regions", runs=10)
    help_text = "scenes of weights/training/scenes.py (default: %(default)s)"
    parser.add_argument("--data", type=Path, default=Path("build/held-out"), metavar="DIR", help=help_text)
    arguments = parser.parse_args()
    head = setting("python -m benchmarks.regions", sys.argv[1:])
    work = arguments.work / "regions"
    work.mkdir(parents=True, exist_ok=True)
    measured = subject(arguments.work, None)
    demo = files_of(exported("demo", work / "demo.onnx", ()), work)
    full = files_of(measured.graphs["plain"], work)
    if arguments.optimum:
        full[STOCK] = optimum_files(arguments.optimum)["dynamic"], "bf16"
    seconds = network_times(full, measured.pixels, arguments.runs, arguments.threads)
    truth = read_annotations(arguments.data / "annotations.json")
    images = truth.images(arguments.data / "images")
    results = {
        **head,
        "model": f"seeded DETR-R50 (seed {SEED}), and the demo model",
        "threads": arguments.threads,
        "runs": arguments.runs,
        "scenes": len(images),
        "stock_ms": figures(seconds[STOCK], 1000, digits=1) if STOCK in seconds else None,
        "rows": [*rows(demo, seconds, truth, images)],
        "left_out": absent({} if STOCK in seconds else {"optimum's export": "--optimum was not given"}),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
