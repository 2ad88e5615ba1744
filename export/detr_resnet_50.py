"""Converts facebook/detr-resnet-50 to ONNX with our own exporter: no torch, no tracing.

    python export/detr_resnet_50.py [-o detr-resnet-50.onnx] [--model DIR]

`detr-onnx export` has all the options of the exporter: precisions, fixed shapes, end-to-end graphs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to run from a checkout
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.hub import fetch
from detr_onnx.models.metadata import read_model


def main() -> None:
    """Downloads the checkpoint, if no directory is given, and writes the graph."""
    parser = argparse.ArgumentParser(description="Converts facebook/detr-resnet-50 to ONNX.")
    parser.add_argument("-o", "--output", type=Path, default=Path("detr-resnet-50.onnx"), metavar="FILE")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a local checkpoint instead of the hub's")
    arguments = parser.parse_args()
    checkpoint, preprocessing = read_model(arguments.model or fetch("facebook/detr-resnet-50"))
    write_onnx(arguments.output, checkpoint, preprocessing, ExportOptions())
    print(arguments.output)


if __name__ == "__main__":
    main()
