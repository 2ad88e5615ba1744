"""`detr-onnx collect`: the parts of a job as one file, or as the labels that other tools import."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from detr_onnx.cli.options import add_verbose
from detr_onnx.cli.results import check_is_not_stdout

HELP = "merge the rows of detect -o into one file, or convert them to labels"
USAGE = "%(prog)s [options] DIR -o FILE"
FORMATS = ("ndjson", "parquet", "csv", "coco", "label-studio", "yolo", "voc")


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("directory", metavar="DIR", help="the directory that detect -o wrote")
    add("-o", "--output", required=True, metavar="FILE", help="the file to write; for yolo and voc a new directory")
    add(
        "--as", dest="form", choices=FORMATS,
        help="default: by the suffix; .json is a COCO dataset, which FiftyOne, CVAT and supervision import",
    )  # fmt: skip
    add("--relative-to", metavar="DIR", help="make image paths in labels relative to this directory")
    add("--prefix", default="", metavar="TEXT", help="put this before image paths in labels, such as a URL")
    add("--partial", action="store_true", help="collect even if rows are missing")
    add_verbose(parser)


def run(arguments: Namespace) -> int:
    from detr_onnx.jobs.collect import collect
    from detr_onnx.jobs.file_formats import ImageNames

    output = Path(arguments.output)
    check_is_not_stdout(output, "-o")
    names = ImageNames(arguments.relative_to, arguments.prefix)
    collect(Path(arguments.directory), output, arguments.form, names, partial=arguments.partial)
    return 0
