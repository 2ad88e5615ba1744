"""`detr-onnx convert`: a pickled PyTorch checkpoint as a directory with model.safetensors."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from detr_onnx.cli.console import print_result
from detr_onnx.cli.options import add_verbose
from detr_onnx.cli.results import check_is_not_stdout

HELP = "convert a PyTorch .pth or .bin checkpoint to safetensors (needs torch)"
USAGE = "%(prog)s [options] FILE -o DIR"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a .pth file, or Hugging Face's pytorch_model.bin")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="directory to write into")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the model's config.json, copied beside the weights; needed for DC5"
    )
    add_verbose(parser)


def run(arguments: Namespace) -> int:
    """Prints the directory that the model can be loaded from."""
    from detr_onnx.checkpoint.convert_pth import convert

    check_is_not_stdout(arguments.output, "-o")
    print_result(f"{convert(arguments.file, arguments.output, arguments.config)}\n")
    return 0
