"""Compares our int8 export with NNCF's on the same images: time, size, and agreement with fp32 on other images.

    python3 -m venv .venv-nncf && .venv-nncf/bin/pip install nncf openvino onnx onnxruntime pillow
    python -m export.compare_int8 --python-nncf .venv-nncf/bin/python [--held-out DIR] [--photographs DIR]

The demo model is calibrated with scenes and compared on held-out ones. With `--photographs`, a model of full size with
seeded weights is quantized with those, for the time and the size alone: what it detects means nothing. Each quantizer
is a process of its own, one after the other. All graphs are without a mask, and each runs in the runtime whose graph it
is, with the rest in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.command import benchmark_parser, run_main, write_results
from benchmarks.setting import environment
from benchmarks.subject import subject
from detr_onnx.bench.baselines.protocol import versions_of
from detr_onnx.bench.setting import setting
from detr_onnx.detections import Detections, detections_of
from detr_onnx.engines.onnxruntime import named_outputs
from detr_onnx.errors import DatasetError
from detr_onnx.evaluation.agreement import agreement
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.preprocess import batch
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.json_input import read_object
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import demo_directory
from export.nncf_quantize import image_files

SCORE = 0.5
PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}
QUANTIZERS = {
    "ours": ("ours", "ours.onnx"),
    "nncf-onnx": ("NNCF, ONNX's graph", "nncf.onnx"),
    "nncf-openvino": ("NNCF, OpenVINO's graph", "nncf.xml"),
}
OUR_VERSIONS = versions_of("onnx", "onnxruntime", "numpy")
RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino"}

Network = Callable[[Any], tuple[Any, Any]]


def quantized(model: Path, images: Path, work: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each quantizer: its time and its file."""
    work.mkdir(parents=True, exist_ok=True)
    variables, fp32 = environment(arguments.work, arguments.threads), work / "fp32.onnx"
    export = [sys.executable, "-m", "detr_onnx", "export", str(model), "--no-mask", "-o"]
    subprocess.run([*export, str(fp32)], check=True, env=variables)
    rows = []
    for key, (title, name) in QUANTIZERS.items():
        theirs = [arguments.python_nncf, "-m", "export.nncf_quantize", str(fp32), "--images", str(images), "-o"]
        ours = [*export, str(work / name), "--precision", "int8", "--force", "--calibrate", str(images)]
        times, versions = timed(ours if key == "ours" else [*theirs, str(work / name)], variables)
        row = {"key": key, "title": title, **times, "mb": megabytes(work / name), "versions": versions}
        rows.append({**row, "images": len(image_files(images))})
    return rows


def timed(command: Sequence[str], variables: Mapping[str, str]) -> tuple[dict[str, float], dict[str, str]]:
    """Runs a process: seconds on the clock and of all processors, which other programs disturb less; versions."""
    start, before = time.perf_counter(), os.times()
    ended = subprocess.run(command, check=True, env=variables, stdout=subprocess.PIPE, text=True)
    seconds, after = time.perf_counter() - start, os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    versions: dict[str, str] = json.loads(ended.stdout)["versions"] if ended.stdout else OUR_VERSIONS
    return {"seconds": round(seconds, 1), "processor_seconds": round(spent, 1)}, versions


def megabytes(file: Path) -> float:
    """Of a file; of an .xml file with the weights beside it."""
    files = [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]
    return round(sum(one.stat().st_size for one in files) / 1e6, 1)


def network(file: Path) -> Network:
    """A function from pixels to logits and boxes."""
    if file.suffix == ".xml":
        return openvino_network(file)
    run = named_outputs(file)

    def outputs(pixels: Any) -> tuple[Any, Any]:
        found = run({"pixel_values": pixels}, ["logits", "pred_boxes"])
        return found["logits"], found["pred_boxes"]

    return outputs


def openvino_network(file: Path) -> Network:
    """The same in OpenVINO."""
    import openvino

    compiled = openvino.Core().compile_model(file, "CPU", PRECISION)

    def outputs(pixels: Any) -> tuple[Any, Any]:
        found = compiled({"pixel_values": pixels})
        return found["logits"], found["pred_boxes"]

    return outputs


def detections(
    file: Path, images: Sequence[Path], preprocessing: Preprocessing, labels: Sequence[str]
) -> Iterator[Detections]:
    """Of each image, above `SCORE`."""
    run = network(file)
    for image in images:
        pixels, _, sizes_hw = batch([read_rgb(image)], preprocessing)
        yield detections_of(*run(pixels), sizes_hw, labels, SCORE)[0]


def compared(rows: list[dict[str, Any]], model: Path, work: Path, images: Sequence[Path]) -> list[dict[str, Any]]:
    """The rows with the agreement on these images."""
    checkpoint, preprocessing = read_model(model)
    expected = list(detections(work / "fp32.onnx", images, preprocessing, checkpoint.config.labels))
    agreed = []
    for row in rows:
        file = work / QUANTIZERS[row["key"]][1]
        found = detections(file, images, preprocessing, checkpoint.config.labels)
        figures = asdict(agreement(zip(expected, found, strict=True)))
        agreed.append({**row, "runtime": RUNTIMES[file.suffix], "agreement": figures})
    return agreed


def main() -> None:
    """Quantizes, compares and writes the results."""
    parser = benchmark_parser(
        "export.compare_int8", "Compares int8 exports.", "--work", "--threads", results="compare-int8"
    )
    parser.add_argument("--python-nncf", required=True, metavar="PYTHON", help="an interpreter with nncf")
    for name, default in (("calibrate", "build/calibration/images"), ("held-out", "build/held-out/images")):
        parser.add_argument(f"--{name}", type=Path, default=Path(default), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="to calibrate the model of full size with")
    parser.add_argument(
        "--only", choices=("demo", "full-size"), help="measure one part, and keep the file's other part"
    )
    arguments = parser.parse_args()
    if arguments.only == "full-size" and arguments.photographs is None:
        parser.error("--only full-size needs --photographs")
    earlier = read_object(arguments.json, error=DatasetError) if arguments.only else {}
    results = setting("python -m export.compare_int8", sys.argv[1:])
    results |= demo_part(arguments) if arguments.only != "full-size" else {}
    results |= full_size_part(arguments) if arguments.photographs and arguments.only != "demo" else {}
    if earlier:
        results = {**earlier, **results, "command": f"{earlier.get('command', '')}; {results['command']}"}
    write_results(arguments.json, results)


def demo_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """The demo model, with its agreement on the held-out images."""
    demo, work, held_out = demo_directory(), arguments.work / "compare-int8" / "demo", image_files(arguments.held_out)
    rows = quantized(demo, arguments.calibrate, work, arguments)
    head = {"threads": arguments.threads, "held_out": len(held_out), "score": SCORE}
    return {**head, "demo": compared(rows, demo, work, held_out)}


def full_size_part(arguments: argparse.Namespace) -> dict[str, Any]:
    """The model of full size."""
    seeded = subject(arguments.work)
    rows = quantized(seeded.model, arguments.photographs, arguments.work / "compare-int8" / "seeded", arguments)
    return {"full_size_model": seeded.title, "full_size": rows}


if __name__ == "__main__":
    run_main(main)
