"""Optimum's own ONNX export of a checkpoint, the one that ours is measured beside.

    python -m export.optimum_export MODEL_DIR -o DIR

It runs in an environment with optimum-onnx, which wants an older transformers (`benchmarks/peers.sh` sets one up), and
writes `DIR/dynamic/model.onnx` and `DIR/static/model.onnx`. Both are then run by ONNX Runtime beside our numpy model on
the same inputs; a JSON summary with the differences goes to stdout.
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

from detr_onnx.cache import sha256_of
from detr_onnx.checkpoint.files import weights_file
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.engines import Network
from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from tests.parity.seeded import seeded_pixels

Array = NDArray[np.float32]

STATIC_HW = (800, 1066)  # what an image of 480x640 is scaled to
OTHER_HW = (480, 640)
SEED = 7
SOURCE = "source.sha256"  # beside the files: of the weights they were made of
VERSIONS = ("optimum", "optimum-onnx", "transformers", "torch", "onnxruntime", "onnx", "numpy")


def export_both(checkpoint: Path, directory: Path, static_hw: tuple[int, int] = STATIC_HW) -> dict[str, Path]:
    """The two files by name: "dynamic", with the axes that optimum frees by itself, and "static", of one size."""
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
    """How many tensors transformers misses in the checkpoint, and how many it does not know: both should be 0."""
    from transformers import DetrForObjectDetection

    _, told = DetrForObjectDetection.from_pretrained(checkpoint, output_loading_info=True)
    return {key: len(told[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}


def differences(network: Network, ours: Network, pixels: Array) -> dict[str, float]:
    """Largest difference of the logits, in their standard deviations, and of the boxes, which lie in 0..1."""
    theirs_logits, theirs_boxes = network(pixels, None)
    logits, boxes = ours(pixels, None)
    return {
        "logits_of_std": float(np.abs(theirs_logits - logits).max() / logits.std()),
        "boxes": float(np.abs(theirs_boxes - boxes).max()),
    }


def summary(checkpoint: Path, files: dict[str, Path]) -> dict[str, Any]:
    """Versions, tensors that did not fit, and each file's difference from our numpy model at one or two sizes."""
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
    """Exports, verifies, notes what it was made of, prints."""
    parser = argparse.ArgumentParser(prog="python -m export.optimum_export", description="Optimum's export of a DETR.")
    parser.add_argument("checkpoint", type=Path, metavar="MODEL_DIR", help="a directory in Hugging Face's layout")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    with redirect_stdout(sys.stderr):  # exporters are talkative, and stdout is for the summary
        told = summary(arguments.checkpoint, export_both(arguments.checkpoint, arguments.output))
    (arguments.output / SOURCE).write_text(sha256_of(weights_file(arguments.checkpoint)))
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
