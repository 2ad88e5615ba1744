"""`detr-onnx collect`: the parts of a job as one file, or as the labels that other tools import."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from detr_onnx.cli.options import add_verbose

HELP = "put the rows of detect -o together, or convert them to labels"
USAGE = "%(prog)s [options] DIR -o FILE"
FORMATS = ("ndjson", "parquet", "csv", "coco", "label-studio", "yolo", "voc")


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("directory", metavar="DIR", help="the -o of detr-onnx detect")
    add("-o", "--output", required=True, metavar="FILE", help="the file to write; for yolo and voc a new directory")
    add(
        "--as", dest="form", choices=FORMATS,
        help="default: by the suffix, of which .json is a COCO dataset (FiftyOne, CVAT and supervision import it)",
    )  # fmt: skip
    add("--relative-to", metavar="DIR", help="in labels, paths of images are relative to this directory")
    add("--prefix", default="", metavar="TEXT", help="in labels, put before the paths of images, such as a URL")
    add("--partial", action="store_true", help="collect what is there although rows are missing")
    add_verbose(parser)


def run(arguments: Namespace) -> int:
    from detr_onnx.jobs.collect import collect
    from detr_onnx.jobs.file_formats import ImageNames

    names = ImageNames(arguments.relative_to, arguments.prefix)
    output = Path(arguments.output)
    collect(Path(arguments.directory), output, arguments.form, names, partial=arguments.partial)
    return 0
