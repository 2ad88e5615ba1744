"""`detr-onnx evaluate`: COCO's figures of a model on annotated images, or of a results file."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.cli import evaluate_panoptic
from detr_onnx.cli.console import check_keeps_inputs, print_result, progress_bar, write_file
from detr_onnx.cli.options import (
    add_batch,
    add_engine_options,
    add_model,
    add_source_options,
    check_batch,
    given_options,
    open_detector,
)
from detr_onnx.cli.results import check_destination, failure_of
from detr_onnx.errors import UsageError

if TYPE_CHECKING:
    from detr_onnx.evaluation.coco import Annotations, Row

HELP = "compute COCO's AP figures, or PQ, of a model on annotated images"
USAGE = """%(prog)s [options] --images DIR --annotations FILE
       %(prog)s [options] --results FILE --annotations FILE
       %(prog)s [options] --panoptic (--images DIR | --results FILE) --annotations FILE [--masks DIR]"""

SAVE_RESULTS = "--save-results"


def add_arguments(parser: ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="DIR", help="directory of the annotated images")
    source.add_argument(
        "--results", type=Path, metavar="FILE", help="evaluate a COCO results file instead of running a model"
    )
    parser.add_argument("--annotations", type=Path, required=True, metavar="FILE", help="COCO annotation file")
    add_batch(parser)
    parser.add_argument(SAVE_RESULTS, type=Path, metavar="FILE", help="write all detections as a COCO results file")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    evaluate_panoptic.add_arguments(parser)
    add_model(parser)
    add_engine_options(parser)
    add_source_options(parser)


def run(arguments: Namespace) -> int:
    from detr_onnx.evaluation.average_precision import evaluate, import_pycocotools
    from detr_onnx.evaluation.coco import read_annotations
    from detr_onnx.evaluation.report import format_evaluation, format_json

    check_batch(arguments.batch)
    check_results(arguments)
    if evaluate_panoptic.is_panoptic(arguments):
        return evaluate_panoptic.run(arguments)
    inputs = (arguments.annotations, arguments.results, arguments.config)
    check_destination(arguments.save_results, SAVE_RESULTS, [arguments.model], *inputs)
    import_pycocotools()
    annotations = read_annotations(arguments.annotations)
    subject, rows = detect_or_read(arguments, annotations)
    save = arguments.save_results
    not_saved = None if save is None else failure_of(lambda: write_file(save, json.dumps(rows)))
    figures = evaluate(annotations, rows)
    print_result(format_json(subject, figures) if arguments.format == "json" else format_evaluation(subject, figures))
    if not_saved is not None:
        raise not_saved
    return 0


def check_results(arguments: Namespace) -> None:
    """Raises UsageError for options of the model with --results, which runs none."""
    if arguments.results is not None:
        groups = (add_model, add_engine_options, add_source_options, add_batch)
        unused = given_options(arguments, *groups) + (["--threshold"] if arguments.threshold is not None else [])
        if unused:
            remedy = "leave the options of a model out, or give --images in place of --results"
            raise UsageError("--results runs no model", found=" and ".join(unused), remedy=remedy)


def detect_or_read(arguments: Namespace, annotations: Annotations) -> tuple[dict[str, str], list[Row]]:
    """What is evaluated, for the report, and its COCO results: read from a file, or detected now."""
    from detr_onnx.evaluation.average_precision import detect_rows
    from detr_onnx.evaluation.coco import read_results

    if arguments.results is not None:
        return {"results": str(arguments.results)}, read_results(arguments.results, annotations)
    images = annotations.images(arguments.images)
    if arguments.save_results is not None:
        check_keeps_inputs(arguments.save_results, SAVE_RESULTS, *images.values())
    detector = open_detector(arguments)
    rows = detect_rows(detector, annotations, images, batch_size=arguments.batch, progress=progress_bar)
    return {"model": arguments.model, "engine": detector.runtime}, rows
