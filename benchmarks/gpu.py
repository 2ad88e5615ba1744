"""Everything that this project wants to know about a GPU, in one command.

    pip install 'detr-onnx[export]' && pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'
    python -m benchmarks.gpu [--python-peers PYTHON] [--batches 1,8,32] [--providers CUDA,TensorRT] [--runs 15]

Agreement with float32 of the numpy engine on one photograph; latency of the network by batch, with inputs and outputs
in the memory of the device (IO binding), in turns with transformers in float16, eager and compiled (`--python-peers`
has torch with CUDA); images a second of `Detector.stream`. `--providers CPU` runs all of it without a GPU.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import absent, benchmark_parser, listed, parse_arguments, positive, run_main, write_results
from benchmarks.latency import EAGER
from benchmarks.setting import environment, show
from benchmarks.subject import SHAPE_HW, Subject, subject
from detr_onnx import Detector
from detr_onnx.bench.baselines.turns import NETWORK
from detr_onnx.bench.interleave import Contender, Entry, baseline_command, our_command, run_contenders
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures, ratio
from detr_onnx.engines.providers import parse_providers
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.metadata import read_model

BATCHES, PROVIDERS = "1,8,32", "CUDA,TensorRT"
STREAMED, WARM_UP = 64, 3  # images, rounds
TENSORRT = "TensorRT:trt_fp16_enable=True:trt_engine_cache_enable=True:trt_engine_cache_path={cache},CUDA"
OPTIONS = {
    "CUDA": ("CUDA", ("fp32", "fp16")),
    "TensorRT": (TENSORRT, ("fp32",)),
    "CPU": ("CPU", ("fp32",)),
}
"""Name -> `providers` of a contender, and the precisions of its graph; TensorRT rounds a float32 graph itself."""


def batch_sizes(text: str) -> list[int]:
    """The type of --batches."""
    return [positive(part) for part in text.split(",")]


def graph_of(measured: Subject, work: Path, batch: int, provider: str, precision: str) -> Path:
    """A graph of one size and batch; attention is one node where the provider has it."""
    fused = provider != "TensorRT"
    file = work / f"{provider}-{precision}-{batch}.onnx"
    options = ExportOptions(shape_hw=SHAPE_HW, mask=False, batch=batch, precision=precision, fused_attention=fused)
    write_onnx(file, *read_model(measured.model), options)
    return file


def our_options(measured: Subject, work: Path, batch: int, names: list[str], threads: int) -> dict[str, dict[str, Any]]:
    """The options of our contenders by key."""
    work.mkdir(parents=True, exist_ok=True)
    pixels = work / f"pixels-{batch}.npy"
    np.save(pixels, np.repeat(np.load(measured.pixels), batch, axis=0))
    return {
        f"{name}-{precision}": {
            "model": str(graph_of(measured, work, batch, name, precision)),
            "engine": "onnxruntime",
            "providers": OPTIONS[name][0].format(cache=work / "tensorrt"),
            "pixels": str(pixels),
            "threads": threads,
        }
        for name in names
        for precision in OPTIONS[name][1]
    }


def peers(measured: Subject, ours: dict[str, dict[str, Any]], python: str | None, device: str) -> list[Entry]:
    """The torch model in turns with ours."""
    if python is None:
        return []
    options = {**next(iter(ours.values())), "model": str(measured.model), "device": device}
    return [
        Entry(f"torch-{mode}", title, baseline_command(python, f"{mode}-device", options))
        for mode, title in (("eager", EAGER), ("torch.compile", "transformers, torch.compile"))
    ]


def title_of(key: str) -> str:
    """Of our contender with this key."""
    return f"ours, {key.replace('-', ', ')}"


def latency_rows(contenders: list[Contender], batch: int) -> Iterator[dict[str, Any]]:
    """A row for each contender: milliseconds an image."""
    seconds = {contender.entry.key: contender.seconds[NETWORK] for contender in contenders}
    for contender in contenders:
        key = contender.entry.key
        yield {
            "key": key,
            "batch": batch,
            "title": contender.entry.title,
            "runs_on": contender.runs_on,
            "versions": contender.versions,
            "image_ms": figures(seconds[key], 1000 / batch),
            "of_eager": ratio(seconds[key], seconds["torch-eager"]) if "torch-eager" in seconds else None,
        }


def agreement(options: dict[str, Any], exact: tuple[Any, Any], pixels: Path) -> dict[str, float]:
    """The largest differences of logits and boxes from float32 in numpy."""
    detector = Detector(options["model"], engine="onnxruntime", providers=parse_providers(options["providers"]))
    logits, boxes = detector.network(np.load(pixels), None)
    return {
        "logits": float(np.abs(logits - exact[0]).max()),
        "logits_std": float(exact[0].std()),
        "boxes": float(np.abs(boxes - exact[1]).max()),
    }


def images_per_s(measured: Subject, name: str, count: int) -> float:
    """Of `Detector.stream` over JPEGs of 640x480, which decodes ahead."""
    providers = parse_providers(OPTIONS[name][0]) if name == "CUDA" else None
    detector = Detector(str(measured.model), engine="onnxruntime", providers=providers)
    list(detector.stream([measured.photograph] * 2))
    start = time.perf_counter()
    list(detector.stream([measured.photograph] * count))
    return round(count / (time.perf_counter() - start), 2)


def card() -> str | None:
    """Name, driver and memory of the GPU, as nvidia-smi prints them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def measure(
    measured: Subject, work: Path, names: list[str], batches: list[int], runs: int, python: str | None, threads: int
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]], dict[str, str]]:
    """Rows of latency, agreement with float32 in numpy, and what did not run and why."""
    exact = Detector(str(measured.model), engine="numpy").network(np.load(measured.pixels), None)
    device = "cpu" if names == ["CPU"] else "cuda"
    rows, agreements, missing = list[dict[str, Any]](), dict[str, dict[str, float]](), dict[str, str]()
    for batch in batches:
        ours = our_options(measured, work / "gpu", batch, names, threads)
        entries = [Entry(key, title_of(key), our_command(NETWORK, options)) for key, options in ours.items()]
        entries += peers(measured, ours, python, device)
        contenders, left_out = run_contenders(entries, environment(work, threads), runs, WARM_UP, show)
        rows += latency_rows(contenders, batch)
        missing |= left_out
        for key, options in ours.items() if batch == 1 else ():
            if title_of(key) not in left_out:
                agreements[key] = agreement(options, exact, measured.pixels)
    return rows, agreements, missing


def main() -> None:
    """Measures and writes the results; a provider that does not start is left out with its reason."""
    shared = ("--work", "--model", "--python-peers", "--threads")
    parser = benchmark_parser("benchmarks.gpu", "A GPU beside PyTorch.", *shared, results="gpu", runs=15)
    parser.add_argument("--batches", type=batch_sizes, default=BATCHES, metavar="N,…", help="(default: %(default)s)")
    parser.add_argument(
        "--providers", type=listed(*OPTIONS), default=PROVIDERS, metavar="NAME,…", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--streamed", type=positive, default=STREAMED, metavar="N", help="images (default: %(default)s)"
    )
    arguments = parse_arguments(parser, "batches", "providers")
    head = setting("python -m benchmarks.gpu", sys.argv[1:])
    measured = subject(arguments.work, arguments.model)
    names, python = arguments.providers, arguments.python_peers
    rows, agreements, missing = measure(
        measured, arguments.work, names, arguments.batches, arguments.runs, python, arguments.threads
    )
    running = {key.split("-")[0] for key in agreements} - {"TensorRT"}  # builds an engine for each size
    results = {
        **head,
        "model": measured.title,
        "card": card(),
        "threads": arguments.threads,
        "runs": arguments.runs,
        "rows": rows,
        "agreement": agreements,
        "stream_images_per_s": {name: images_per_s(measured, name, arguments.streamed) for name in sorted(running)},
        "left_out": absent(missing),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
