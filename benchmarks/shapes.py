"""Every size of feature map: does each engine and precision agree with ONNX Runtime in float32?

    python -m benchmarks.shapes [--cells 64] [--stride-sample 1] [--only openvino-bf16,openvino-int8]

A small model runs images of all sizes from one cell to `--cells` cells a side, twice each. A size fails if outputs are
not finite, differ between the two runs, or differ from ONNX Runtime's in float32 by more than the precision's bound.
Engines may have wrong kernels for rare shapes, as OpenVINO has for narrow ones in bfloat16.

The model has seeded weights; in int8 it is the demo model, since seeded weights amplify int8's rounding errors until
they are as large as those of a wrong kernel. A size at which both engines differ alike in int8 shows the effect of
quantization, not a wrong kernel.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.command import absent, benchmark_parser, only_some, parse_arguments, positive, run_main, write_results
from detr_onnx.bench.setting import setting
from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.engines import Engine, Network
from detr_onnx.engines.bfloat16 import BF16_BACKBONE, BF16_MIXED
from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from detr_onnx.engines.openvino import openvino_engine
from detr_onnx.errors import DetrError
from detr_onnx.exporter.calibrate import find_quant_params
from detr_onnx.exporter.observation import Model
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import demo_directory
from tests.parity.seeded import CONFIGS, seeded_pixels, seeded_tensors

Floats = NDArray[np.float32]
Outputs = tuple[Floats, Floats]

SEEDED, SEED = "small", 1
CELLS = 64
ALWAYS = 4  # cells: sizes up to here are run whatever the stride, since narrow maps are the likely failures
CALIBRATION_HW = ((160, 224), (96, 320))
FP32 = {"largest": 1e-3, "mean": 1e-4}
BF16 = {"mean": 0.1}
INT8 = {"mean": 0.4}  # outputs that have nothing to do with the reference differ by about 1
PROGRESS_EVERY = 50


@dataclass(frozen=True)
class Subject:
    """A model: its name, pixels a cell, and ONNX Runtime's float32 network."""

    name: str
    stride: int
    reference: Network


@dataclass(frozen=True)
class Contender:
    """An engine in one precision.

    Attributes:
        key: of its row.
        subject: the model that it runs.
        open: starts it, or raises DetrError with the reason why it cannot run here.
        bounds: on the `difference` from the reference.
    """

    key: str
    subject: Subject
    open: Callable[[], Engine]
    bounds: dict[str, float]


def contenders(work: Path, threads: int) -> list[Contender]:
    """All of them; writes their graphs."""
    seeded = Checkpoint(CONFIGS[SEEDED], seeded_tensors(CONFIGS[SEEDED], SEED)), Preprocessing(resize=False)
    demo = read_model(demo_directory())[0], Preprocessing(resize=False)
    ranges = find_quant_params(demo, calibration_images(work), "minmax")

    def graph(model: Model, name: str, options: ExportOptions) -> Path:
        write_onnx(work / f"{name}.onnx", *model, options)
        return work / f"{name}.onnx"

    int8 = ExportOptions(precision="int8", quant_params=ranges)
    plain, plain_int8 = graph(seeded, "plain", ExportOptions()), graph(demo, "plain-int8", int8)
    fused = graph(seeded, "fused", ExportOptions(fused_attention=True))
    fused_int8 = graph(demo, "fused-int8", replace(int8, fused_attention=True))
    fused_demo = graph(demo, "fused-demo", ExportOptions(fused_attention=True))
    small, trained = (
        Subject(name, model[0].config.backbone.stride, onnxruntime_engine(path, threads=threads).network)
        for name, model, path in (("seeded", seeded, fused), ("demo", demo, fused_demo))
    )
    return [
        Contender("onnxruntime-fp32", small, lambda: onnxruntime_engine(fused, threads=threads), FP32),
        Contender("numpy-fp32", small, lambda: numpy_engine(seeded[0]), FP32),
        Contender("onnxruntime-int8", trained, lambda: onnxruntime_engine(fused_int8, threads=threads), INT8),
        Contender("openvino-fp32", small, lambda: openvino_engine(plain, "fp32", threads), FP32),
        Contender("openvino-bf16-mixed", small, lambda: openvino_engine(plain, BF16_MIXED, threads), BF16),
        Contender("openvino-bf16-backbone", small, lambda: openvino_engine(plain, BF16_BACKBONE, threads), BF16),
        Contender("openvino-bf16", small, lambda: openvino_engine(plain, "bf16", threads), BF16),
        Contender("openvino-int8", trained, lambda: openvino_engine(plain_int8, "fp32", threads), INT8),
        Contender("openvino-int8-bf16", trained, lambda: openvino_engine(plain_int8, "bf16", threads), INT8),
    ]


def calibration_images(work: Path) -> list[Path]:
    """Images with about the values of the pixels that the networks are run on."""
    paths = []
    for number, size_hw in enumerate(CALIBRATION_HW):
        pixels = seeded_pixels(number, 3, *size_hw).transpose(1, 2, 0)
        mean, std = np.array(Preprocessing().mean), np.array(Preprocessing().std)
        paths.append(work / f"calibration-{number}.png")
        Image.fromarray(((pixels * std + mean) * 255).clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def sides(cells: int, stride: int) -> list[int]:
    """Heights and widths in cells: the smallest, every `stride`-th, and the largest."""
    return sorted({*range(1, min(ALWAYS, cells) + 1), *range(1, cells + 1, stride), cells})


def pixels_of(cells_hw: tuple[int, int], stride: int) -> Floats:
    """[1,3,H,W] for a feature map of this size; the image ends within its last cells, as most do."""
    height, width = (count * stride - (7 * count) % stride for count in cells_hw)
    return seeded_pixels(sum(cells_hw), 1, 3, height, width)


def difference(expected: Outputs, found: Outputs) -> dict[str, float]:
    """The largest and the mean difference, in standard deviations of logits or boxes, whichever is larger."""
    errors = [np.abs(other - reference) / reference.std() for reference, other in zip(expected, found, strict=True)]
    largest, mean = (float(np.max([measure(error) for error in errors])) for measure in (np.max, np.mean))  # or NaN
    return {"largest": largest, "mean": mean}


def problem(bounds: dict[str, float], expected: Outputs, first: Outputs, second: Outputs) -> str | None:
    """What is wrong with the outputs of two runs; None if nothing is."""
    if not all(np.isfinite(values).all() for values in (*first, *second)):
        return "not finite"
    if not all(np.array_equal(*pair) for pair in zip(first, second, strict=True)):
        return "differs between two runs"
    measured = difference(expected, first)
    return "differs from the reference" if any(measured[name] > bounds[name] for name in bounds) else None


def examine(contender: Contender, network: Network, grid: list[tuple[int, int]]) -> dict[str, Any]:
    """A contender's row: how many sizes it ran, the worst differences, and the sizes that fail."""
    failures, worst = [], {"largest": 0.0, "mean": 0.0}
    for number, cells_hw in enumerate(grid, start=1):
        pixels = pixels_of(cells_hw, contender.subject.stride)
        expected, first, second = (run(pixels, None) for run in (contender.subject.reference, network, network))
        measured = difference(expected, first)
        worst = {name: float(np.maximum(value, worst[name])) for name, value in measured.items()}  # NaN stays
        wrong = problem(contender.bounds, expected, first, second)
        if wrong:
            size = {"cells_hw": list(cells_hw), "pixels_hw": list(pixels.shape[2:])}
            failures.append({**size, "problem": wrong, **rounded(measured)})
        if number % PROGRESS_EVERY == 0:
            print(f"{contender.key}: {number}/{len(grid)} sizes, {len(failures)} fail", file=sys.stderr)
    return {"sizes": len(grid), "worst": rounded(worst), "failures": failures}


def rounded(figures: dict[str, float]) -> dict[str, float | None]:
    """To two digits; None for what JSON has no number for."""
    return {name: float(f"{value:.2g}") if np.isfinite(value) else None for name, value in figures.items()}


def rows(every: list[Contender], grid: list[tuple[int, int]], left_out: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The contenders' rows; those that cannot run here are added to `left_out` with the reason."""
    for contender in every:
        try:
            engine = contender.open()
        except DetrError as error:
            left_out[contender.key] = str(error)
            continue
        about = {"title": engine.title, "model": contender.subject.name, "bounds": contender.bounds}
        yield {"key": contender.key, **about, **examine(contender, engine.network, grid)}


def main() -> None:
    """Runs every contender and writes the results."""
    parser = benchmark_parser(
        "benchmarks.shapes", "Every size of feature map.", "--work", "--threads", "--only", results="shapes"
    )
    parser.add_argument(
        "--cells", type=positive, default=CELLS, metavar="N", help="largest side (default: %(default)s)"
    )
    help_text = "run every N-th side beyond the smallest (default: %(default)s)"
    parser.add_argument("--stride-sample", type=positive, default=1, metavar="N", help=help_text)
    arguments = parse_arguments(parser, "only")
    circumstances = setting("python -m benchmarks.shapes", sys.argv[1:])
    work = arguments.work / "shapes"
    work.mkdir(parents=True, exist_ok=True)
    every = only_some(parser, arguments.only, contenders(work, arguments.threads))
    axis, left_out = sides(arguments.cells, arguments.stride_sample), dict[str, str]()
    done = list(rows(every, list(itertools.product(axis, axis)), left_out))
    results = {
        **circumstances,
        "threads": arguments.threads,
        "cells": arguments.cells,
        "sides": axis,
        "left_out": absent(left_out),
        "rows": done,
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
