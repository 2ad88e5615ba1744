"""Quantizes an .onnx file to int8 with NNCF, for comparison with our own int8 export.

    python -m export.nncf_quantize FILE.onnx --images DIR -o FILE.onnx|FILE.xml

It needs an environment with nncf, openvino, onnx and onnxruntime (`export.compare_int8` says how to make one). The
suffix of the output chooses what NNCF works on: ONNX's graph, or OpenVINO's. Settings are NNCF's defaults, but for the
number of images and the kind of model, `TRANSFORMER`, which its documentation advises for attention. The time and the
versions go to stdout.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import run_main
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.files import find_images
from detr_onnx.image.preprocess import batch
from detr_onnx.image.processor_config import Preprocessing

VERSIONS = ("nncf", "openvino", "onnx", "onnxruntime", "numpy")


def main() -> None:
    """Quantizes and prints `seconds` and `versions` as JSON."""
    parser = argparse.ArgumentParser(prog="python -m export.nncf_quantize", description="Quantizes with NNCF.")
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="of `detr-onnx export --no-mask`")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="to calibrate with")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".onnx or .xml")
    arguments = parser.parse_args()
    start = time.perf_counter()
    with redirect_stdout(sys.stderr):  # NNCF prints its progress
        quantize(arguments.file, image_files(arguments.images), arguments.output)
    versions = {name: importlib.metadata.version(name) for name in VERSIONS}
    print(json.dumps({"seconds": round(time.perf_counter() - start, 1), "versions": versions}))


def image_files(directory: Path) -> list[Path]:
    """The images of a directory.

    Raises:
        ImageError: there are none.
    """
    images, errors = find_images([str(directory)])
    if errors:
        raise errors[0]
    return [image.path for image in images if image.path is not None]


def quantize(file: Path, images: list[Path], output: Path) -> None:
    """Writes the quantized model."""
    import nncf
    import onnx
    import openvino

    metadata = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    preprocessing = Preprocessing.from_json(json.loads(metadata["detr_onnx.preprocessing"]), str(file))

    def feeds(path: Path) -> dict[str, NDArray[Any]]:
        return {"pixel_values": np.asarray(batch([read_rgb(path)], preprocessing)[0])}

    as_onnx = output.suffix == ".onnx"
    model = onnx.load(file) if as_onnx else openvino.Core().read_model(file)
    quantized = nncf.quantize(
        model, nncf.Dataset(images, feeds), subset_size=len(images), model_type=nncf.ModelType.TRANSFORMER
    )
    if as_onnx:
        onnx.save(quantized, output)
    else:
        openvino.save_model(quantized, output)


if __name__ == "__main__":
    run_main(main)
