"""`detr-onnx agree`: how far the detections of two models, engines or precisions agree."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from detr_onnx.arguments import check_threshold
from detr_onnx.cli.console import print_result, progress_bar
from detr_onnx.cli.options import (
    add_batch,
    add_engine_options,
    add_model,
    add_source_options,
    add_threshold,
    check_batch,
    open_detector,
)
from detr_onnx.errors import UsageError
from detr_onnx.image.files import find_images

HELP = "measure how far two models, engines or precisions agree"
USAGE = "%(prog)s [options] --images DIR --reference MODEL"


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help="images to compare on; they need no annotations")
    add("--reference", required=True, metavar="MODEL", help="the model to compare with; its detections count as right")
    add("--reference-engine", metavar="ENGINE", help="engine of the reference (default: --engine)")
    add("--reference-precision", metavar="P", help="precision of the reference (default: its engine's best)")
    add_threshold(parser)
    add_batch(parser)
    add("--format", choices=("table", "json"), default="table", help="default: table")
    add_model(parser)
    add_engine_options(parser)
    add_source_options(parser)


def run(arguments: Namespace) -> int:
    from detr_onnx.evaluation.agreement import agreement
    from detr_onnx.evaluation.report import format_agreement, format_json

    check_threshold(arguments.threshold)
    check_batch(arguments.batch)
    images, errors = find_images([arguments.images])
    if errors:
        raise errors[0]
    paths = [image.path for image in images if image.path is not None]
    if not paths:
        raise UsageError("two models cannot be compared on stdin", remedy="give --images a file or a directory")
    reference = open_detector(reference_options(arguments))
    model = open_detector(arguments)  # both before the first image: one that cannot be opened costs no time
    expected, detections = (
        detector.batch(progress_bar(paths), arguments.threshold, batch_size=arguments.batch)
        for detector in (reference, model)
    )
    subject = {
        "model": arguments.model,
        "engine": model.runtime,
        "reference": arguments.reference,
        "reference_engine": reference.runtime,
        "threshold": arguments.threshold,
    }
    figures = agreement(zip(expected, detections, strict=True))
    print_result(format_json(subject, figures) if arguments.format == "json" else format_agreement(subject, figures))
    return 0


def reference_options(arguments: Namespace) -> Namespace:
    """The options for the reference; what fits only one model or engine is not passed on to another."""
    engine = arguments.reference_engine or arguments.engine
    same_model, same_engine = arguments.reference == arguments.model, engine == arguments.engine
    return Namespace(
        **vars(arguments)
        | {"model": arguments.reference, "engine": engine, "precision": arguments.reference_precision}
        | ({} if same_model else {"config": None})
        | ({} if same_engine else {"providers": None, "threads": None})
    )
