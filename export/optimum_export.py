"""Exports a checkpoint with optimum, for comparison with our own export.

    python -m export.optimum_export MODEL_DIR -o DIR

It needs an environment with optimum-onnx, which requires an older transformers (`benchmarks/peers.sh` creates one),
and writes `DIR/dynamic/model.onnx` and `DIR/static/model.onnx`. ONNX Runtime then runs both on the same inputs as our
numpy model; a JSON summary with the differences goes to stdout. Of a panoptic checkpoint only the first is written, as
tracing at full size takes 13 GB; `export.compare_panoptic` compares it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import run_main
from detr_onnx.cache import sha256_of
from detr_onnx.checkpoint.files import weights_file
from detr_onnx.checkpoint.load import load_checkpoint, read_config
from detr_onnx.engines import Network
from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from tests.parity.seeded import seeded_pixels

Array = NDArray[np.float32]

STATIC_HW = (800, 1066)  # the size rule for an image of 480x640
OTHER_HW = (480, 640)
SEED = 7
SOURCE = "source.sha256"  # the file that records the sha256 of the weights
VERSIONS = ("optimum", "optimum-onnx", "transformers", "torch", "onnxruntime", "onnx", "numpy")


def export_panoptic(checkpoint: Path, directory: Path) -> dict[str, Path]:
    """The file "dynamic", with the free axes of optimum's default."""
    from optimum.exporters.onnx import main_export

    main_export(str(checkpoint), directory / "dynamic", task="image-segmentation", do_validation=False)
    return {"dynamic": directory / "dynamic" / "model.onnx"}


def export_both(checkpoint: Path, directory: Path, static_hw: tuple[int, int] = STATIC_HW) -> dict[str, Path]:
    """The two files by name: "dynamic", with the free axes of optimum's default, and "static", with one size."""
    from optimum.exporters.onnx import main_export

    height, width = static_hw
    shapes: dict[str, dict[str, Any]] = {
        "dynamic": {},
        "static": {"no_dynamic_axes": True, "batch_size": 1, "height": height, "width": width},
    }
    for name, options in shapes.items():
        main_export(str(checkpoint), directory / name, task="object-detection", do_validation=False, **options)
    return {name: directory / name / "model.onnx" for name in shapes}


def loading(checkpoint: Path) -> dict[str, int]:
    """Numbers of missing, unexpected and mismatched tensors when transformers loads the checkpoint; all should be 0."""
    from transformers import DetrForObjectDetection

    _, loading_info = DetrForObjectDetection.from_pretrained(checkpoint, output_loading_info=True)
    return {key: len(loading_info[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}


def differences(network: Network, ours: Network, pixels: Array) -> dict[str, float]:
    """Largest difference of the logits, in their standard deviations, and of the boxes, in 0..1."""
    theirs_logits, theirs_boxes = network(pixels, None)
    logits, boxes = ours(pixels, None)
    return {
        "logits_of_std": float(np.abs(theirs_logits - logits).max() / logits.std()),
        "boxes": float(np.abs(theirs_boxes - boxes).max()),
    }


def summary(checkpoint: Path, files: dict[str, Path]) -> dict[str, Any]:
    """Versions, tensors that did not load, and each file's differences from our numpy model at one or two sizes."""
    ours = numpy_engine(load_checkpoint(checkpoint)).network
    sizes = {"dynamic": (STATIC_HW, OTHER_HW), "static": (STATIC_HW,)}
    return {
        "versions": {package: importlib.metadata.version(package) for package in VERSIONS},
        "loading": loading(checkpoint),
        "against_numpy": {
            f"{name} {height}x{width}": differences(
                onnxruntime_engine(file).network, ours, seeded_pixels(SEED, 1, 3, height, width)
            )
            for name, file in files.items()
            for height, width in sizes[name]
        },
    }


def main() -> None:
    """Exports, verifies, records the source, prints the summary."""
    parser = argparse.ArgumentParser(prog="python -m export.optimum_export", description="Exports a DETR with optimum.")
    parser.add_argument("checkpoint", type=Path, metavar="MODEL_DIR", help="a directory in Hugging Face's layout")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="for the two exports")
    arguments = parser.parse_args()
    with redirect_stdout(sys.stderr):  # exporters print; stdout is for the summary
        if read_config(arguments.checkpoint).masks:
            export_panoptic(arguments.checkpoint, arguments.output)
            content: dict[str, Any] = {"versions": {name: importlib.metadata.version(name) for name in VERSIONS}}
        else:
            content = summary(arguments.checkpoint, export_both(arguments.checkpoint, arguments.output))
    (arguments.output / SOURCE).write_text(sha256_of(weights_file(arguments.checkpoint)))
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    run_main(main)
