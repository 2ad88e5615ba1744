"""`detr-onnx verify`: whether a model is what it should be, and every engine here computes the same."""

from __future__ import annotations

import itertools
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.cli.console import live_line, progress_bar
from detr_onnx.cli.options import add_source_options, add_verbose
from detr_onnx.cli.results import check_destination, write_results
from detr_onnx.defaults import DEFAULT_MODEL
from detr_onnx.text import printable

if TYPE_CHECKING:
    from detr_onnx.verify.checks import Notice

HELP = "check a model's files, its published outputs, and that every engine computes the same"
USAGE = "%(prog)s [options] [MODEL]"


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("model", nargs="?", default=DEFAULT_MODEL, metavar="MODEL", help="as for detect --model (default: %(default)s)")
    add("--reference", metavar="MODEL", help="the checkpoint that MODEL, a graph file, was written from")
    add("--published", metavar="NAME", help="the official model that MODEL should be, such as facebook/detr-resnet-101")
    add("--golden-image", type=Path, metavar="FILE",
        help="000000039769.png, the image of the published outputs (default: $DETR_ONNX_GOLDEN_IMAGE)")  # fmt: skip
    add("--coco", type=Path, metavar="DIR", help="COCO's val2017: DIR/annotations and DIR/val2017; adds AP")
    add("--json", type=Path, metavar="FILE",
        help="write the report for a bug report (- for stdout); it contains no directories")  # fmt: skip
    add_source_options(parser)
    add_verbose(parser)


def run(arguments: Namespace) -> int:
    from detr_onnx.verify.report import table
    from detr_onnx.verify.run import Request, verify

    models = (arguments.model, arguments.reference)
    check_destination(arguments.json, "--json", models, arguments.golden_image, arguments.config, or_stdout=True)
    request = Request(
        arguments.model,
        arguments.published,
        arguments.reference,
        arguments.golden_image,
        arguments.coco,
        arguments.config,
        arguments.offline,
        arguments.cache_dir,
    )
    with notices() as notice:
        report = verify(request, notice, progress_bar)
    write_results(table(report), {arguments.json: report.json} if arguments.json is not None else {})
    return 1 if report.failed else 0


@contextmanager
def notices() -> Iterator[Notice]:
    """A function that keeps one line on a terminal current: the step, its name and the time so far."""
    start, numbers = time.monotonic(), itertools.count(1)
    with live_line(sys.stderr.isatty()) as line:
        yield lambda name: line(f"step {next(numbers)}  {time.monotonic() - start:.0f} s  {printable(name)}")
